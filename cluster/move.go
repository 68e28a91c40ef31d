package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// moveSlots goes on with the move of every ring that has one, and begins those
// that are due: one replica per slot and step, the next when the step's epoch is
// closed. What is below its quorum is put right at once, all else in batches
// (pace.go), and not while the cluster is in maintenance.
func (n *Node) moveSlots(ctx context.Context, e *engine) error {
	st := n.State()
	n.moving = false
	rings := slices.DeleteFunc(st.Rings(), func(r *Ring) bool { return !st.moves(r) || len(st.Eligible(r)) == 0 })
	if len(rings) == 0 {
		n.metrics.stepsLeft.Set(0)
		return nil
	}
	n.moving = true
	now := time.Now()
	round := &moveRound{
		st: st, now: now, due: n.pace.Due(now) && !st.Settings().GetMaintenance(),
	}
	for _, r := range rings {
		if err := n.moveRing(ctx, e, round, r); err != nil {
			return fmt.Errorf("ring %s: %w", r.Spec.GetName(), err)
		}
	}
	if round.sent {
		n.pace.Sent(now)
	}
	n.metrics.stepsLeft.Set(float64(round.left))
	return nil
}

// batchDue ends when the next batch of slots may go; nil where none is to come.
func (n *Node) batchDue() <-chan time.Time {
	if rest := n.pace.Rest(time.Now()); n.moving && rest > 0 {
		return time.After(rest)
	}
	return nil
}

// moveRound is one look of the leader at all rings.
type moveRound struct {
	st  *State
	now time.Time
	due bool // a batch may go

	left int  // steps to come
	sent bool // a batch went
}

// moveRing does what is next for one ring.
func (n *Node) moveRing(ctx context.Context, e *engine, round *moveRound, r *Ring) error {
	st, target := round.st, n.target(round.st, r)
	if away(r, target) == 0 {
		return n.arrived(ctx, e, st, r)
	}
	round.left += ring.StepsLeft(r.Table, target, r.Quorum())
	if begun, err := n.beginMove(ctx, e, st, r); err != nil || begun {
		return err // the state is another now: the next round goes on
	}
	if r.Spec.GetMove().GetMoved() > 0 {
		n.pace.Resume(round.now)
	}
	due := round.due && n.pace.Due(round.now)
	if !due && !st.isBelowQuorum(r) {
		return nil
	}
	fares := faresOf(st, r, stepsOf(st, r, target, n.mayGain(st)), st.seriesPerSlot(n.healthHere(e)))
	rate := float64(st.Settings().GetMoveSeriesPerSecond())
	steps, batch := n.pace.Choose(fares, rate, due, round.now)
	if len(steps) == 0 {
		return nil
	}
	if err := n.commit(ctx, e, moveCommand(r, steps)); err != nil {
		return err
	}
	round.left, round.sent = round.left-len(steps), round.sent || batch
	n.metrics.steps.Add(float64(len(steps)))
	n.log.Info("slots moved", "ring", r.Spec.GetName(), "slots", len(steps))
	return nil
}

// target is where the ring's slots should go, planned once for each asking, set
// of nodes and number of replicas.
func (n *Node) target(st *State, r *Ring) []ring.Set {
	p, nodes, asked := n.planned.Of(r.Spec.GetId()), st.Eligible(r), r.Spec.GetMove().GetAsked()
	if p.target != nil && p.asked == asked && p.rf == r.RF() && slices.Equal(p.nodes, nodes) {
		return p.target
	}
	p = plan{asked: asked, nodes: nodes, rf: r.RF(), target: ring.Plan(r.Table, nodes, r.RF())}
	n.planned.Set(r.Spec.GetId(), p)
	return p.target
}

// beginMove commits why the ring's slots move, where that is new, and says
// whether it did. One that an operator asked for stays that operator's while
// nodes join.
func (n *Node) beginMove(ctx context.Context, e *engine, st *State, r *Ring) (bool, error) {
	move, begin := r.Spec.GetMove(), st.due(r)
	if begin == nil {
		return false, nil // it was asked for
	}
	if isUnderWay(move) && (move.GetCause() == begin.GetCause() && slices.Equal(move.GetNodes(), begin.GetNodes()) ||
		begin.GetCause() == clusterpb.MoveCause_MOVE_REPAIR ||
		begin.GetCause() == clusterpb.MoveCause_MOVE_JOIN && move.GetCause() == clusterpb.MoveCause_MOVE_REBALANCE) {
		return false, nil
	}
	if err := n.commit(ctx, e, &clusterpb.Command{Change: &clusterpb.Command_BeginMove{BeginMove: begin}}); err != nil {
		return false, fmt.Errorf("begin a move: %w", err)
	}
	return true, nil
}

// arrived commits that the ring's slots are where they should be.
func (n *Node) arrived(ctx context.Context, e *engine, st *State, r *Ring) error {
	members, _ := follows(st, r)
	err := n.commit(ctx, e, &clusterpb.Command{Change: &clusterpb.Command_EndMove{EndMove: &clusterpb.EndMove{
		Ring: r.Spec.GetId(), Asked: r.Spec.GetMove().GetAsked(), Followed: members,
	}}})
	if err != nil {
		return fmt.Errorf("end a move: %w", err)
	}
	if m := r.Spec.GetMove(); isUnderWay(m) {
		n.log.Info("slots are where they should be", "ring", r.Spec.GetName(), "cause", causeText(m), "steps", m.GetMoved(),
			"took", time.Duration(max(time.Now().UnixMilli()-m.GetSinceMs(), 0))*time.Millisecond)
	}
	return nil
}

// faresOf says what each step costs its receiver and how urgent it is. A slot
// costs the largest number of series that one of its holders has in each of its
// own, since nobody counts them by slot.
func faresOf(st *State, r *Ring, steps []ring.Step, price map[ring.Store]float64) []fare {
	fares := make([]fare, 0, len(steps))
	for _, s := range steps {
		old := r.Table.At(s.Slot)
		f := fare{step: s, rank: ordinary}
		for i := range s.Replicas.Len() {
			if to := s.Replicas.At(i); !old.Replicas.Has(to) {
				f.to, f.series = to, costOf(old.Replicas, price)
			}
		}
		switch have := st.alive(old.Replicas); {
		case have < old.Quorum:
			f.rank = belowQuorum
		case have < min(r.RF(), s.Replicas.Len()):
			f.rank = tooFew
		}
		fares = append(fares, f)
	}
	return fares
}

// isBelowQuorum says whether writes to some slot get 503, whoever is there.
func (s *State) isBelowQuorum(r *Ring) bool {
	for i := range r.Table.Slots() {
		if slot := r.Table.At(i); s.alive(slot.Replicas) < slot.Quorum {
			return true
		}
	}
	return false
}

// costOf is how many series a slot with these holders brings to another: at
// least 1, so that slots of an empty cluster are counted, too.
func costOf(holders ring.Set, price map[ring.Store]float64) float64 {
	cost := 1.0
	for i := range holders.Len() {
		cost = max(cost, price[holders.At(i)])
	}
	return cost
}

// seriesPerSlot is how many series each store has in a slot of its own, by what
// the members report. Those of slots that have left stay in its head for a
// while: so the slots count that it had when the moves under way began.
func (s *State) seriesPerSlot(healths []*clusterpb.Health) map[ring.Store]float64 {
	held := map[ring.Store]int{}
	for _, r := range s.Rings() {
		now, then := r.Table.Held(), map[ring.Store]int{}
		if m := r.Spec.GetMove(); m != nil {
			then = r.Table.HeldAt(m.GetSince())
		}
		for _, m := range s.Members() {
			st := storeOf(m.GetStore())
			held[st] += max(now[st], then[st])
		}
	}
	price := map[ring.Store]float64{}
	for _, h := range healths {
		m := s.Member(h.GetReport().GetNode())
		st := storeOf(m.GetStore())
		if m != nil && held[st] > 0 && h.GetLastContactMs() >= 0 {
			price[st] = float64(h.GetReport().GetSeries()) / float64(held[st])
		}
	}
	return price
}

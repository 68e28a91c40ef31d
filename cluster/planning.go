package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// planned is what a leader remembers of its plans. A new leader remembers
// nothing and finds out again.
type planned struct {
	mu      sync.Mutex
	began   time.Time
	rings   map[uint64]plan
	finding string // what the last comparison of states has found

	spoken  uint32 // a newer cluster version that all members speak
	since   time.Time
	checked uint64 // revision of the last check of states
	looked  time.Time
}

// plan is where the slots of one ring are going.
type plan struct {
	nodes  []ring.Node
	rf     int
	target []ring.Set // nil: nothing is under way
	// done is the newest joining or removal that the slots have followed.
	done uint64
}

func newPlanned() *planned { return &planned{began: time.Now(), rings: map[uint64]plan{}} }

// Forget begins a new leadership.
func (p *planned) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = time.Now()
	p.finding = ""
	p.spoken, p.checked, p.looked = 0, 0, time.Now()
	clear(p.rings)
}

// Spoken notes the newer version that all members speak now, 0 for none, and
// says since when.
func (p *planned) Spoken(version uint32, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spoken != version {
		p.spoken, p.since = version, now
	}
	return p.since
}

// CheckDue says whether the states should be checked now: some time after the
// last check, where something has changed since.
func (p *planned) CheckDue(revision uint64, every time.Duration, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if revision <= p.checked || now.Sub(p.looked) < every {
		return false
	}
	p.looked = now
	return true
}

// Checked notes the revision of a check.
func (p *planned) Checked(revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checked = max(p.checked, revision)
}

// Finding keeps what a comparison has found and returns what the one before it
// had.
func (p *planned) Finding(now string) (before string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, p.finding = p.finding, now
	return before
}

// Began is when this leadership began.
func (p *planned) Began() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.began
}

func (p *planned) Of(id uint64) plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rings[id]
}

func (p *planned) Set(id uint64, to plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rings[id] = to
}

// target is where the ring's slots should go by themselves; nil: they stay.
func (n *Node) target(st *State, r *Ring) []ring.Set {
	p := n.planned.Of(r.Spec.GetId())
	nodes := st.Eligible(r)
	if p.target != nil && p.rf == r.RF() && slices.Equal(p.nodes, nodes) {
		return p.target
	}
	underWay := p.target != nil
	if len(nodes) == 0 || !underWay && !isDue(st, r, p.done) {
		return nil
	}
	p.nodes, p.rf = nodes, r.RF()
	p.target = ring.Plan(r.Table, nodes, r.RF())
	n.planned.Set(r.Spec.GetId(), p)
	return p.target
}

// arrived notes that the ring's slots are where they should be.
func (n *Node) arrived(st *State, r *Ring) {
	members, _ := follows(st, r)
	n.planned.Set(r.Spec.GetId(), plan{done: members})
}

// moveSlots commits the next steps of every ring that has some, unpaced: one
// replica per slot, the next when the step's epoch is closed.
func (n *Node) moveSlots(ctx context.Context, e *engine) error {
	st := n.State()
	may := n.mayGain(st)
	for _, r := range st.Rings() {
		target := n.target(st, r)
		if target == nil {
			continue
		}
		if away(r, target) == 0 {
			n.arrived(st, r)
			continue
		}
		steps := stepsOf(st, r, target, may)
		if len(steps) == 0 {
			continue
		}
		if err := n.commit(ctx, e, moveCommand(r, steps)); err != nil {
			return fmt.Errorf("ring %s: %w", r.Spec.GetName(), err)
		}
		n.log.Info("slots moved", "ring", r.Spec.GetName(), "slots", len(steps))
	}
	return nil
}

// stepsOf are the next steps that give no slot to a store that may not gain, and
// take none from a store that is not lost where nobody is there to replace it:
// then the ring has too few nodes, and whoever wants to leave waits.
func stepsOf(st *State, r *Ring, target []ring.Set, may map[ring.Store]bool) []ring.Step {
	steps := ring.NextSteps(r.Table, target, r.Quorum())
	return slices.DeleteFunc(steps, func(s ring.Step) bool {
		old := r.Table.At(s.Slot).Replicas
		if s.Replicas.Len() < min(old.Len(), r.RF()) && !onlyLost(st, old, s.Replicas) {
			return true
		}
		for i := range s.Replicas.Len() {
			if to := s.Replicas.At(i); !old.Has(to) && !may[to] {
				return true
			}
		}
		return false
	})
}

// mayGain are the stores that may be given slots: their nodes were heard a
// moment ago and have announced the revision that made them active.
func (n *Node) mayGain(st *State) map[ring.Store]bool {
	may := map[ring.Store]bool{}
	for _, h := range n.Health() {
		m := st.Member(h.GetReport().GetNode())
		switch r := h.GetReport(); {
		case m == nil || m.GetIncarnation() != r.GetIncarnation():
		case h.GetLastContactMs() < 0 || h.GetLastContactMs() > n.cfg.Timing.Fresh.Milliseconds():
		case r.GetAnnounced() < m.GetActivated():
		case string(st.Store(storeOf(m.GetStore())).GetId()) != string(r.GetStoreId()):
		default:
			may[storeOf(m.GetStore())] = true
		}
	}
	return may
}

func moveCommand(r *Ring, steps []ring.Step) *clusterpb.Command {
	move := &clusterpb.MoveSlots{Ring: r.Spec.GetId(), Steps: make([]*clusterpb.SlotStep, 0, len(steps))}
	for _, s := range steps {
		step := &clusterpb.SlotStep{Slot: uint32(s.Slot), Quorum: uint32(s.Quorum), Base: s.Base}
		for i := range s.Replicas.Len() {
			step.Replicas = append(step.Replicas, uint32(s.Replicas.At(i)))
		}
		move.Steps = append(move.Steps, step)
	}
	return &clusterpb.Command{Change: &clusterpb.Command_MoveSlots{MoveSlots: move}}
}

// closeEnded commits the closing of ended epochs in which no write can begin any
// more, as the announced revisions tell.
func (n *Node) closeEnded(ctx context.Context, e *engine) error {
	st := n.State()
	announced := n.announcements(st)
	for _, r := range st.AllRings() {
		var keys []*clusterpb.EpochKey
		for _, epoch := range r.Table.Open() {
			if epoch.Closable(func(s ring.Store) uint64 { return announced[s] }, st.Lost) {
				keys = append(keys, &clusterpb.EpochKey{Slot: uint32(epoch.Slot), To: epoch.To})
			}
		}
		if len(keys) == 0 {
			continue
		}
		err := n.commit(ctx, e, &clusterpb.Command{Change: &clusterpb.Command_CloseEpochs{
			CloseEpochs: &clusterpb.CloseEpochs{Ring: r.Spec.GetId(), Epochs: keys},
		}})
		if err != nil {
			return fmt.Errorf("ring %s: %w", r.Spec.GetName(), err)
		}
	}
	return nil
}

// announcements are the newest revisions below which stores have no share in
// flight, as far as this leader has heard. What was announced once stays true.
func (n *Node) announcements(st *State) map[ring.Store]uint64 {
	out := map[ring.Store]uint64{}
	for _, m := range st.Members() {
		if c, ok := n.health.OfStore(m, st.Store(storeOf(m.GetStore())).GetId()); ok {
			out[storeOf(m.GetStore())] = c.report.GetAnnounced()
		}
	}
	return out
}

// Rebalance moves a ring's slots to where its node list, weights and zones want
// them, and returns when they are there. It runs on the node that is asked, by
// the same steps as the leader's, and may be repeated after it was cut off.
func (n *Node) Rebalance(ctx context.Context, name string) error {
	var goal plan
	for {
		if _, err := n.Barrier(ctx); err != nil {
			return fmt.Errorf("rebalance ring %s: %w", name, err)
		}
		st := n.State()
		r := st.Ring(name)
		if r == nil {
			return &RefusedError{notFound("there is no ring %s", quote(name))}
		}
		if nodes := st.Eligible(r); goal.target == nil || goal.rf != r.RF() || !slices.Equal(goal.nodes, nodes) {
			goal = plan{nodes: nodes, rf: r.RF(), target: ring.Plan(r.Table, nodes, r.RF())}
		}
		if away(r, goal.target) == 0 {
			return nil
		}
		if err := n.rebalanceStep(ctx, r, stepsOf(st, r, goal.target, n.mayGain(st))); err != nil {
			return fmt.Errorf("rebalance ring %s: %w", name, err)
		}
	}
}

// rebalanceStep proposes steps; where there are none yet, it waits a moment for
// epochs to close and nodes to be heard.
func (n *Node) rebalanceStep(ctx context.Context, r *Ring, steps []ring.Step) error {
	if len(steps) == 0 {
		select {
		case <-time.After(n.cfg.Timing.Round / 4):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-n.ctx.Done():
			return ErrClosed
		}
	}
	answer, err := n.Propose(ctx, moveCommand(r, steps))
	switch kind := answer.GetRefusal().GetKind(); {
	case errors.Is(err, ErrUnknownOutcome):
		return nil // the next look at the table tells
	case err != nil:
		return err
	case kind == clusterpb.Refusal_CONFLICT_VERSION || kind == clusterpb.Refusal_UNSAFE:
		return nil // somebody moved at the same time: plan again
	case answer.GetRefusal() != nil:
		return &RefusedError{answer.GetRefusal()}
	}
	return nil
}

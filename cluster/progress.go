package cluster

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// maintenanceText is why nothing moves, with the next command.
const maintenanceText = "maintenance is on (`muster settings set maintenance=false`)"

// Progress is how far the move of a ring's slots is: it follows from the state
// and from what the leader hears, so that every node tells it.
type Progress struct {
	// Cancelled is set where the slots stay where they are until somebody asks
	// again or the members change.
	Cancelled bool
	// Cause is why they move, in words; Nodes who joined or leaves.
	Cause string
	Nodes []string
	// By is who asked for it; empty: nobody, it began by itself.
	By string
	// Since is the revision at which it began, SinceMs the time, Unix
	// milliseconds; 0 where the leader has not begun it yet.
	Since   uint64
	SinceMs int64
	// Moved and Left are steps, made and to come: one replica of one slot each.
	Moved, Left int
	// Slots counts those that are not where they should be.
	Slots int
	// Gains are the slots that nodes get still, by name.
	Gains []Gain
	// ETA is how long it takes still at the pace that is set; negative: nobody
	// knows, since it waits.
	ETA time.Duration
	// HeldUpBy names who or what it waits for, with since when.
	HeldUpBy []string
	// CancelledMs and CancelledBy are when and by whom it was cancelled.
	CancelledMs int64
	CancelledBy string
}

// Gain is what a node gets of a ring still.
type Gain struct {
	Node  string
	Slots int
	// Series is how many come with them, about.
	Series int64
}

// ProgressOf tells how far the ring's slots are on their way, by what the leader
// tells of all; nil where they are not on any, and have not been left on one.
// now is the cluster's time, Unix milliseconds.
func (s *State) ProgressOf(r *Ring, healths []*clusterpb.Health, now int64) *Progress {
	move, nodes := r.Spec.GetMove(), s.Eligible(r)
	cancelled := move.GetCancelled() != 0
	if r.Deleted() || len(nodes) == 0 || move == nil && !s.moves(r) {
		return nil
	}
	if begin := s.due(r); begin != nil && !isUnderWay(move) {
		move, cancelled = &clusterpb.Move{Cause: begin.GetCause(), Nodes: begin.GetNodes(), By: begin.GetBy()}, false
	}
	target := ring.Plan(r.Table, nodes, r.RF())
	p := &Progress{
		Cancelled: cancelled, Cause: causeText(move), Nodes: move.GetNodes(), By: move.GetBy(),
		Since: move.GetSince(), SinceMs: move.GetSinceMs(), Moved: int(move.GetMoved()),
		Left: ring.StepsLeft(r.Table, target, r.Quorum()), Slots: away(r, target),
		CancelledMs: move.GetCancelledMs(), CancelledBy: move.GetCancelledBy(),
	}
	if cancelled && p.Left == 0 {
		return nil
	}
	p.gain(s, r, target, s.seriesPerSlot(healths))
	if cancelled {
		p.ETA = -1
		return p
	}
	p.heldUp(s, r, target, healths, now)
	return p
}

// gain counts what each node gets still, and how long that takes.
func (p *Progress) gain(s *State, r *Ring, target []ring.Set, price map[ring.Store]float64) {
	slots, series := map[ring.Store]int{}, map[ring.Store]float64{}
	for i := range r.Table.Slots() {
		old := r.Table.At(i).Replicas
		for k := range target[i].Len() {
			if to := target[i].At(k); !old.Has(to) {
				slots[to]++
				series[to] += costOf(old, price)
			}
		}
	}
	most := 0.0
	for _, m := range s.Members() {
		if st := storeOf(m.GetStore()); slots[st] > 0 {
			p.Gains = append(p.Gains, Gain{m.GetName(), slots[st], int64(series[st])})
			most = max(most, series[st])
		}
	}
	if rate := s.Settings().GetMoveSeriesPerSecond(); rate > 0 {
		p.ETA = time.Duration(math.Ceil(max(most/float64(rate), 1))) * time.Second
	}
}

// heldUp says what it waits for, where that is more than a moment.
func (p *Progress) heldUp(s *State, r *Ring, target []ring.Set, healths []*clusterpb.Health, now int64) {
	if s.Settings().GetMaintenance() {
		p.HeldUpBy = append(p.HeldUpBy, maintenanceText)
	}
	absent := absentBy(healths)
	for _, g := range p.Gains {
		m := s.Member(g.Node)
		if why := absent(m); why != "" && m.GetState() != clusterpb.MemberState_DRAINING {
			p.HeldUpBy = append(p.HeldUpBy, g.Node+" "+why+" and takes no slot")
		}
	}
	if n := len(s.Eligible(r)); n < r.RF() && len(s.deserters(r)) > 0 {
		p.HeldUpBy = append(p.HeldUpBy, fmt.Sprintf("there are %d other nodes for %d replicas", n, r.RF()))
	}
	overdue := func(e ring.Epoch) bool {
		slot := r.Table.At(e.Slot)
		return now-e.End > heardLately.Milliseconds() && (!slot.Replicas.Same(target[e.Slot]) || slot.Quorum != r.Quorum())
	}
	if slices.ContainsFunc(r.Table.Open(), overdue) {
		p.HeldUpBy = append(p.HeldUpBy, s.unclosed([]*Ring{r}, 0, healths)...)
	}
	if len(p.HeldUpBy) > 0 {
		p.ETA = -1
	}
}

// Percent is how much of it is done, 0 to 100; 100 only when nothing is left.
func (p *Progress) Percent() int {
	if p.Left == 0 {
		return 100
	}
	return min(p.Moved*100/(p.Moved+p.Left), 99)
}

// String is the move for people, in one line.
func (p *Progress) String() string {
	text := fmt.Sprintf("%d%%, %d of %d replicas, %s", p.Percent(), p.Moved, p.Moved+p.Left, p.Cause)
	switch {
	case p.Cancelled:
		return "cancelled at " + text
	case len(p.HeldUpBy) > 0:
		return text + "; waits: " + strings.Join(p.HeldUpBy, ", ")
	default:
		return text + ", " + p.ETA.String() + " left"
	}
}

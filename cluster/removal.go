package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// Stage is how far a removal is.
type Stage string

// The stages of a removal, in their order.
const (
	StageMoving   Stage = "moving"   // its slots go to others
	StageClosing  Stage = "closing"  // writes may still begin in its epochs
	StageEmptying Stage = "emptying" // its data goes to the bucket and to custodians
	StageLeaving  Stage = "leaving"  // its vote goes to another, then it is out
)

// Removal is how far the removal of a member is: it follows from the state and
// from what the leader hears, so that any leader resumes it.
type Removal struct {
	Stage Stage
	// SinceMs is when it began, Unix milliseconds of the cluster.
	SinceMs int64
	// Slots is how many slot replicas have to move still.
	Slots int
	// Epochs is how many ended epochs of the member's store are not closed.
	Epochs int
	// HeldUpBy names who or what it waits for, with since when.
	HeldUpBy []string
	// Progress is what the member itself says of its emptying.
	Progress string
}

// RemovalOf tells how far the removal of a member is, by what the leader tells
// of all; nil where it is not being removed.
func (s *State) RemovalOf(name string, healths []*clusterpb.Health) *Removal {
	m := s.Member(name)
	if m.GetState() != clusterpb.MemberState_REMOVING {
		return nil
	}
	st := storeOf(m.GetStore())
	d := s.Duties(st)
	r := &Removal{Stage: StageLeaving, SinceMs: m.GetDeparture().GetSinceMs(), Slots: d.Slots, Epochs: d.Open}
	h := healthOf(healths, name)
	r.Progress = h.GetReport().GetRemovalProgress()
	switch {
	case r.Slots > 0:
		r.Stage = StageMoving
		r.HeldUpBy = append(s.unmoved(st, healths), s.unclosed(s.rings, 0, healths)...)
		if s.settings.GetMaintenance() {
			r.HeldUpBy = append([]string{maintenanceText}, r.HeldUpBy...)
		}
	case r.Epochs > 0:
		r.Stage = StageClosing
		r.HeldUpBy = s.unclosed(s.rings, st, healths)
	case s.Store(st).GetEmptied() == 0 && (d.Past || m.GetActivated() != 0):
		r.Stage = StageEmptying
		if why := absentBy(healths)(m); why != "" {
			r.HeldUpBy = []string{name + " " + why}
		}
	case h.GetRole() == roleLeader:
		r.HeldUpBy = []string{name + " leads, and no other voter was fit to take over yet"}
	case h.GetRole() == roleVoter:
		r.HeldUpBy = []string{name + " votes, and no other node was fit to take its vote yet"}
	}
	return r
}

func healthOf(healths []*clusterpb.Health, name string) *clusterpb.Health {
	for _, h := range healths {
		if h.GetReport().GetNode() == name {
			return h
		}
	}
	return nil
}

// unmoved says why slots of a store cannot move: a ring has too few nodes, or
// they are not there.
func (s *State) unmoved(st ring.Store, healths []*clusterpb.Health) []string {
	var out []string
	absent := absentBy(healths)
	for _, r := range s.Rings() {
		if r.Table.Held()[st] == 0 {
			continue
		}
		nodes := s.Eligible(r)
		if len(nodes) < r.RF() {
			out = append(out, fmt.Sprintf("ring %s has %d other nodes for %d replicas", r.Spec.GetName(), len(nodes), r.RF()))
		}
		for _, node := range nodes {
			m := s.Holder(node.Store)
			if why := absent(m); why != "" && m.GetState() != clusterpb.MemberState_DRAINING {
				out = append(out, m.GetName()+" "+why+" and takes no slot")
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unclosed names the stores that have not announced the end of epochs of these
// rings yet: of those with a store, or of all for 0.
func (s *State) unclosed(rings []*Ring, st ring.Store, healths []*clusterpb.Health) []string {
	type waiting struct {
		epochs int
		to     uint64
		since  int64
	}
	by := map[ring.Store]waiting{}
	announced := s.announcedBy(healths)
	for _, r := range rings {
		for _, e := range r.Table.Open() {
			if st != 0 && !e.Replicas.Has(st) {
				continue
			}
			for i := range e.Replicas.Len() {
				other := e.Replicas.At(i)
				if s.Lost(other) || announced[other] >= e.To {
					continue
				}
				w := by[other]
				if w.epochs++; w.epochs == 1 || e.End < w.since {
					w.since = e.End
				}
				w.to = max(w.to, e.To)
				by[other] = w
			}
		}
	}
	var out []string
	for other, w := range by {
		out = append(out, fmt.Sprintf("%s has not announced revision %d: %d epochs, since %s",
			s.Store(other).GetNode(), w.to, w.epochs, time.UnixMilli(w.since).UTC().Format(time.RFC3339)))
	}
	slices.Sort(out)
	return out
}

// announcedBy is what the members' stores have announced, as the leader tells.
func (s *State) announcedBy(healths []*clusterpb.Health) map[ring.Store]uint64 {
	out := map[ring.Store]uint64{}
	for _, h := range healths {
		r := h.GetReport()
		m := s.Member(r.GetNode())
		if st := s.Store(storeOf(m.GetStore())); m != nil && st != nil && slices.Equal(st.GetId(), r.GetStoreId()) {
			out[storeOf(m.GetStore())] = r.GetAnnounced()
		}
	}
	return out
}

// String is the removal for people, in one line.
func (r *Removal) String() string {
	var text string
	switch r.Stage {
	case StageMoving:
		text = fmt.Sprintf("moving: %d slots left", r.Slots)
	case StageClosing:
		text = fmt.Sprintf("closing: writes may still begin in %d epochs", r.Epochs)
	case StageEmptying:
		text = "emptying"
		if r.Progress != "" {
			text += ": " + r.Progress
		}
	default:
		text = string(r.Stage)
	}
	if len(r.HeldUpBy) > 0 {
		text += "; waits: " + strings.Join(r.HeldUpBy, ", ")
	}
	return text
}

// tendDepartures does the leader's part of drains and removals: it ends the
// drain of a process that is gone, and takes out who is emptied.
func (n *Node) tendDepartures(ctx context.Context, e *engine) error {
	st := n.State()
	for _, m := range st.Members() {
		var err error
		switch m.GetState() {
		case clusterpb.MemberState_DRAINING:
			err = n.endDrain(ctx, e, m)
		case clusterpb.MemberState_REMOVING:
			err = n.endRemoval(ctx, e, st, m)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.GetName(), err)
		}
	}
	return nil
}

// isNewProcess says whether the member's drain was of an earlier process of
// this node.
func (n *Node) isNewProcess(own *clusterpb.Member) bool {
	return own.GetState() == clusterpb.MemberState_DRAINING && own.GetDeparture().GetProcess() != n.process
}

// endDrain makes a member active again whose drained process has ended: another
// one reports.
func (n *Node) endDrain(ctx context.Context, e *engine, m *clusterpb.Member) error {
	c, ok := n.health.Of(m)
	drained := m.GetDeparture().GetProcess()
	if !ok || !n.health.Live(m, time.Now()) || c.report.GetProcess() == 0 || c.report.GetProcess() == drained {
		return nil
	}
	return n.commit(ctx, e, &clusterpb.Command{Change: &clusterpb.Command_DrainMember{
		DrainMember: &clusterpb.DrainMember{Name: m.GetName(), Undo: true, Process: drained},
	}})
}

// endRemoval takes a member out that holds nothing any more and does not vote.
func (n *Node) endRemoval(ctx context.Context, e *engine, st *State, m *clusterpb.Member) error {
	if r := st.RemovalOf(m.GetName(), n.healthHere(e)); r.Stage != StageLeaving || len(r.HeldUpBy) > 0 {
		return nil
	}
	version := int64(m.GetVersion())
	err := n.commit(ctx, e, &clusterpb.Command{
		ExpectedVersion: &version,
		Change:          &clusterpb.Command_RemoveMember{RemoveMember: &clusterpb.RemoveMember{Name: m.GetName()}},
	})
	if err == nil {
		n.log.Info("member removed in good order", "node", m.GetName())
	}
	return err
}

// stepAside hands leadership to a voter that stays, where there is one and this
// node is on its way out itself. It comes before slots move: what a leader
// commits just before it hands over the others hear of from the next one only,
// and writes to slots that moved wait until then.
func (n *Node) stepAside(ctx context.Context, e *engine) error {
	own := n.State().Member(n.cfg.Name)
	if own.GetDeparture() == nil || n.isNewProcess(own) {
		return nil
	}
	want := handOver{staying: true}
	if _, err := n.successor(e, want); err != nil || e.raft.State() != raft.Leader {
		return nil // later there may be one; RemovalOf says what it waits for
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Wait)
	defer cancel()
	return n.transfer(ctx, want)
}

package cluster

import (
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Drain is how far the drain of a member is.
type Drain struct {
	// SinceMs is when it began, Unix milliseconds of the cluster.
	SinceMs int64
	// Waits is what is still to come before the node may be stopped, a line
	// each; empty: it may be stopped now.
	Waits []string
}

// DrainOf tells how far the drain of a member is, by what the leader tells of
// all; nil where it is not draining.
func (s *State) DrainOf(name string, healths []*clusterpb.Health) *Drain {
	m := s.Member(name)
	if m.GetState() != clusterpb.MemberState_DRAINING {
		return nil
	}
	d := &Drain{SinceMs: m.GetDeparture().GetSinceMs()}
	wait := func(format string, args ...any) { d.Waits = append(d.Waits, fmt.Sprintf(format, args...)) }
	h := healthOf(healths, name)
	switch r := h.GetReport(); {
	case h == nil || h.GetLastContactMs() < 0 || h.GetLastContactMs() > heardLately.Milliseconds():
		// It is stopped already, or about to be.
	case r.GetProcess() != m.GetDeparture().GetProcess():
		wait("%s was started anew, which ends the drain", name)
	case r.GetApplied() < m.GetDeparture().GetRevision():
		wait("%s has not heard of it", name)
	case h.GetRole() == roleLeader:
		wait("%s leads, and hands over as soon as another voter is fit", name)
	}
	return d
}

// Drains says whether this process is to take no more writes at its door. A
// drain that an earlier process of this node was asked for is over.
func (n *Node) Drains() bool {
	m := n.State().Member(n.cfg.Name)
	return m.GetState() == clusterpb.MemberState_DRAINING && !n.isNewProcess(m)
}

package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// unsafeNow refuses what only the leader's memory of its members can tell, and
// stamps onto a command what it knows of them.
func (n *Node) unsafeNow(ctx context.Context, e *engine, cmd *clusterpb.Command) *clusterpb.Refusal {
	if r := n.noRoom(); r != nil {
		return r
	}
	if err := n.fsm.speaks.understands(cmd); err != nil {
		return invalid("", "%s leads and has %v; finish the upgrade of all nodes first", n.cfg.Name, err)
	}
	st := n.State()
	if r := unspoken(st, cmd); r != nil {
		return r
	}
	switch c := cmd.GetChange().(type) {
	case *clusterpb.Command_AddMember:
		return n.guardReplace(st, c.AddMember)
	case *clusterpb.Command_RemoveMember:
		return n.guardRemove(st, c.RemoveMember)
	case *clusterpb.Command_DrainMember:
		n.awaitWord(ctx, st)
		return n.guardDrain(e, st, c.DrainMember)
	case *clusterpb.Command_BeginRemoval:
		n.awaitWord(ctx, st)
		return n.guardRemoval(e, st, c.BeginRemoval)
	case *clusterpb.Command_RecoverCluster, *clusterpb.Command_RefoundCluster:
		return unsafe("", "a cluster is recovered by a node without a leader only: `muster cluster recover --plan`")
	}
	return nil
}

// awaitWord waits until each member was heard or counts as silent: a leader that
// has just begun knows of nobody yet.
func (n *Node) awaitWord(ctx context.Context, st *State) {
	for {
		now := time.Now()
		if !slices.ContainsFunc(st.Members(), func(m *clusterpb.Member) bool {
			return !n.health.Live(m, now) && !n.health.Silent(m, now)
		}) || n.pause(ctx) != nil {
			return
		}
	}
}

// guardRemove lets go by force only who is down. The end of a removal in good
// order is the leader's own.
func (n *Node) guardRemove(st *State, c *clusterpb.RemoveMember) *clusterpb.Refusal {
	m := st.Member(c.GetName())
	switch now := time.Now(); {
	case m == nil:
		return nil // applying says why
	case !c.GetForce():
		return unsafe("", "a removal in good order ends by itself: begin it with `muster cluster remove %s`", m.GetName())
	case n.health.Live(m, now):
		return unsafe("", "node %s answers: stop it before it is removed by force", quote(c.GetName()))
	case !n.health.Silent(m, now):
		return n.tooEarly(m)
	default:
		return nil
	}
}

func (n *Node) tooEarly(m *clusterpb.Member) *clusterpb.Refusal {
	return unsafe("", "this leader has only begun and cannot tell yet whether node %s answers: ask again in %v",
		quote(m.GetName()), 2*n.cfg.Timing.Fresh)
}

// guardDrain drains only a process that is there, and none that a slot's quorum
// cannot do without.
func (n *Node) guardDrain(e *engine, st *State, c *clusterpb.DrainMember) *clusterpb.Refusal {
	m := st.Member(c.GetName())
	if m == nil || c.GetUndo() {
		return nil
	}
	contact, ok := n.health.Of(m)
	switch now := time.Now(); {
	case ok && n.health.Live(m, now):
		c.Process = contact.report.GetProcess()
	case !n.health.Silent(m, now):
		return n.tooEarly(m)
	default:
		return unsafe("", "%s %s: there is no process to drain", m.GetName(), n.silence(m))
	}
	if m.GetState() != clusterpb.MemberState_ACTIVE {
		return nil
	}
	return st.checkDrain(m, absentBy(n.healthHere(e)))
}

// silence is since when a member is not heard, in words that follow its name.
func (n *Node) silence(m *clusterpb.Member) string {
	if at := n.sightings.Last(m.GetName()); !at.IsZero() {
		return fmt.Sprintf("has not been heard since %s", at.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("has not been heard since %s began to lead", n.cfg.Name)
}

// guardRemoval begins only what can end: the node is there to hand its data
// over, and the others are there to take it.
func (n *Node) guardRemoval(e *engine, st *State, c *clusterpb.BeginRemoval) *clusterpb.Refusal {
	m := st.Member(c.GetName())
	if m == nil || c.GetCancel() {
		return nil
	}
	contact, ok := n.health.Of(m)
	switch now := time.Now(); {
	case m.GetActivated() == 0:
		return nil // it has never held anything
	case ok && n.health.Live(m, now):
	case !n.health.Silent(m, now):
		return n.tooEarly(m)
	default:
		return unsafe("", "%s %s and cannot hand its data over: start it, or, if it is gone for good, use --force", m.GetName(), n.silence(m))
	}
	if c.GetBucketIsEnough() && !contact.report.GetHasBucket() {
		return unsafe("bucket_is_enough", "%s has no bucket: without one its blocks go to other nodes", m.GetName())
	}
	if m.GetState() == clusterpb.MemberState_REMOVING {
		return nil
	}
	return st.checkRemoval(m, absentBy(n.healthHere(e)))
}

// checkRemoval refuses a removal whose slots would be left below their quorum
// by nodes that are not there now.
func (s *State) checkRemoval(m *clusterpb.Member, absent absence) *clusterpb.Refusal {
	for _, r := range s.Rings() {
		if r.Table.Held()[storeOf(m.GetStore())] == 0 {
			continue
		}
		var missing []string
		there := 0
		for _, node := range s.Eligible(r) {
			o := s.Holder(node.Store)
			if o.GetName() == m.GetName() {
				continue
			}
			if why := absent(o); why != "" {
				missing = append(missing, o.GetName()+" "+why)
			} else {
				there++
			}
		}
		if there < r.RF() && there+len(missing) >= r.RF() { // too few at all: applying says so
			return unsafe("", "the slots of ring %s need %d nodes besides %s, and %d are there: %s; bring them back first",
				r.Spec.GetName(), r.RF(), m.GetName(), there, some(missing))
		}
	}
	return nil
}

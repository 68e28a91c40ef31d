package cluster

import (
	"fmt"
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// How a member leaves, for a while or for good:
//
//	JOINING ──▶ ACTIVE ◀──────▶ DRAINING      drain, undrain, another process
//	   │          ▲  │              │
//	   │   cancel │  │ remove       │ remove
//	   │          │  ▼              ▼
//	   └───────▶ REMOVING ──▶ (removed)       by the leader, when it is emptied
//
// By force any of them is removed at once. A crash at any arrow loses nothing:
// each is one command, and what follows from a state the next leader finds in
// it (removal.go).

// maxReason bounds the operator's words in bytes.
const maxReason = 256

// drainMember takes a node out of service for a while, or back.
func (e *edit) drainMember(c *clusterpb.DrainMember) (uint64, *clusterpb.Refusal) {
	old, r := e.member(c.GetName())
	if r != nil {
		return 0, r
	}
	if c.GetUndo() {
		return e.undrain(old, c.GetProcess())
	}
	switch old.GetState() {
	case clusterpb.MemberState_ACTIVE:
	case clusterpb.MemberState_DRAINING:
		if c.GetProcess() == old.GetDeparture().GetProcess() {
			return old.GetVersion(), nil
		}
	case clusterpb.MemberState_REMOVING:
		return 0, unsafe("", "%s is being removed since revision %d: nothing is left to drain", old.GetName(), old.GetDeparture().GetRevision())
	default:
		return 0, unsafe("", "%s is joining still: wait until it is active, or stop it", old.GetName())
	}
	if r := e.checkDrain(old); r != nil {
		return 0, r
	}
	next := copyOf(old)
	next.State, next.Departure = clusterpb.MemberState_DRAINING, e.departure(c.GetReason())
	next.Departure.Process = c.GetProcess()
	return e.updated(old, next, "member draining", next.GetDeparture().GetReason())
}

// undrain ends the drain of a process; 0: of whichever drains.
func (e *edit) undrain(old *clusterpb.Member, process uint64) (uint64, *clusterpb.Refusal) {
	switch {
	case old.GetState() == clusterpb.MemberState_REMOVING:
		return 0, unsafe("", "%s is being removed, not drained: `muster cluster remove %s --cancel` ends that", old.GetName(), old.GetName())
	case old.GetState() != clusterpb.MemberState_DRAINING,
		process != 0 && process != old.GetDeparture().GetProcess():
		return old.GetVersion(), nil
	}
	next := copyOf(old)
	next.State, next.Departure = clusterpb.MemberState_ACTIVE, nil
	return e.updated(old, next, "member undrained", "")
}

// checkDrain refuses a drain that would leave a slot below its quorum, for what
// the state alone can tell: which nodes drain already. Who is silent besides
// the leader knows (permit.go).
func (e *edit) checkDrain(m *clusterpb.Member) *clusterpb.Refusal {
	return e.next.checkDrain(m, drains)
}

func (s *State) checkDrain(m *clusterpb.Member, absent absence) *clusterpb.Refusal {
	short := s.withoutNode(m, absent)
	if len(short) == 0 {
		return nil
	}
	f := short[0]
	if f.ring.RF() == 1 {
		return unsafe("", "ring %s has one replica of each slot: without %s writes to %d of %d slots get 503; raise its replication factor, or stop the node without draining it",
			f.ring.Spec.GetName(), m.GetName(), f.slots, f.ring.Table.Slots())
	}
	return unsafe("", "without %s %d of %d slots of ring %s would have %d of the %d replicas that a write needs: %s; bring them back first",
		m.GetName(), f.slots, f.ring.Table.Slots(), f.ring.Spec.GetName(), f.have, f.need, some(f.missing))
}

// some is a list for people, its head where it is long.
func some(list []string) string {
	const most = 5
	if len(list) == 0 {
		return "nobody else holds them"
	}
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

func (e *edit) departure(reason string) *clusterpb.Departure {
	return &clusterpb.Departure{Revision: e.rev, SinceMs: e.now, Reason: text(reason, maxReason)}
}

// beginRemoval makes a member one that leaves for good, or takes that back.
func (e *edit) beginRemoval(c *clusterpb.BeginRemoval) (uint64, *clusterpb.Refusal) {
	old, r := e.member(c.GetName())
	if r != nil {
		return 0, r
	}
	if c.GetCancel() {
		return e.cancelRemoval(old)
	}
	next := copyOf(old)
	if old.GetState() == clusterpb.MemberState_REMOVING {
		// Asked again: only what may be left out can still change.
		next.Departure.BucketIsEnough = old.GetDeparture().GetBucketIsEnough() || c.GetBucketIsEnough()
		return e.updated(old, next, "member removal", "the bucket is enough")
	}
	if r := e.checkLeave(old, false); r != nil {
		return 0, r
	}
	next.State, next.Departure = clusterpb.MemberState_REMOVING, e.departure(c.GetReason())
	next.Departure.BucketIsEnough = c.GetBucketIsEnough()
	detail := fmt.Sprintf("%d slots to move", e.next.Duties(storeOf(old.GetStore())).Slots)
	if c.GetBucketIsEnough() {
		detail += ", the bucket is enough"
	}
	return e.updated(old, next, "member removal begun", detail)
}

// cancelRemoval makes the member active again, and its store its own. Slots come
// back by themselves, as to one that has joined.
func (e *edit) cancelRemoval(old *clusterpb.Member) (uint64, *clusterpb.Refusal) {
	if old.GetState() != clusterpb.MemberState_REMOVING {
		return old.GetVersion(), nil
	}
	e.endCustody(old.GetStore())
	next := copyOf(old)
	next.State, next.Departure = clusterpb.MemberState_JOINING, nil
	if old.GetActivated() != 0 {
		next.State, next.Activated = clusterpb.MemberState_ACTIVE, e.rev
	}
	return e.updated(old, next, "member removal cancelled", "")
}

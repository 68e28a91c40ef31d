package cluster

import (
	"errors"
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// maxEpochs bounds the ended epochs of a ring that still matter.
const maxEpochs = 1 << 20

// moveSlots commits the planner's steps, all or none.
func (e *edit) moveSlots(c *clusterpb.MoveSlots) (uint64, *clusterpb.Refusal) {
	old, r := e.ringByID(c.GetRing())
	if r != nil {
		return 0, r
	}
	if old.Deleted() {
		return 0, notFound("ring %s was deleted at revision %d", old.Spec.GetName(), old.Spec.GetDeleted())
	}
	if m := old.Spec.GetMove(); m.GetCancelled() != 0 { // the leader had not heard
		return 0, refuse(clusterpb.Refusal_CONFLICT_VERSION, "steps", "ring %s: its move was cancelled at revision %d", old.Spec.GetName(), m.GetCancelled())
	}
	if len(c.GetSteps()) > old.Table.Slots() {
		return 0, invalid("steps", "%d steps for %d slots", len(c.GetSteps()), old.Table.Slots())
	}
	if len(old.Table.Past())+len(c.GetSteps()) > maxEpochs {
		return 0, full("steps", "ring %s keeps %d ended epochs: they must expire before more slots move", old.Spec.GetName(), len(old.Table.Past()))
	}
	may := map[ring.Store]bool{}
	for _, n := range e.next.Eligible(old) {
		may[n.Store] = true
	}
	steps := make([]ring.Step, 0, len(c.GetSteps()))
	for _, s := range c.GetSteps() {
		step, r := e.checkStep(old, s, may)
		if r != nil {
			return 0, r
		}
		steps = append(steps, step)
	}
	table, err := old.Table.Apply(steps, e.rev, e.now)
	if errors.Is(err, ring.ErrMoved) {
		return 0, refuse(clusterpb.Refusal_CONFLICT_VERSION, "steps", "ring %s: %v: plan again", old.Spec.GetName(), err)
	}
	if err != nil {
		return 0, invalid("steps", "ring %s: %v", old.Spec.GetName(), err)
	}
	moved := changedAt(table, e.rev)
	if moved > 0 {
		e.setRing(&Ring{Spec: movedBy(old.Spec, moved), Table: table})
		e.changed.Rings = true
		e.noteStep(old, "slots moved", fmt.Sprintf("%d slots", moved))
	}
	return old.Spec.GetVersion(), nil
}

// checkStep wants one replica of a settled slot to change, towards a store
// that may hold it, and no slot to fall below its quorum by giving up a store
// that is not lost. A slot without any
// replica may be given all of them. The slot keeps its quorum or gets the one
// that the ring has now.
func (e *edit) checkStep(r *Ring, s *clusterpb.SlotStep, may map[ring.Store]bool) (ring.Step, *clusterpb.Refusal) {
	none := ring.Step{}
	slot := int64(s.GetSlot())
	if slot >= int64(r.Table.Slots()) {
		return none, invalid("steps", "slot %d: ring %s has %d", slot, r.Spec.GetName(), r.Table.Slots())
	}
	old := r.Table.Slot(int(slot))
	if old.Changed != s.GetBase() {
		return none, refuse(clusterpb.Refusal_CONFLICT_VERSION, "steps", "slot %d, planned at %d, changed at %d: plan again", slot, s.GetBase(), old.Changed)
	}
	if q := int(s.GetQuorum()); q != r.Quorum() && q != old.Quorum {
		return none, refuse(clusterpb.Refusal_CONFLICT_VERSION, "steps", "slot %d with quorum %d: ring %s has %d now; plan again", slot, s.GetQuorum(), r.Spec.GetName(), r.Quorum())
	}
	var set ring.Set
	come := 0
	for _, n := range s.GetReplicas() {
		st := storeOf(n)
		next := set.With(st)
		switch {
		case next == set:
			return none, invalid("steps", "slot %d: the replicas %v are not distinct stores, at most %d", slot, head(s.GetReplicas()), ring.MaxReplicas)
		case !old.Replicas.Has(st) && !may[st]:
			return none, unsafe("steps", "slot %d: store %d is no active node's of ring %s", slot, n, r.Spec.GetName())
		case !old.Replicas.Has(st):
			come++
		}
		set = next
	}
	gone := old.Replicas.Len() + come - set.Len()
	switch {
	case (come > 1 || gone > 1) && old.Replicas.Len() > 0:
		return none, invalid("steps", "slot %d: one replica may change in a step, not %d", slot, max(come, gone))
	case set.Len() > r.RF() && set.Len() > old.Replicas.Len():
		return none, invalid("steps", "slot %d: %d replicas in a ring with replication factor %d", slot, set.Len(), r.RF())
	case set.Len() < old.Replicas.Len() && set.Len() < int(s.GetQuorum()) && !onlyLost(&e.next, old.Replicas, set):
		return none, unsafe("steps", "slot %d would fall below its quorum %d", slot, s.GetQuorum())
	case !r.Table.Settled(int(slot)):
		return none, unsafe("steps", "slot %d has an epoch that is not closed yet", slot)
	}
	return ring.Step{Slot: int(slot), Replicas: set, Quorum: int(s.GetQuorum()), Base: s.GetBase()}, nil
}

// onlyLost says whether the stores that leave the slot are lost: no write can
// count on them anyway.
func onlyLost(s *State, old, next ring.Set) bool {
	for i := range old.Len() {
		if st := old.At(i); !next.Has(st) && !s.Lost(st) {
			return false
		}
	}
	return true
}

// head is the part of a list that an error may show.
func head[T any](list []T) []T { return list[:min(len(list), ring.MaxReplicas+1)] }

func changedAt(t *ring.Table, rev uint64) int {
	n := 0
	for i := range t.Slots() {
		if t.At(i).Changed == rev {
			n++
		}
	}
	return n
}

// closeEpochs commits that no write can begin in these epochs any more; that
// this is so the leader knows from the announced revisions.
func (e *edit) closeEpochs(c *clusterpb.CloseEpochs) (uint64, *clusterpb.Refusal) {
	old, r := e.ringByID(c.GetRing())
	if r != nil {
		return 0, r
	}
	keys := make([]ring.EpochKey, 0, len(c.GetEpochs()))
	for _, k := range c.GetEpochs() {
		keys = append(keys, ring.EpochKey{Slot: int(k.GetSlot()), To: k.GetTo()})
	}
	before := len(old.Table.Open())
	table := old.Table.Close(keys, e.rev, e.now)
	if closed := before - len(table.Open()); closed > 0 {
		e.setRing(&Ring{Spec: old.Spec, Table: table})
		e.changed.Rings = true
		e.noteStep(old, "epochs closed", fmt.Sprintf("%d epochs", closed))
	}
	return old.Spec.GetVersion(), nil
}

// noteStep says what the event will, unless it is a step of a move: what that
// does its beginning and its end tell, and a thousand batches between them would
// drive out the events of people.
func (e *edit) noteStep(r *Ring, action, detail string) {
	if !isUnderWay(r.Spec.GetMove()) {
		e.note(action, r.Spec.GetName(), detail)
	}
}

// ringByID is the ring that a step names, with the version it expects.
func (e *edit) ringByID(id uint64) (*Ring, *clusterpb.Refusal) {
	old := e.next.RingByID(id)
	if old == nil {
		return nil, notFound("there is no ring with the id %d", id)
	}
	return old, e.expect("ring", old.Spec.GetName(), old.Spec.GetVersion())
}

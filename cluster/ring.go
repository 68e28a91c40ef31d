package cluster

import (
	"cmp"
	"slices"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// Ring is a ring of the state: what an operator wrote, and the slots.
type Ring struct {
	// Spec has no table. Its Version is that of what the operator wrote: slots
	// that move or close leave it alone.
	Spec  *clusterpb.Ring
	Table *ring.Table

	// sum is its part of the state's hash.
	sum uint64
}

// Deleted says whether only the ring's history is left.
func (r *Ring) Deleted() bool { return r.Spec.GetDeleted() != 0 }

// Born is the revision at which the ring was made.
func (r *Ring) Born() uint64 { return cmp.Or(r.Spec.GetBorn(), r.Spec.GetId()) }

// RF is the ring's replication factor.
func (r *Ring) RF() int { return int(r.Spec.GetReplicationFactor()) }

// Quorum is how many stored answers the ring's slots shall ask for. A slot
// carries its own quorum, which follows by a step.
func (r *Ring) Quorum() int { return modeOf(r.Spec.GetWriteQuorum()).Quorum(r.RF()) }

// Short counts the slots with fewer replicas than the replication factor.
func (r *Ring) Short() int {
	if r.Deleted() {
		return 0
	}
	return r.Table.Short(r.RF())
}

// BelowQuorum counts the slots with fewer replicas than their quorum: writes
// to them get 503.
func (r *Ring) BelowQuorum() int {
	n := 0
	for i := range r.Table.Slots() {
		if s := r.Table.At(i); s.Replicas.Len() < s.Quorum {
			n++
		}
	}
	return n
}

// Rings are the rings that are not deleted, by id: the oldest first.
func (s *State) Rings() []*Ring {
	out := make([]*Ring, 0, len(s.rings))
	for _, r := range s.rings {
		if !r.Deleted() {
			out = append(out, r)
		}
	}
	return out
}

// AllRings are all rings by id, the deleted ones whose epochs still matter
// included.
func (s *State) AllRings() []*Ring { return s.rings }

// Ring is the ring of that name which is not deleted; nil where there is none.
func (s *State) Ring(name string) *Ring {
	for _, r := range s.rings {
		if r.Spec.GetName() == name && !r.Deleted() {
			return r
		}
	}
	return nil
}

// RingByID is the ring with that id, also when it is deleted; nil where there
// is none.
func (s *State) RingByID(id uint64) *Ring {
	if i, ok := findRing(s.rings, id); ok {
		return s.rings[i]
	}
	return nil
}

// SlotTolerance is how many more stores may fail before some slot of a ring
// loses its quorum, whichever they are; live says which have not failed yet.
// It is below 0 by as many as are missing already, and the number of members
// where no ring has a slot.
func (s *State) SlotTolerance(live func(ring.Store) bool) int {
	least := len(s.members)
	for _, r := range s.Rings() {
		for i := range r.Table.Slots() {
			slot := r.Table.At(i)
			have := 0
			for k := range slot.Replicas.Len() {
				if live(slot.Replicas.At(k)) {
					have++
				}
			}
			least = min(least, have-slot.Quorum)
		}
	}
	return least
}

func findRing(list []*Ring, id uint64) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(r *Ring, id uint64) int {
		return cmp.Compare(r.Spec.GetId(), id)
	})
}

func modeOf(q clusterpb.WriteQuorum) ring.Mode {
	switch q {
	case clusterpb.WriteQuorum_ONE:
		return ring.One
	case clusterpb.WriteQuorum_ALL:
		return ring.All
	default:
		return ring.Majority
	}
}

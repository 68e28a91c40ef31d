package ring

// Claim is what a share says of itself: for which store it is meant, what its
// sender had seen, and the least that its receiver must have seen.
type Claim struct {
	Store       Store
	Incarnation uint64
	Ring        uint64
	// Seen is the sender's revision.
	Seen uint64
	// Need is the largest revision at which one of the share's slots, the
	// tenant's route or the tenant changed.
	Need uint64
}

// Holding is what a receiver knows of a tenant at one revision.
type Holding struct {
	Self     Store
	Revision uint64
	// Incarnation is the tenant's; 0 where it does not exist.
	Incarnation uint64
	// Ring is the id of the ring that the tenant is routed to; 0: none.
	Ring uint64
	// Routed is the revision at which the tenant's route last changed.
	Routed uint64
	Table  *Table
}

// Verdict is a fence's answer for a share as a whole.
type Verdict uint8

// The verdicts.
const (
	// Pass: ask Admits for each series.
	Pass Verdict = iota
	// Behind: the receiver must see Need first.
	Behind
	// Stale: no series of the share may be stored.
	Stale
)

// Judge decides on the share as a whole. It looks at the receiver's revision
// first: a receiver that is behind cannot tell whether the rest is stale.
func (h Holding) Judge(c Claim) Verdict {
	switch {
	case h.Revision < c.Need:
		return Behind
	case c.Store != h.Self, c.Incarnation != h.Incarnation, h.Incarnation == 0:
		return Stale
	case c.Ring != h.Ring, h.Ring == 0, h.Routed > c.Seen:
		return Stale
	default:
		return Pass
	}
}

// Admits says whether a series of the slot may be stored: the slot has not
// changed since the sender looked, and it is held here. Every member of the
// old and of the new set refuses so, which is what makes an epoch end. A slot
// that the table does not have is refused.
func (h Holding) Admits(slot int, seen uint64) bool {
	if uint(slot) >= uint(len(h.Table.slots)) {
		return false
	}
	s := &h.Table.slots[slot]
	return s.Changed <= seen && s.Replicas.Has(h.Self)
}

// Need is the least revision that a receiver of a share with these slots must
// have seen; it begins with the larger of the tenant's incarnation and route.
func (t *Table) Need(need uint64, slots ...int) uint64 {
	for _, s := range slots {
		need = max(need, t.slots[s].Changed)
	}
	return need
}

package ring

import (
	"math"
	"slices"
)

// Tenure is since when one store has held the slots of a table.
type Tenure struct {
	// since is, by slot, the time from which the store has held it without a
	// break, Unix milliseconds; always where nobody held it before, and never
	// where the store does not hold it.
	since []int64
	times []int64 // the times in since but for always and never, ascending, once each
}

const (
	always = math.MinInt64
	never  = math.MaxInt64
)

// TenureOf gives the tenure of st. An epoch of which the table does not know any
// more has ended so long ago that it matters to nobody.
func (t *Table) TenureOf(st Store) *Tenure {
	n := &Tenure{since: make([]int64, len(t.slots))}
	past := t.past
	for i := range t.slots {
		k := 0
		for k < len(past) && past[k].Slot == i {
			k++
		}
		n.since[i] = t.slots[i].heldSince(st, past[:k])
		past = past[k:]
		if s := n.since[i]; s != always && s != never {
			n.times = append(n.times, s)
		}
	}
	slices.Sort(n.times)
	n.times = slices.Compact(n.times)
	return n
}

// heldSince looks back from now over the slot's ended epochs.
func (s *Slot) heldSince(st Store, past []Epoch) int64 {
	if !s.Replicas.Has(st) {
		return never
	}
	since := s.Since
	for k := len(past) - 1; k >= 0; k-- {
		if !past[k].Replicas.Has(st) {
			return since
		}
		since = past[k].Begin
	}
	return always
}

// Slots is the number of slots of the table.
func (n *Tenure) Slots() int { return len(n.since) }

// Steps is how many different times there are at which slots came, up to the
// given one: as long as it is the same, so are the slots that HeldBefore names.
func (n *Tenure) Steps(time int64) int {
	i, found := slices.BinarySearch(n.times, time)
	if found {
		i++
	}
	return i
}

// HeldBefore says whether the slot was held by the store at the given time, Unix
// milliseconds, and ever since, or by nobody before the store.
func (n *Tenure) HeldBefore(slot int, time int64) bool {
	return n.since[slot] <= time && n.since[slot] != never
}

package ring

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// MaxSlots bounds a table; at 16 bytes a replica it stays below a megabyte.
const MaxSlots = 1 << 16

// Slot is who holds a slot now.
type Slot struct {
	Replicas Set
	// Quorum is how many stored answers acknowledge a sample of the slot. It may
	// exceed the number of replicas: then the ring is short and writes are refused.
	Quorum int
	// Changed is the revision at which this epoch began.
	Changed uint64
	// Since is the time of that revision, Unix milliseconds of the cluster.
	Since int64
}

// Step gives one slot other replicas or another quorum.
type Step struct {
	Slot     int
	Replicas Set
	Quorum   int
	// Base is the Changed that the planner saw; another one refuses the step.
	Base uint64
}

// Table is a ring's slots with their recent past. It is never changed; Apply,
// Close and Expire make another one.
type Table struct {
	slots  []Slot
	past   []Epoch // by slot, then by From
	groups []group
}

// ErrMoved means that a step was planned for a slot that has changed since.
var ErrMoved = errors.New("slot has changed since it was planned")

// New makes a table from its parts: the slots, a power of two of them, and
// their ended epochs in any order. It keeps both slices.
func New(slots []Slot, past []Epoch) (*Table, error) {
	n := len(slots)
	if n == 0 || n&(n-1) != 0 || n > MaxSlots {
		return nil, fmt.Errorf("slots %d: want a power of two, at most %d", n, MaxSlots)
	}
	for _, e := range past {
		if e.Slot < 0 || e.Slot >= n {
			return nil, fmt.Errorf("epoch of slot %d in a table of %d", e.Slot, n)
		}
	}
	if !slices.IsSortedFunc(past, bySlot) {
		slices.SortFunc(past, bySlot)
	}
	t := &Table{slots: slots, past: past}
	t.groups = groupsOf(t)
	return t, nil
}

// bySlot is the order of a table's ended epochs.
func bySlot(a, b Epoch) int {
	if a.Slot != b.Slot {
		return cmp.Compare(a.Slot, b.Slot)
	}
	return cmp.Compare(a.From, b.From)
}

// merged is both lists in their order; past is in it already, and is kept.
func merged(past, ended []Epoch) []Epoch {
	slices.SortFunc(ended, bySlot)
	out := make([]Epoch, 0, len(past)+len(ended))
	for _, e := range past {
		for len(ended) > 0 && bySlot(ended[0], e) < 0 {
			out, ended = append(out, ended[0]), ended[1:]
		}
		out = append(out, e)
	}
	return append(out, ended...)
}

// Empty is a new ring's table: slots without a replica, from revision rev on.
func Empty(slots int, quorum int, rev uint64, now int64) (*Table, error) {
	if slots <= 0 || slots > MaxSlots {
		return nil, fmt.Errorf("slots %d: want a power of two, at most %d", slots, MaxSlots)
	}
	s := make([]Slot, slots)
	for i := range s {
		s[i] = Slot{Quorum: quorum, Changed: rev, Since: now}
	}
	return New(s, nil)
}

// Slots is the number of slots.
func (t *Table) Slots() int { return len(t.slots) }

// Slot is who holds slot i.
func (t *Table) Slot(i int) Slot { return t.slots[i] }

// Owners appends the replicas of slot i to dst, first choice first. It does
// not allocate when dst has room.
func (t *Table) Owners(dst []Store, i int) []Store { return t.slots[i].Replicas.Append(dst) }

// At is the slot in place: the caller must not write to it. It spares the hot
// path a copy.
func (t *Table) At(i int) *Slot { return &t.slots[i] }

// Past are the ended epochs that still matter, by slot and age. The caller
// must not write to them.
func (t *Table) Past() []Epoch { return t.past }

// Apply commits steps at revision rev and time now: the epochs they end join
// the past. A step that changes nothing but the order of the replicas, or
// nothing at all, is left out. An epoch in which nobody held the slot is not
// kept, nor is one that lasted no revision. A time before the slot's own, from
// a leader whose clock is behind its predecessor's, is taken as the slot's.
func (t *Table) Apply(steps []Step, rev uint64, now int64) (*Table, error) {
	slots := slices.Clone(t.slots)
	var ended []Epoch
	seen := make(map[int]bool, len(steps))
	for _, s := range steps {
		if s.Slot < 0 || s.Slot >= len(slots) {
			return nil, fmt.Errorf("slot %d: the table has %d", s.Slot, len(slots))
		}
		if seen[s.Slot] {
			return nil, fmt.Errorf("slot %d: two steps in one change", s.Slot)
		}
		seen[s.Slot] = true
		old := slots[s.Slot]
		if old.Changed > rev {
			return nil, fmt.Errorf("slot %d, changed at %d, cannot change at %d", s.Slot, old.Changed, rev)
		}
		if old.Changed != s.Base {
			return nil, fmt.Errorf("slot %d, planned at %d, changed at %d: %w", s.Slot, s.Base, old.Changed, ErrMoved)
		}
		if old.Replicas.Same(s.Replicas) && old.Quorum == s.Quorum {
			continue
		}
		since := max(now, old.Since)
		if old.Replicas.Len() > 0 && old.Changed < rev {
			ended = append(ended, Epoch{
				Slot: s.Slot, Replicas: old.Replicas, Quorum: old.Quorum,
				From: old.Changed, To: rev, Begin: old.Since, End: since,
			})
		}
		slots[s.Slot] = Slot{Replicas: s.Replicas, Quorum: s.Quorum, Changed: rev, Since: since}
	}
	return New(slots, merged(t.past, ended))
}

// Held counts the slots of each store.
func (t *Table) Held() map[Store]int {
	held := map[Store]int{}
	for i := range t.slots {
		for r := range t.slots[i].Replicas.Len() {
			held[t.slots[i].Replicas.At(r)]++
		}
	}
	return held
}

// Short counts the slots with fewer than rf replicas.
func (t *Table) Short(rf int) int {
	n := 0
	for i := range t.slots {
		if t.slots[i].Replicas.Len() < rf {
			n++
		}
	}
	return n
}

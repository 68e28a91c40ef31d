package simulate

import (
	"slices"

	"github.com/muster-metrics/muster/ring"
)

// space is the size of the space of keys.
const space = float64(1<<63) * 2

// Layout cuts the space of keys into arcs and gives each its replicas. The
// store i+1 is the node i of the input.
type Layout struct {
	ends []uint64 // last key of each arc, ascending; the last arc ends the space
	sets []ring.Set
}

// OfSlots is the layout of a slot table: slot i has the i-th part of the space.
func OfSlots(sets []ring.Set) Layout {
	l := Layout{sets: sets, ends: make([]uint64, len(sets))}
	if len(sets) == 0 {
		return l
	}
	step := ^uint64(0)/uint64(len(sets)) + 1 // wraps to 0 for a single slot
	for i := range l.ends {
		l.ends[i] = uint64(i+1)*step - 1
	}
	return l
}

// Arcs is how many arcs the layout has.
func (l Layout) Arcs() int { return len(l.ends) }

// Distinct is how many replica sets the layout has that differ in their stores.
func (l Layout) Distinct() int {
	seen := map[ring.Set]struct{}{}
	for _, s := range l.sets {
		seen[sorted(s)] = struct{}{}
	}
	return len(seen)
}

// sorted is the set in the order of its stores.
func sorted(s ring.Set) ring.Set {
	stores := s.Append(nil)
	slices.Sort(stores)
	return ring.SetOf(stores...)
}

// weight is the part of the space that arc i has.
func (l Layout) weight(i int) float64 {
	begin := uint64(0)
	if i > 0 {
		begin = l.ends[i-1] + 1
	}
	return (float64(l.ends[i]-begin) + 1) / space
}

// Moved is how much of all replicas another layout puts on a node that did not
// hold them: 1 is all series once, so a factor of 3 that moves whole is 3.
func (l Layout) Moved(to Layout) float64 {
	moved, begin := 0.0, uint64(0)
	for i, j := 0, 0; i < len(l.ends) && j < len(to.ends); {
		end := min(l.ends[i], to.ends[j])
		moved += (float64(end-begin) + 1) / space * float64(newcomers(l.sets[i], to.sets[j]))
		begin = end + 1
		if l.ends[i] == end {
			i++
		}
		if to.ends[j] == end {
			j++
		}
	}
	return moved
}

func newcomers(was, is ring.Set) int {
	n := 0
	for i := range is.Len() {
		if !was.Has(is.At(i)) {
			n++
		}
	}
	return n
}

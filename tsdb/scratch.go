package tsdb

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/storage"
)

// scratch is what one share needs beside its bytes. It comes from a pool, not
// from the tenant: there are many tenants, and few that write at this moment.
type scratch struct {
	seen    seenTable
	late    []straggler // wait for the commit of those before them in the share
	refused []straggler // not taken at the first try
}

const keptScratch = 1 << 15 // entries; a table beyond that is left to the collector

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func takeScratch() *scratch { return scratches.Get().(*scratch) }

func (s *scratch) release() {
	clear(s.late)
	clear(s.refused)
	s.late, s.refused = s.late[:0], s.refused[:0]
	if len(s.seen.slots) > keptScratch || cap(s.late) > keptScratch || cap(s.refused) > keptScratch {
		return
	}
	scratches.Put(s)
}

// A straggler is a sample that did not go in with the first appender. Its labels
// are a copy, and may be kept by the TSDB.
type straggler struct {
	labels  string
	hash    uint64
	ref     storage.SeriesRef // of its series, if known; 0 else
	i       int               // its place in the share, and its outcome's
	t       int64
	v       float64
	newest  bool // refused for the value its series has at this, its newest, time
	tooOld  bool // refused for its age, the window being open
	differs bool // read back: another value is there
	refused bool // not taken by the appender that had its turn
}

// sortStragglers puts the samples of a series together, oldest first, and equal
// times in the order of the share.
func sortStragglers(s []straggler) {
	slices.SortFunc(s, func(a, b straggler) int {
		if c := a.series(&b); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.i, b.i))
	})
}

func (s *straggler) series(o *straggler) int {
	if c := cmp.Compare(s.hash, o.hash); c != 0 {
		return c
	}
	return strings.Compare(s.labels, o.labels)
}

// seenTable remembers which series the open appender holds samples of. A hash
// table keyed by reference, emptied by counting up its generation.
type seenTable struct {
	slots []seenSlot
	gen   uint32
	used  int
}

type seenSlot struct {
	ref  storage.SeriesRef
	t    int64  // newest sample in the appender
	bits uint64 // and its value
	gen  uint32 // in use if it is the table's
}

func (s *seenTable) reset() {
	s.used = 0
	s.gen++
	if s.gen == 0 || s.slots == nil {
		s.gen = 1
		s.slots = make([]seenSlot, max(len(s.slots), 1024))
	}
}

// find gives the slot of ref, and whether it holds something. The slot is valid
// until the next find.
func (s *seenTable) find(ref storage.SeriesRef) (*seenSlot, bool) {
	mask := uint64(len(s.slots) - 1)
	for at := uint64(ref) * 0x9e3779b97f4a7c15 >> 32 & mask; ; at = (at + 1) & mask {
		slot := &s.slots[at]
		if slot.gen != s.gen {
			return slot, false
		}
		if slot.ref == ref {
			return slot, true
		}
	}
}

// fill takes a slot that find gave empty.
func (s *seenTable) fill(slot *seenSlot, ref storage.SeriesRef, t int64, bits uint64) {
	*slot = seenSlot{ref: ref, t: t, bits: bits, gen: s.gen}
	s.used++
	if 2*s.used < len(s.slots) {
		return
	}
	old := s.slots
	s.slots = make([]seenSlot, 2*len(old))
	for _, o := range old {
		if o.gen == s.gen {
			to, _ := s.find(o.ref)
			*to = o
		}
	}
}

package tsdb

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/storage"
)

// scratch is what one share needs beside its bytes. It comes from a pool, not
// from the tenant: there are many tenants, and few that write at this moment.
type scratch struct {
	ids     []seriesID          // of the share's series, in its order
	refs    []storage.SeriesRef // what is known of these
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
	if len(s.seen.index) > keptScratch || cap(s.ids) > keptScratch || cap(s.late) > keptScratch || cap(s.refused) > keptScratch {
		return
	}
	if poisoned {
		s.spoil()
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
	reading      // what it says
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

// seenTable remembers which series the open appender holds samples of: a hash
// table of places in a list, small enough to stay in the processor's cache.
type seenTable struct {
	index   []uint32 // place in entries + 1; 0: free
	entries []seenEntry
}

type seenEntry struct {
	ref  storage.SeriesRef
	t    int64  // newest sample in the appender
	bits uint64 // and its value
}

// reset empties the table and makes room for n series.
func (s *seenTable) reset(n int) {
	s.entries = s.entries[:0]
	size := 1024
	for size < 2*n {
		size *= 2
	}
	if size != len(s.index) {
		s.index = make([]uint32, size)
		return
	}
	clear(s.index)
}

// find gives what is held of a series; nil: nothing. It is valid until the next
// put.
func (s *seenTable) find(ref storage.SeriesRef) *seenEntry {
	if k := s.index[s.place(ref)]; k != 0 {
		return &s.entries[k-1]
	}
	return nil
}

// put remembers a series that find does not.
func (s *seenTable) put(ref storage.SeriesRef, t int64, bits uint64) {
	if 2*len(s.entries) >= len(s.index) {
		s.grow()
	}
	s.entries = append(s.entries, seenEntry{ref, t, bits})
	s.index[s.place(ref)] = uint32(len(s.entries))
}

// place is where the series is, or where it would go.
func (s *seenTable) place(ref storage.SeriesRef) uint64 {
	mask := uint64(len(s.index) - 1)
	for at := uint64(ref) * 0x9e3779b97f4a7c15 >> 32 & mask; ; at = (at + 1) & mask {
		if k := s.index[at]; k == 0 || s.entries[k-1].ref == ref {
			return at
		}
	}
}

func (s *seenTable) grow() {
	s.index = make([]uint32, 2*len(s.index))
	for i, e := range s.entries {
		s.index[s.place(e.ref)] = uint32(i + 1)
	}
}

// spoil overwrites what the next user has to write itself.
func (s *scratch) spoil() {
	for k := range s.ids[:cap(s.ids)] {
		s.ids[:cap(s.ids)][k] = seriesID{math.MaxUint64, math.MaxUint64}
	}
	for k := range s.refs[:cap(s.refs)] {
		s.refs[:cap(s.refs)][k] = math.MaxUint64
	}
	for k := range s.seen.entries[:cap(s.seen.entries)] {
		s.seen.entries[:cap(s.seen.entries)][k] = seenEntry{ref: math.MaxUint64, t: math.MinInt64}
	}
	for k := range s.seen.index {
		s.seen.index[k] = math.MaxUint32
	}
}

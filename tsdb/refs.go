package tsdb

import (
	"hash/maphash"

	"github.com/prometheus/prometheus/storage"
)

// refTable remembers by which reference a series is appended, so that a known
// one costs one look into one table: the TSDB's own look-up takes two locks and
// visits a map, the series and its labels, which are far apart in memory and
// rarely in a cache once there are more than a few thousand series.
//
// A series is known by 128 bits: the xxhash64 that its share carries, and a
// keyed hash of its label bytes that nobody outside this process can foresee.
// Among a hundred million series two agree in both with a probability of 1e-23.
// A reference is never used again within an opening; one whose series the TSDB
// has collected is refused by it and found anew by labels.
//
// It belongs to whoever holds the engine's writing.
type refTable struct {
	seed  maphash.Seed
	slots []refSlot // a power of two of them
	used  int
}

type refSlot struct {
	id  seriesID
	ref storage.SeriesRef // 0: free
}

// seriesID is what a refTable knows a series by.
type seriesID struct{ hash, keyed uint64 }

const (
	minRefs = 64
	// spareRefs is how many more series than the head has a table may remember
	// before it starts again: those of collected series are never asked for.
	spareRefs = 1 << 12
)

func newRefTable() refTable { return refTable{seed: maphash.MakeSeed()} }

func (r *refTable) id(hash uint64, raw []byte) seriesID {
	return seriesID{hash, maphash.Bytes(r.seed, raw)}
}

// find gives the series' reference; 0 where it is not remembered.
func (r *refTable) find(id seriesID) storage.SeriesRef {
	if len(r.slots) == 0 {
		return 0
	}
	return r.slot(id).ref
}

// findAll appends the references of many series to dst, 0 for those that are not
// remembered.
func (r *refTable) findAll(ids []seriesID, dst []storage.SeriesRef) []storage.SeriesRef {
	for i := range ids {
		dst = append(dst, r.find(ids[i]))
	}
	return dst
}

// slot is where id is, or where it would go.
func (r *refTable) slot(id seriesID) *refSlot {
	mask := uint64(len(r.slots) - 1)
	for at := id.keyed & mask; ; at = (at + 1) & mask {
		if s := &r.slots[at]; s.ref == 0 || s.id == id {
			return s
		}
	}
}

// put remembers the reference of a series.
func (r *refTable) put(id seriesID, ref storage.SeriesRef) {
	if 4*(r.used+1) > 3*len(r.slots) {
		r.grow()
	}
	s := r.slot(id)
	if s.ref == 0 {
		r.used++
	}
	*s = refSlot{id, ref}
}

func (r *refTable) grow() {
	old := r.slots
	r.slots = make([]refSlot, max(minRefs, 2*len(old)))
	for _, s := range old {
		if s.ref != 0 {
			*r.slot(s.id) = s
		}
	}
}

// bound forgets everything where far more is remembered than the head holds.
func (r *refTable) bound(series uint64) {
	if uint64(r.used) > 2*series+spareRefs {
		r.slots, r.used = nil, 0
	}
}

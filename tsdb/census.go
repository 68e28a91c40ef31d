package tsdb

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// census counts the series of a head by where their ring places them: by the
// lowest bits of the key, as many as the largest table has. The head tells it of
// each series that comes, by an append or from the log, and of each that goes.
type census struct {
	place func(hash uint64) (key uint64)

	mu   sync.Mutex
	few  map[uint16]int32 // while few places have a series
	many []int32          // by place, from then on
	part *Part            // that was asked for last
	in   int64            // series in it
	// strange are the series that were disowned, with their keys: they are not
	// counted. strangers is how many.
	strange   map[storage.SeriesRef]uint64
	strangers atomic.Int64
}

const (
	// places is how many a census tells apart: ring.MaxSlots.
	places = 1 << 16
	// fewPlaces have a map: a tenant of a hundred series costs some kilobytes, not
	// a quarter of a megabyte.
	fewPlaces = 1 << 12
)

func newCensus(cfg *Config, tenant string) *census {
	c := &census{place: func(hash uint64) uint64 { return hash }, few: map[uint16]int32{}}
	if cfg.Place != nil {
		c.place = cfg.Place(tenant)
	}
	return c
}

// PreCreation is promtsdb.SeriesLifecycleCallback's. Nothing is refused here: it
// is asked while a log is replayed, too.
func (*census) PreCreation(labels.Labels) error { return nil }

// PostCreation counts a series that came.
func (c *census) PostCreation(ls labels.Labels) {
	key := c.place(canonicalHash(ls))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(key, 1)
}

// PostDeletion counts series that went.
func (c *census) PostDeletion(gone map[chunks.HeadSeriesRef]labels.Labels) {
	if len(gone) == 0 {
		return
	}
	type one struct {
		ref storage.SeriesRef
		key uint64
	}
	all := make([]one, 0, len(gone))
	for ref, ls := range gone {
		all = append(all, one{storage.SeriesRef(ref), c.place(canonicalHash(ls))})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range all {
		if _, uncounted := c.own(s.ref); !uncounted {
			c.add(s.key, -1)
		}
	}
}

// add counts n series at a key. Under mu.
func (c *census) add(key uint64, n int32) {
	at := uint16(key % places)
	if c.part != nil && c.part.has(key) {
		c.in += int64(n)
	}
	if c.many != nil {
		c.many[at] += n
		return
	}
	if c.few[at] += n; c.few[at] == 0 {
		delete(c.few, at)
	}
	if len(c.few) <= fewPlaces {
		return
	}
	c.many = make([]int32, places)
	for at, n := range c.few {
		c.many[at] = n
	}
	c.few = nil
}

// within is how many series are in the part. It counts anew where that is another
// one than the last time.
func (c *census) within(p *Part) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.part == p {
		return c.in
	}
	c.part, c.in = p, 0
	for at, n := range c.few {
		if p.has(uint64(at)) {
			c.in += int64(n)
		}
	}
	for at, n := range c.many {
		if n != 0 && p.has(uint64(at)) {
			c.in += int64(n)
		}
	}
	return c.in
}

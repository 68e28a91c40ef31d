package tsdb

import (
	"errors"

	"github.com/prometheus/prometheus/storage"
)

// A Quota bounds the active series of a tenant in the whole cluster, as far as
// this store can judge it: those in its head, but for what others hold.
type Quota struct {
	// Series is the most there may be in the whole cluster; 0: as many as there are.
	Series int64
	// Part is where this store counts; nil: nowhere, and it refuses no series.
	Part *Part
}

// Part is a part of a ring's slots: series in them tell how many there are in all.
type Part struct {
	bits  []uint64
	slots int
	held  int
}

// NewPart makes the part of those slots, a power of two of them and at most
// 65536, that counts says yes to.
func NewPart(slots int, counts func(slot int) bool) *Part {
	p := &Part{bits: make([]uint64, (slots+63)/64), slots: slots}
	for i := range slots {
		if counts(i) {
			p.bits[i/64] |= 1 << (i % 64)
			p.held++
		}
	}
	return p
}

func (p *Part) has(key uint64) bool {
	slot := key & uint64(p.slots-1)
	return p.bits[slot/64]&(1<<(slot%64)) != 0
}

var errSeriesLimit = errors.New("the tenant's active series are at their limit")

// beyond is how much of its quota a store takes on top, of series that another
// replica holds already: so much may the sets differ that replicas have taken.
const beyond = 0.5

// most is how many series this store takes in its part, as a number that may lie
// between two.
func (q Quota) most(held bool) float64 {
	most := float64(q.Series) * float64(q.Part.held) / float64(q.Part.slots)
	if held {
		most += beyond * most
	}
	return most
}

// quota is the tenant's at this moment; none where there is none.
func (e *engine) quota() Quota {
	if e.cfg.Quota == nil {
		return Quota{}
	}
	return e.cfg.Quota(e.key)
}

// full says whether a series that would be new is one too many.
func (e *engine) full(q Quota, hash uint64, held bool) bool {
	if q.Series <= 0 || q.Part == nil || q.Part.held == 0 {
		return false
	}
	key := e.census.place(hash)
	return q.Part.has(key) && float64(e.census.within(q.Part)) >= q.most(held)
}

// Use is how a tenant stands to its quota.
type Use struct {
	Key
	// Series is about how many active series it has in the whole cluster.
	Series float64
	// Most is how many it may have.
	Most int64
}

// Uses are those of the open tenants that have a quota which this store can judge.
func (d *DB) Uses() []Use {
	if d.cfg.Quota == nil {
		return nil
	}
	var all []Use
	for _, t := range d.all() {
		q := d.cfg.Quota(t.key)
		if q.Series <= 0 || q.Part == nil || q.Part.held == 0 {
			continue
		}
		if e := t.peek(); e != nil {
			counted := float64(e.census.within(q.Part))
			t.release()
			all = append(all, Use{t.key, counted * float64(q.Part.slots) / float64(q.Part.held), q.Series})
		}
	}
	return all
}

// full says whether the series, which would be new, is one too many.
func (p *pass) full() bool {
	if !p.asked {
		p.quota, p.asked = p.engine.quota(), true
	}
	return p.engine.full(p.quota, p.hash, p.held)
}

// adopt takes a series in again that was disowned, or refuses all of it.
func (p *pass) adopt(share Share, ref storage.SeriesRef) bool {
	if !p.full() {
		p.engine.census.adopt(ref)
		return true
	}
	for ; p.i < len(p.out) && one(share); p.i++ {
		p.out[p.i] = SeriesLimit
	}
	return false
}

// one goes to the next sample or histogram of a series.
func one(share Share) bool {
	_, _, ok := share.Sample()
	if !ok {
		_, _, _, ok = share.Histogram()
	}
	return ok
}

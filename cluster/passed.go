package cluster

import (
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// Passed is which series a store gets no sample of any more, by one state and by
// what the store has announced itself. It is made anew from the last one with each
// of either, and looks at a table only where one of the two concerns it.
type Passed struct {
	announced uint64
	rings     map[uint64]*PassedRing // by id
}

// PassedRing is the slots of one ring that a store has left for good.
type PassedRing struct {
	// Ring is the ring's id; 0 stands for no ring, which holds nothing.
	Ring uint64
	// News grows when slots come to those that were left before.
	News uint64

	table     *ring.Table
	left      ring.Held
	announced uint64
}

// PassedBy is what store st has passed; last is what it had before, nil at first.
func (s *State) PassedBy(st ring.Store, announced uint64, last *Passed) *Passed {
	p := &Passed{announced: announced, rings: make(map[uint64]*PassedRing, len(s.rings))}
	for _, r := range s.rings {
		id := r.Spec.GetId()
		var old *PassedRing
		if last != nil {
			old = last.rings[id]
		}
		p.rings[id] = old.next(id, r.Table, st, announced)
	}
	return p
}

func (r *PassedRing) next(id uint64, t *ring.Table, st ring.Store, announced uint64) *PassedRing {
	same := r != nil && r.table == t && r.left.Store() == st
	if same && (r.announced == announced || r.announced >= r.left.Newest()) {
		return r
	}
	now := &PassedRing{Ring: id, table: t, left: t.LeftBy(st, announced), announced: announced, News: 1}
	if r != nil {
		now.News = r.News
		if !now.left.Within(r.left) {
			now.News++
		}
	}
	return now
}

// Of is what of the tenant's ring was left; false while a write may still come by
// a ring that the tenant went through before, or by one that has just become its.
func (p *Passed) Of(t *clusterpb.Tenant) (*PassedRing, bool) {
	route := t.GetRoute()
	if route.GetFrom() > p.announced {
		return nil, false
	}
	for _, past := range t.GetPastRoutes() {
		if past.GetClosed() == 0 || past.GetTo() > p.announced {
			return nil, false
		}
	}
	if route.GetRing() == 0 {
		return &PassedRing{News: 1}, true
	}
	r := p.rings[route.GetRing()]
	return r, r != nil
}

// Gone says of a tenant's series, by the xxhash64 of their canonical labels,
// whether they were left.
func (r *PassedRing) Gone(tenant string) func(hash uint64) bool {
	if r.table == nil {
		return func(uint64) bool { return true }
	}
	part, slots := ring.TenantHash(tenant), r.table.Slots()
	return func(hash uint64) bool { return r.left.Has(ring.KeyOf(part, hash).Slot(slots)) }
}

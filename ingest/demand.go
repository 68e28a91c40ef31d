package ingest

import (
	"cmp"
	"slices"
)

// Demand is how many samples a second of a tenant come to this node, taken or
// refused. Only tenants with a limit of a second have one.
type Demand struct {
	// Tenant is its incarnation.
	Tenant  uint64
	Samples uint64
}

// maxDemands bounds what a heartbeat carries: the rest has no parts, and each
// node uses the whole of their limits.
const maxDemands = 1 << 14

// Demands are those of the tenants that have written lately, in the order of
// their incarnations.
func (i *Ingester) Demands() []Demand {
	r, now := i.rates, i.rates.now()
	r.mu.RLock()
	all := make([]Demand, 0, len(r.tenants))
	for _, x := range r.tenants {
		x.mu.Lock()
		if n := x.offered.rate(now); n >= 1 {
			all = append(all, Demand{x.incarnation, uint64(n)})
		}
		x.mu.Unlock()
	}
	r.mu.RUnlock()
	if len(all) > maxDemands {
		slices.SortFunc(all, func(a, b Demand) int { return cmp.Compare(b.Samples, a.Samples) })
		all = all[:maxDemands]
	}
	slices.SortFunc(all, func(a, b Demand) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return all
}

// SetParts tells how much of the demand of a tenant, by its incarnation, this node
// has, between 0 and 1, and what its part is of one that it has not told of. It
// holds for five seconds; without it this node grants a tenant's whole limit.
func (i *Ingester) SetParts(of map[uint64]float64, rest float64) {
	i.rates.parts.Store(&grants{at: i.rates.now(), of: of, rest: rest})
}

// RateUses calls f with each limit of a second that a tenant has: what of it is
// used in the whole cluster, as far as this node knows, as a part of it.
func (i *Ingester) RateUses(f func(tenant, limit string, used float64)) {
	type use struct {
		tenant, limit string
		used          float64
	}
	var all []use
	r, now := i.rates, i.rates.now()
	r.mu.RLock()
	for id, x := range r.tenants {
		x.mu.Lock()
		part := r.part(x.incarnation, now)
		for _, l := range x.each() {
			if l.limit > 0 {
				all = append(all, use{id, l.name, l.meter.rate(now) / part / float64(l.limit)})
			}
		}
		x.mu.Unlock()
	}
	r.mu.RUnlock()
	for _, u := range all {
		f(u.tenant, u.limit, u.used)
	}
}

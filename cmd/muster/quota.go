package main

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/tsdb"
)

// settledAfter is how long a store has held a slot before it judges by the series
// that it has of it: by then every sender has written to it.
const settledAfter = time.Hour

// placeOf gives the ring keys of a tenant's series.
func placeOf(tenant string) func(hash uint64) uint64 {
	part := ring.TenantHash(tenant)
	return func(hash uint64) uint64 { return uint64(ring.KeyOf(part, hash)) }
}

// quotas says what bounds a tenant's series, and by which slots this store judges
// that. Where slots came to it lately it cannot: their series are there still to
// come. Those of a tenant that is younger than the store's tenure of a slot are all
// there from the beginning.
type quotas struct {
	store [16]byte
	state func() *cluster.State
	now   func() time.Time // the cluster's

	mu    sync.Mutex
	rings map[uint64]*tenure // by id
}

// tenure is one ring's, of this store.
type tenure struct {
	table *ring.Table
	self  ring.Store
	*ring.Tenure
	parts map[int]*tsdb.Part // by steps
}

func newQuotas(store [16]byte, state func() *cluster.State, now func() time.Time) *quotas {
	return &quotas{store: store, state: state, now: now, rings: map[uint64]*tenure{}}
}

// of is the tenant's quota by the newest state: a change of its limit holds from
// the next share on.
func (q *quotas) of(key tsdb.Key) tsdb.Quota {
	st := q.state()
	t := st.Tenant(key.Tenant)
	if t.GetIncarnation() != key.Incarnation {
		return tsdb.Quota{}
	}
	most := st.TenantConfig(t).Limits.ActiveSeries
	if most <= 0 {
		return tsdb.Quota{}
	}
	return tsdb.Quota{Series: most, Part: q.part(st, t)}
}

// part is where this store counts a tenant's series; nil: nowhere.
func (q *quotas) part(st *cluster.State, t *clusterpb.Tenant) *tsdb.Part {
	before, ok := countsBefore(t, q.now())
	r := st.RingByID(t.GetRoute().GetRing())
	self := ring.Store(st.StoreByID(q.store[:]).GetNumber())
	if !ok || r == nil || r.Table == nil || self == 0 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	id := r.Spec.GetId()
	n := q.rings[id]
	if n == nil || n.table != r.Table || n.self != self {
		n = &tenure{table: r.Table, self: self, Tenure: r.Table.TenureOf(self), parts: map[int]*tsdb.Part{}}
		q.rings[id] = n
		q.forget(st)
	}
	steps := n.Steps(before)
	p := n.parts[steps]
	if p == nil {
		p = tsdb.NewPart(n.Slots(), func(slot int) bool { return n.HeldBefore(slot, before) })
		n.parts[steps] = p
	}
	return p
}

// forget drops rings that are no more. Under mu.
func (q *quotas) forget(st *cluster.State) {
	for id := range q.rings {
		if st.RingByID(id) == nil {
			delete(q.rings, id)
		}
	}
}

// countsBefore is the time, in Unix milliseconds, since when a store must have held
// a slot to know the tenant's series of it; false: none does, because the tenant
// has come from another ring.
func countsBefore(t *clusterpb.Tenant, now time.Time) (before int64, ok bool) {
	hour := now.Add(-settledAfter).UnixMilli()
	came := t.GetRoute().GetBeginMs()
	switch {
	case came <= hour:
		return hour, true
	case len(t.GetPastRoutes()) > 0:
		return 0, false
	}
	return came, true
}

// nearLimit is the part of a limit from which on its use is a warning.
const nearLimit = 0.8

var limitUse = prometheus.NewDesc("muster_tenant_limit_used_ratio",
	"How much of a limit a tenant uses in the whole cluster, as this node sees it, where that is 0.8 of it or more: a warning.",
	[]string{"tenant", "limit"}, nil)

// limitUses are the tenants near their limits, or at them.
type limitUses struct{ node *node }

// Describe is prometheus.Collector's.
func (limitUses) Describe(ch chan<- *prometheus.Desc) { ch <- limitUse }

// Collect is prometheus.Collector's.
func (u limitUses) Collect(ch chan<- prometheus.Metric) {
	if u.node.cluster == nil || u.node.ingest == nil {
		return
	}
	tell := func(tenant, limit string, used float64) {
		if used >= nearLimit {
			ch <- prometheus.MustNewConstMetric(limitUse, prometheus.GaugeValue, used, tenant, limit)
		}
	}
	for _, use := range u.node.tsdb.Uses() {
		tell(use.Tenant, "active_series", use.Series/float64(use.Most))
	}
	u.node.ingest.RateUses(tell)
}

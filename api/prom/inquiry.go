package prom

import (
	"sync"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// clockSlack is how far clocks and the way may part a sample's time from its
// write's, besides the tenants' windows; milliseconds.
const clockSlack = 2 * 60 * 1000

// farTime keeps sums of times from overflowing.
const farTime = int64(1) << 60

// slackOf is what completeness widens periods by, milliseconds.
func slackOf(st *cluster.State) int64 { return st.WidestWindow() + clockSlack }

// periodOf is a span of time that sums and differences do not overflow.
func periodOf(mint, maxt int64) ring.Period {
	return ring.Period{Begin: min(max(mint, -farTime), farTime), End: min(max(maxt, -farTime), farTime)}
}

// routed is a ring that a tenant was routed to, and the part of the asked
// period in which a write to it may have its time.
type routed struct {
	ring   *cluster.Ring
	period ring.Period
}

// routesOf are the rings that may have taken a sample of the period.
func routesOf(st *cluster.State, t *clusterpb.Tenant, p ring.Period, slack int64) []routed {
	var out []routed
	add := func(r *clusterpb.Route, end int64) {
		rg := st.RingByID(r.GetRing())
		if rg == nil || rg.Table == nil {
			return
		}
		span := ring.Period{Begin: r.GetBeginMs() - slack, End: end}
		if !span.Touches(p) {
			return
		}
		out = append(out, routed{rg, ring.Period{Begin: max(p.Begin, span.Begin), End: min(p.End, span.End)}})
	}
	if t.GetRoute() != nil {
		add(t.Route, farTime)
	}
	// A former route counts until it is forgotten, and not until its end only:
	// nobody closes routes yet, and a quorum that has not heard of the new one
	// goes on acknowledging by the old.
	for _, r := range t.GetPastRoutes() {
		add(r, farTime)
	}
	return out
}

// storesOf are the stores that may hold a sample of the tenant in the period.
func storesOf(st *cluster.State, t *clusterpb.Tenant, p ring.Period) map[ring.Store]bool {
	slack := slackOf(st)
	stores := map[ring.Store]bool{}
	for _, r := range routesOf(st, t, p, slack) {
		for _, s := range r.ring.Table.Stores(r.period, slack) {
			stores[s] = true
		}
	}
	return stores
}

// nodesOf are the members that have these stores now, each once.
func nodesOf(st *cluster.State, stores map[ring.Store]bool) []string {
	var out []string
	for _, m := range st.Members() {
		if stores[ring.Store(m.GetStore())] {
			out = append(out, m.GetName())
		}
	}
	return out
}

// inquiry is one question about one tenant, and who answered it.
type inquiry struct {
	tenant      string
	incarnation uint64
	period      ring.Period
	asked       map[ring.Store]bool

	mu      sync.Mutex
	used    bool // its answer went into the result
	answers map[ring.Store]*peerpb.StoreAnswer
}

// answered notes a whole answer. A store that the state does not know cannot
// count for anything.
func (i *inquiry) answered(st *cluster.State, p *peerpb.Provenance) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range p.GetStores() {
		if s := st.StoreByID(a.GetStore()); s != nil {
			i.answers[ring.Store(s.GetNumber())] = a
		}
	}
}

func (i *inquiry) use() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.used = true
}

// counts says whether the store's answer counts for the period. A gap is a time
// of writing, and what it lost may be older or newer by the slack.
func (i *inquiry) counts(s ring.Store, p ring.Period, slack int64) bool {
	a := i.answers[s]
	if a == nil || !a.GetReplayed() {
		return false
	}
	for _, g := range a.GetGaps() {
		if periodOf(g.GetMinTime(), g.GetMaxTime()).Widen(slack).Touches(p) {
			return false
		}
	}
	return true
}

// judge says what the answer lacks by the state st, which may be newer than
// the one it was asked by; stale is true where that state names stores that
// were not asked, so that asking again may help.
func (i *inquiry) judge(st *cluster.State, now int64) (lacks []lack, stale bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.used {
		return nil, false
	}
	t := st.Tenant(i.tenant)
	if t == nil {
		return nil, false // deleted meanwhile: there is nothing that it could lack
	}
	if t.GetIncarnation() != i.incarnation {
		return nil, true
	}
	period := i.period
	if keep := st.TenantConfig(t).Retention; keep > 0 {
		period.Begin = max(period.Begin, now-keep)
	}
	if period.Begin > period.End {
		return nil, false
	}
	slack := slackOf(st)
	counts := func(s ring.Store, p ring.Period) bool { return i.counts(s, p, slack) }
	for _, r := range routesOf(st, t, period, slack) {
		for _, m := range r.ring.Table.Complete(r.period, slack, counts) {
			lacks = append(lacks, lack{ring: r.ring.Spec.GetName(), Missing: m})
			for _, s := range m.Silent {
				stale = stale || !i.asked[s] && st.Holder(s) != nil
			}
		}
	}
	return lacks, stale
}

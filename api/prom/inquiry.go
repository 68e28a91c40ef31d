package prom

import (
	"fmt"
	"slices"
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
	// A former route counts until it was closed, and not until its end only: a
	// quorum that has not heard of the new one goes on acknowledging by the old.
	for _, r := range t.GetPastRoutes() {
		end := farTime
		if r.GetClosed() != 0 {
			end = max(r.GetEndMs(), r.GetClosedMs()) + slack
		}
		add(r, end)
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
	if forgets(st, p, slack) {
		for _, m := range st.Members() {
			stores[ring.Store(m.GetStore())] = true
		}
	}
	return stores
}

// forgets says whether slots may have been elsewhere at that time than the state
// knows: a recovery has lost the changes. Then every member may hold something.
func forgets(st *cluster.State, p ring.Period, slack int64) bool {
	return len(forgotten(st, p, slack)) > 0
}

// forgotten are the parts of a period from which a recovery has lost changes of
// the slots.
func forgotten(st *cluster.State, p ring.Period, slack int64) []ring.Period {
	var out []ring.Period
	for _, l := range st.Cluster().GetLostHistory() {
		lost := periodOf(l.GetSinceMs(), l.GetTimeMs()).Widen(slack)
		if lost.Touches(p) {
			out = append(out, ring.Period{Begin: max(p.Begin, lost.Begin), End: min(p.End, lost.End)})
		}
	}
	return out
}

// holders says what the answer lacks of the time that a recovery has forgotten:
// any member may have held any slot then, so each has to answer for it.
func (i *inquiry) holders(st *cluster.State, p ring.Period, slack int64) (lacks []lack, stale bool) {
	for _, lost := range forgotten(st, p, slack) {
		var silent []ring.Store
		for _, m := range st.Members() {
			if s := ring.Store(m.GetStore()); !i.counts(st, s, lost, slack) {
				silent = append(silent, s)
				stale = stale || i.unasked(st, s)
			}
		}
		if len(silent) > 0 {
			lacks = append(lacks, lack{note: fmt.Sprintf("who held what from %s to %s was lost when the cluster was recovered, so every member has to answer: missing %s",
				timeText(lost.Begin), timeText(lost.End), names(st, silent))})
		}
	}
	return lacks, stale
}

// expired says what nobody can tell about a tenant that is kept for ever: who
// held it at times whose epochs or routes were too many to remember.
func expired(st *cluster.State, t *clusterpb.Tenant, p ring.Period, slack int64) (lacks []lack) {
	if st.TenantConfig(t).Retention != 0 {
		return nil
	}
	if ms := t.GetForgottenMs(); ms != 0 && p.Begin < ms+slack {
		lacks = append(lacks, lack{note: fmt.Sprintf("by which rings tenant %q went before %s is not remembered any more", t.GetId(), timeText(ms+slack))})
	}
	for _, r := range routesOf(st, t, p, slack) {
		if ms := r.ring.Spec.GetForgottenMs(); ms != 0 && r.period.Begin < ms+slack {
			lacks = append(lacks, lack{note: fmt.Sprintf("who held ring %q before %s is not remembered any more", r.ring.Spec.GetName(), timeText(ms+slack))})
		}
	}
	return lacks
}

// nodesOf are the members that have these stores now, and those that keep one
// for a node that leaves or has left, each once.
func nodesOf(st *cluster.State, stores map[ring.Store]bool) []string {
	keeping := map[uint32]bool{}
	for s := range stores {
		for _, c := range st.Store(s).GetCustodians() {
			keeping[c] = true
		}
	}
	var out []string
	for _, m := range st.Members() {
		if stores[ring.Store(m.GetStore())] || keeping[m.GetStore()] {
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
	asked       map[string]bool // nodes

	mu      sync.Mutex
	used    bool // its answer went into the result
	answers map[ring.Store][]given
}

// given is a node's answer for a store: its own, or one that it keeps.
type given struct {
	*peerpb.StoreAnswer
	by ring.Store // the node's own
}

// answered notes a whole answer. A store that the state does not know cannot
// count for anything.
func (i *inquiry) answered(st *cluster.State, node string, p *peerpb.Provenance) {
	by := ring.Store(st.Member(node).GetStore())
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range p.GetStores() {
		if s := st.StoreByID(a.GetStore()); s != nil {
			n := ring.Store(s.GetNumber())
			i.answers[n] = append(i.answers[n], given{a, by})
		}
	}
}

func (i *inquiry) use() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.used = true
}

// counts says whether some answer for the store counts for the period: its own
// node's, or that of one whose custody it still is.
func (i *inquiry) counts(st *cluster.State, s ring.Store, p ring.Period, slack int64) bool {
	return slices.ContainsFunc(i.answers[s], func(a given) bool {
		if a.by != s {
			if since, ok := st.Custody(s, a.by); !ok || a.GetCustody() != since {
				return false
			}
		}
		return a.whole(p, slack)
	})
}

// whole says whether the answer lacks nothing of the period. A gap is a time of
// writing, and what it lost may be older or newer by the slack.
func (a given) whole(p ring.Period, slack int64) bool {
	if !a.GetReplayed() {
		return false
	}
	for _, g := range a.GetGaps() {
		if periodOf(g.GetMinTime(), g.GetMaxTime()).Widen(slack).Touches(p) {
			return false
		}
	}
	return true
}

// unasked says whether somebody has the store who was not asked.
func (i *inquiry) unasked(st *cluster.State, s ring.Store) bool {
	for _, n := range nodesOf(st, map[ring.Store]bool{s: true}) {
		if !i.asked[n] {
			return true
		}
	}
	return false
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
	counts := func(s ring.Store, p ring.Period) bool { return i.counts(st, s, p, slack) }
	lacks, stale = i.holders(st, period, slack)
	lacks = append(lacks, expired(st, t, period, slack)...)
	for _, r := range routesOf(st, t, period, slack) {
		for _, m := range r.ring.Table.Complete(r.period, slack, counts) {
			lacks = append(lacks, lack{ring: r.ring.Spec.GetName(), Missing: m})
			for _, s := range m.Silent {
				stale = stale || i.unasked(st, s)
			}
		}
	}
	return lacks, stale
}

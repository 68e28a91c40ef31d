package cluster

import (
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// LongestRetention is the longest finite local retention that a tenant has or
// would get, in milliseconds: closed epochs are kept for so long and a day.
func (s *State) LongestRetention() int64 {
	longest := configOf(nil, s.settings.GetTenantDefaults()).Retention
	s.WalkTenants("", func(t *clusterpb.Tenant) bool {
		if t.GetSpec() != nil {
			longest = max(longest, s.TenantConfig(t).Retention)
		}
		return true
	})
	return longest
}

// expire drops what the leader says is over.
func (e *edit) expire(c *clusterpb.Expire) (uint64, *clusterpb.Refusal) {
	if r := firstOf(
		e.checkPast("epochs_before", c.GetEpochsBeforeMs()),
		e.checkPast("tombstones_before", c.GetTombstonesBeforeMs()),
		e.checkPast("tokens_before", c.GetTokensBeforeMs()),
	); r != nil {
		return 0, r
	}
	epochs := e.expireEpochs(c.GetEpochsBeforeMs())
	routes := e.expireRoutes(c.GetEpochsBeforeMs())
	rings := e.expireRings(c.GetEpochsBeforeMs())
	tombstones := e.expireTombstones(c)
	tokens := e.expireTokens(c.GetTokensBeforeMs())
	tokens += e.expireTenantTokens(c.GetTokensBeforeMs())
	certificates := e.expireIssued()
	if epochs+routes+rings+tombstones+tokens+certificates > 0 {
		e.note("history expired", "", fmt.Sprintf("%d epochs, %d routes, %d deleted rings, %d tombstones, %d tokens, %d certificates",
			epochs, routes, rings, tombstones, tokens, certificates))
	}
	return 0, nil
}

func (e *edit) checkPast(field string, t int64) *clusterpb.Refusal {
	if t >= 0 && t <= e.now {
		return nil
	}
	return invalid(field, "%s %d lies outside of the time until now, %d", field, t, e.now)
}

// What is remembered for tenants that are kept for ever, at most: epochs of a
// ring, and former routes of a tenant.
const (
	maxEpochsForEver = 1 << 18
	maxRoutesForEver = 1000
)

// expireEpochs forgets epochs that were closed before that time. Where a tenant
// is kept for ever its samples stay on their stores, and so do the epochs; those
// that are too many are forgotten, and the ring remembers that.
func (e *edit) expireEpochs(before int64) int {
	n, forEver := 0, e.ringsForEver()
	for _, old := range e.next.AllRings() {
		if forEver[old.Spec.GetId()] && len(old.Table.Past()) <= maxEpochsForEver {
			continue
		}
		table := old.Table.Expire(before)
		if gone := len(old.Table.Past()) - len(table.Past()); gone > 0 {
			spec := old.Spec
			if forEver[spec.GetId()] {
				spec = copyOf(spec)
				spec.ForgottenMs = before
			}
			e.setRing(&Ring{Spec: spec, Table: table})
			e.changed.Rings = true
			n += gone
		}
	}
	return n
}

// ringsForEver are the rings that a tenant goes or went by which is kept for ever.
func (e *edit) ringsForEver() map[uint64]bool {
	rings := map[uint64]bool{}
	e.next.WalkTenants("", func(t *clusterpb.Tenant) bool {
		if e.next.TenantConfig(t).Retention == 0 {
			rings[t.GetRoute().GetRing()] = true
			for _, r := range t.GetPastRoutes() {
				rings[r.GetRing()] = true
			}
		}
		return true
	})
	return rings
}

// expireRoutes forgets by which rings tenants went whose routes were closed
// before that time: by one that is open writes may still begin.
func (e *edit) expireRoutes(before int64) int {
	n := 0
	tenants := e.next.tenants.Txn()
	e.next.WalkTenants("", func(t *clusterpb.Tenant) bool {
		forEver := e.next.TenantConfig(t).Retention == 0
		if forEver && len(t.GetPastRoutes()) <= maxRoutesForEver {
			return true
		}
		var kept []*clusterpb.Route
		for _, r := range t.GetPastRoutes() {
			if r.GetClosed() == 0 || max(r.GetEndMs(), r.GetClosedMs()) >= before {
				kept = append(kept, r)
			}
		}
		if len(kept) == len(t.GetPastRoutes()) {
			return true
		}
		n += len(t.GetPastRoutes()) - len(kept)
		next := copyOf(t)
		next.PastRoutes = kept
		if forEver {
			next.ForgottenMs = before
		}
		discount(e, kindTenant, t)
		count(e, kindTenant, next)
		tenants.Insert([]byte(t.GetId()), next)
		e.changed.touch(t.GetId())
		return true
	})
	e.next.tenants = tenants.CommitOnly()
	return n
}

// expireRings drops deleted rings that nothing remembers: no epoch is left,
// and no tenant went by them.
func (e *edit) expireRings(before int64) int {
	remembered := map[uint64]bool{}
	e.next.WalkTenants("", func(t *clusterpb.Tenant) bool {
		for _, r := range t.GetPastRoutes() {
			remembered[r.GetRing()] = true
		}
		return true
	})
	n := 0
	for _, r := range e.next.AllRings() {
		if r.Deleted() && r.Spec.GetDeletedTimeMs() < before && len(r.Table.Past()) == 0 && !remembered[r.Spec.GetId()] {
			i, _ := findRing(e.next.rings, r.Spec.GetId())
			e.next.rings = without(e.next.rings, i)
			e.next.sum -= r.sum
			e.changed.Rings = true
			n++
		}
	}
	return n
}

// expireTombstones forgets deleted tenants whose deletion every member has heard
// of: one that slept would bring its tenant back otherwise.
func (e *edit) expireTombstones(c *clusterpb.Expire) int {
	n := 0
	e.next.WalkTombstones(func(ts *clusterpb.Tombstone) bool {
		heard := c.TombstonesThrough == nil || ts.GetRevision() <= c.GetTombstonesThrough()
		if ts.GetTimeMs() < c.GetTombstonesBeforeMs() && heard {
			e.dropTombstone(ts)
			e.changed.touch(ts.GetTenant())
			n++
		}
		return true
	})
	return n
}

func (e *edit) expireTokens(before int64) int {
	n := 0
	for _, t := range e.next.Tokens() {
		if t.GetExpiresMs() != 0 && t.GetExpiresMs() < before {
			e.dropToken(t)
			n++
		}
	}
	return n
}

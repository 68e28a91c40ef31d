package cluster

import "github.com/muster-metrics/muster/proto/clusterpb"

// maxPastRoutes bounds the earlier routes of a tenant that still matter.
const maxPastRoutes = 256

// listedTenants is how many changed tenants are worth naming one by one.
const listedTenants = 64

// reroute sends every tenant to the ring that claims it now; the periods that
// end stay with the tenant, since reads ask the rings of the past as well.
func (e *edit) reroute() *clusterpb.Refusal {
	tenants := e.next.tenants.Txn()
	var moved []string
	var refusal *clusterpb.Refusal
	e.next.WalkTenants("", func(t *clusterpb.Tenant) bool {
		to := e.next.claims.of(t.GetId()).ring
		if to == t.GetRoute().GetRing() {
			return true
		}
		next := e.routed(t, to)
		if len(next.GetPastRoutes()) > maxPastRoutes {
			refusal = full("tenants", "tenant %s has changed its ring %d times within the time that reads may ask for: that is the most", t.GetId(), maxPastRoutes)
			return false
		}
		discount(e, kindTenant, t)
		count(e, kindTenant, next)
		tenants.Insert([]byte(t.GetId()), next)
		moved = append(moved, t.GetId())
		return true
	})
	if refusal != nil {
		return refusal
	}
	e.next.tenants = tenants.CommitOnly()
	e.changed.touch(moved...)
	return nil
}

// routed is the tenant on its way to ring to from now on.
func (e *edit) routed(t *clusterpb.Tenant, to uint64) *clusterpb.Tenant {
	next := copyOf(t)
	if old := next.GetRoute(); old.GetRing() != 0 && old.GetFrom() != e.rev {
		old.To, old.EndMs = e.rev, e.now
		next.PastRoutes = append(next.PastRoutes, old)
	}
	next.Route = &clusterpb.Route{Ring: to, From: e.rev, BeginMs: e.now}
	return next
}

func ringID(r *Ring) uint64 {
	if r == nil {
		return 0
	}
	return r.Spec.GetId()
}

// touch adds tenants that changed.
func (k *Keys) touch(tenants ...string) {
	if k.AllTenants || len(k.Tenants)+len(tenants) > listedTenants {
		k.AllTenants, k.Tenants = true, nil
		return
	}
	k.Tenants = append(k.Tenants, tenants...)
}

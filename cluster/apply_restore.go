package cluster

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// restoreState puts back what a snapshot holds, all or nothing. Every object
// must be at the version at which the difference was computed.
func (e *edit) restoreState(c *clusterpb.RestoreState) (uint64, *clusterpb.Refusal) {
	if c.GetSettings() != nil {
		if v := e.next.settings.GetVersion(); v != c.GetSettingsVersion() {
			return 0, overtaken("settings", "", v)
		}
		if _, r := e.putSettings(&clusterpb.PutSettings{Settings: c.GetSettings()}); r != nil {
			return 0, r
		}
	}
	if r := e.restoreRings(c.GetRings()); r != nil {
		return 0, r
	}
	for _, t := range c.GetTenants() {
		if r := e.restoreTenant(t); r != nil {
			return 0, r
		}
	}
	if r := firstOf(e.checkAllHoused(c.GetRings()), e.reroute()); r != nil {
		return 0, r
	}
	for _, t := range c.GetTokens() {
		if r := e.addToken(t); r != nil {
			return 0, r
		}
	}
	settings := 0
	if c.GetSettings() != nil {
		settings = 1
	}
	e.note("state restored", e.next.cluster.GetName(), fmt.Sprintf("%s: %d settings, %d rings, %d tenants, %d tokens",
		text(c.GetSource(), 300), settings, len(c.GetRings()), len(c.GetTenants()), len(c.GetTokens())))
	return e.rev, nil
}

// checkAllHoused refuses a restore after which no ring takes some tenant that one
// took before.
func (e *edit) checkAllHoused(list []*clusterpb.RestoredRing) *clusterpb.Refusal {
	if len(list) == 0 {
		return nil
	}
	for _, r := range e.next.AllRings() {
		if refusal := e.checkHoused(r); refusal != nil {
			return refusal
		}
	}
	return nil
}

// overtaken refuses a difference that was computed before somebody else's
// change: the asker computes it again.
func overtaken(what, name string, version uint64) *clusterpb.Refusal {
	return refuse(clusterpb.Refusal_CONFLICT_VERSION, "version", "%s %s was changed meanwhile, it has version %d: compare again", what, quote(name), version)
}

// restoreRings replaces rings' definitions together: what they claim is judged
// when all are in place.
func (e *edit) restoreRings(list []*clusterpb.RestoredRing) *clusterpb.Refusal {
	for _, rr := range list {
		put := rr.GetRing()
		old := e.next.Ring(put.GetName())
		if v := ringVersion(old); v != rr.GetVersion() {
			return overtaken("ring", put.GetName(), v)
		}
		if rr.GetDelete() {
			if old == nil {
				return notFound("there is no ring %s", quote(put.GetName()))
			}
			if r := e.endRing(old); r != nil {
				return r
			}
		}
	}
	for _, rr := range list {
		if rr.GetDelete() {
			continue
		}
		put := rr.GetRing()
		if r := e.checkRing(put); r != nil {
			return r
		}
		var r *clusterpb.Refusal
		if old := e.next.Ring(put.GetName()); old == nil {
			r = e.newRing(put)
		} else {
			r = e.replaceRing(old, put)
		}
		if r != nil {
			return r
		}
	}
	if len(list) == 0 {
		return nil
	}
	e.changed.Rings = true
	for _, r := range e.next.Rings() {
		if refusal := e.checkPatterns(&clusterpb.PutRing{Name: r.Spec.GetName(), Tenants: r.Spec.GetTenants()}); refusal != nil {
			return refusal
		}
	}
	return nil
}

// restoreTenant makes one tenant what it was: its state, its spec, its tokens. A
// tenant that was deleted comes back as a new incarnation.
func (e *edit) restoreTenant(t *clusterpb.RestoredTenant) *clusterpb.Refusal {
	if r := checkTenantID("id", t.GetId()); r != nil {
		return r
	}
	old := e.next.Tenant(t.GetId())
	if v := old.GetVersion(); v != t.GetVersion() {
		return overtaken("tenant", t.GetId(), v)
	}
	if t.GetDelete() {
		_, r := e.deleteTenant(&clusterpb.DeleteTenant{Id: t.GetId()})
		return r
	}
	if _, r := e.putTenant(&clusterpb.PutTenant{Id: t.GetId(), State: t.GetState(), Spec: t.GetSpec()}); r != nil {
		return r
	}
	return e.restoreTenantTokens(t)
}

func (e *edit) restoreTenantTokens(t *clusterpb.RestoredTenant) *clusterpb.Refusal {
	if len(t.GetTokens()) > maxTenantTokens {
		return full("tokens", "tenant %s with %d tokens: at most %d", t.GetId(), len(t.GetTokens()), maxTenantTokens)
	}
	next := copyOf(e.next.Tenant(t.GetId()))
	for _, tok := range next.GetTokens() {
		e.next.tenantHashes, _, _ = e.next.tenantHashes.Delete(tok.GetHash())
	}
	next.Tokens = nil
	for _, tok := range t.GetTokens() {
		if r := firstOf(checkName("id", "token id", tok.GetId()), checkBytes("hash", tok.GetHash(), hashLen)); r != nil {
			return r
		}
		if _, taken := e.next.tenantHashes.Get(tok.GetHash()); taken || slices.ContainsFunc(next.GetTokens(), hasID(tok.GetId())) {
			return refuse(clusterpb.Refusal_EXISTS, "tokens", "token %s of tenant %s exists already", quote(tok.GetId()), t.GetId())
		}
		next.Tokens = append(next.Tokens, copyOf(tok))
		e.next.tenantHashes, _, _ = e.next.tenantHashes.Insert(bytes.Clone(tok.GetHash()), t.GetId())
	}
	e.setTenant(next)
	return nil
}

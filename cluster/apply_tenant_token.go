package cluster

import (
	"bytes"
	"slices"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// maxTenantTokens bounds the tokens of one tenant.
const maxTenantTokens = 100

func (e *edit) createTenantToken(c *clusterpb.CreateTenantToken) (uint64, *clusterpb.Refusal) {
	t, r := e.tenant("tenant", c.GetTenant())
	if r != nil {
		return 0, r
	}
	tok := c.GetToken()
	if r := firstOf(checkName("id", "token id", tok.GetId()), checkBytes("hash", tok.GetHash(), hashLen), e.checkExpiry(tok.GetExpiresMs())); r != nil {
		return 0, r
	}
	if _, taken := e.next.tenantHashes.Get(tok.GetHash()); taken || slices.ContainsFunc(t.GetTokens(), hasID(tok.GetId())) {
		return 0, refuse(clusterpb.Refusal_EXISTS, "id", "token %s exists already", tok.GetId())
	}
	if len(t.GetTokens()) >= maxTenantTokens {
		return 0, full("tenant", "tenant %s has %d tokens: revoke one first", t.GetId(), maxTenantTokens)
	}
	next := copyOf(t)
	next.Tokens = append(next.Tokens, &clusterpb.TenantToken{
		Id: tok.GetId(), Hash: bytes.Clone(tok.GetHash()), CreatedMs: e.now, ExpiresMs: tok.GetExpiresMs(), CreatedBy: e.by(),
	})
	next.Version = e.rev
	e.setTenant(next)
	e.next.tenantHashes, _, _ = e.next.tenantHashes.Insert(bytes.Clone(tok.GetHash()), t.GetId())
	e.note("tenant token created", t.GetId(), tok.GetId())
	return e.rev, nil
}

func (e *edit) revokeTenantToken(c *clusterpb.RevokeTenantToken) (uint64, *clusterpb.Refusal) {
	t, r := e.tenant("tenant", c.GetTenant())
	if r != nil {
		return 0, r
	}
	i := slices.IndexFunc(t.GetTokens(), hasID(c.GetId()))
	if i < 0 {
		return 0, notFound("tenant %s has no token %s", t.GetId(), quote(c.GetId()))
	}
	next := copyOf(t)
	next.Tokens = slices.Delete(next.Tokens, i, i+1)
	next.Version = e.rev
	e.setTenant(next)
	e.next.tenantHashes, _, _ = e.next.tenantHashes.Delete(t.GetTokens()[i].GetHash())
	e.note("tenant token revoked", t.GetId(), c.GetId())
	return e.rev, nil
}

func hasID(id string) func(*clusterpb.TenantToken) bool {
	return func(t *clusterpb.TenantToken) bool { return t.GetId() == id }
}

// checkExpiry wants a time to come, or 0 for never.
func (e *edit) checkExpiry(ms int64) *clusterpb.Refusal {
	switch {
	case ms < 0 || ms > maxTime:
		return invalid("expires", "the token's end %d is no time", ms)
	case ms != 0 && ms <= e.now:
		return invalid("expires", "the token would have expired already")
	}
	return nil
}

// expireTenantTokens forgets tokens that expired before that time.
func (e *edit) expireTenantTokens(before int64) int {
	over := func(t *clusterpb.TenantToken) bool { return t.GetExpiresMs() != 0 && t.GetExpiresMs() < before }
	var touched []*clusterpb.Tenant
	e.next.WalkTenants("", func(t *clusterpb.Tenant) bool {
		if slices.ContainsFunc(t.GetTokens(), over) {
			touched = append(touched, t)
		}
		return true
	})
	n := 0
	for _, t := range touched {
		for _, tok := range t.GetTokens() {
			if over(tok) {
				e.next.tenantHashes, _, _ = e.next.tenantHashes.Delete(tok.GetHash())
				n++
			}
		}
		next := copyOf(t)
		next.Tokens = slices.DeleteFunc(next.Tokens, over)
		// Nobody has changed the tenant: its version stays.
		e.next.tenants = insert(e, e.next.tenants, []byte(t.GetId()), kindTenant, next)
		e.changed.touch(t.GetId())
	}
	return n
}

package cluster

import (
	"bytes"
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Bounds on what a tenant may be given.
const (
	maxWindow    = 365 * day
	maxRetention = 100 * 365 * day
	maxLimit     = int64(1) << 53
	hashLen      = 32
)

// putTenant creates a tenant or replaces what an operator wrote of it.
func (e *edit) putTenant(c *clusterpb.PutTenant) (uint64, *clusterpb.Refusal) {
	if r := firstOf(checkTenantID("id", c.GetId()), checkSpec("", c.GetSpec()), checkTenantState(c.GetState())); r != nil {
		return 0, r
	}
	old := e.next.Tenant(c.GetId())
	if c.GetAutomatic() && old != nil {
		return old.GetVersion(), nil // another node's write was first
	}
	if r := e.expect("tenant", c.GetId(), old.GetVersion()); r != nil {
		return 0, r
	}
	if old == nil {
		return e.createTenant(c)
	}
	next := copyOf(old)
	next.State, next.Spec, next.Version = c.GetState(), specOf(c.GetSpec()), e.rev
	e.setTenant(next)
	e.widen(e.next.TenantConfig(next).window())
	e.note("tenant changed", next.GetId(), "")
	return e.rev, nil
}

func (e *edit) createTenant(c *clusterpb.PutTenant) (uint64, *clusterpb.Refusal) {
	if r := e.checkCreation(c); r != nil {
		return 0, r
	}
	t := &clusterpb.Tenant{
		Id: c.GetId(), Incarnation: e.rev, Version: e.rev,
		Route: &clusterpb.Route{Ring: ringID(e.next.RouteOf(c.GetId())), From: e.rev, BeginMs: e.now},
	}
	detail := "by its first write"
	if !c.GetAutomatic() {
		t.State, t.Spec = c.GetState(), specOf(c.GetSpec())
		detail = ""
	}
	e.dropTombstone(e.next.Tombstone(c.GetId()))
	e.setTenant(t)
	e.widen(e.next.TenantConfig(t).window())
	e.note("tenant created", t.GetId(), detail)
	return e.rev, nil
}

func (e *edit) checkCreation(c *clusterpb.PutTenant) *clusterpb.Refusal {
	if c.GetAutomatic() {
		if ts := e.next.Tombstone(c.GetId()); ts != nil {
			return refuse(clusterpb.Refusal_DELETED, "id", "tenant %s was deleted at revision %d: create it again with `muster tenant create`", c.GetId(), ts.GetRevision())
		}
		if !e.next.settings.GetAutoCreateTenants() {
			return refuse(clusterpb.Refusal_DENIED, "id", "tenant %s does not exist, and tenants are not created by writing: create it with `muster tenant create`", c.GetId())
		}
	}
	if most := e.next.settings.GetMaxTenants(); int64(e.next.TenantCount()) >= most {
		return full("id", "there are %d tenants, as many as the setting max_tenants allows", most)
	}
	return nil
}

// deleteTenant ends the tenant's incarnation and leaves a tombstone, which knows
// its tokens: who still sends one is told that the tenant was deleted.
func (e *edit) deleteTenant(c *clusterpb.DeleteTenant) (uint64, *clusterpb.Refusal) {
	t, r := e.tenant("id", c.GetId())
	if r != nil {
		return 0, r
	}
	e.next.tenants = drop(e, e.next.tenants, []byte(t.GetId()), kindTenant)
	e.differ("tenant", t.GetId(), tenantFacts(t), nil)
	ts := &clusterpb.Tombstone{Tenant: t.GetId(), Incarnation: t.GetIncarnation(), Revision: e.rev, TimeMs: e.now}
	for _, tok := range t.GetTokens() {
		ts.TokenHashes = append(ts.TokenHashes, bytes.Clone(tok.GetHash()))
	}
	e.next.tombstones = insert(e, e.next.tombstones, []byte(ts.Tenant), kindTombstone, ts)
	e.changed.touch(t.GetId())
	e.note("tenant deleted", t.GetId(), fmt.Sprintf("incarnation %d", t.GetIncarnation()))
	return 0, nil
}

// tenant is the tenant that a command names, with the version it expects.
func (e *edit) tenant(field, id string) (*clusterpb.Tenant, *clusterpb.Refusal) {
	if r := checkTenantID(field, id); r != nil {
		return nil, r
	}
	t := e.next.Tenant(id)
	if r := e.expect("tenant", id, t.GetVersion()); r != nil {
		return nil, r
	}
	if t == nil {
		return nil, notFound("there is no tenant %s", id)
	}
	return t, nil
}

// dropTombstone forgets a deleted tenant, with its tokens; nil is none.
func (e *edit) dropTombstone(ts *clusterpb.Tombstone) {
	if ts == nil {
		return
	}
	for _, hash := range ts.GetTokenHashes() {
		e.next.tenantHashes, _, _ = e.next.tenantHashes.Delete(hash)
	}
	e.next.tombstones = drop(e, e.next.tombstones, []byte(ts.GetTenant()), kindTombstone)
}

// setTenant puts a tenant that this change has made into the state.
func (e *edit) setTenant(t *clusterpb.Tenant) {
	t.ChangedMs, t.ChangedBy = e.now, e.by()
	if t.GetIncarnation() == e.rev {
		t.CreatedMs, t.CreatedBy = t.GetChangedMs(), t.GetChangedBy()
	}
	e.differ("tenant", t.GetId(), tenantFacts(e.next.Tenant(t.GetId())), tenantFacts(t))
	e.next.tenants = insert(e, e.next.tenants, []byte(t.GetId()), kindTenant, t)
	e.changed.touch(t.GetId())
}

func specOf(s *clusterpb.TenantSpec) *clusterpb.TenantSpec {
	if s == nil {
		return nil
	}
	return copyOf(s)
}

func stateText(s clusterpb.TenantState) string {
	if s == clusterpb.TenantState_TENANT_SUSPENDED {
		return "suspended"
	}
	return "active"
}

func checkTenantState(s clusterpb.TenantState) *clusterpb.Refusal {
	if s == clusterpb.TenantState_TENANT_ACTIVE || s == clusterpb.TenantState_TENANT_SUSPENDED {
		return nil
	}
	return invalid("state", "state %d: want active or suspended", s)
}

// specField is a field of a tenant's spec, by the name that the admin API gives it.
type specField struct {
	name  string
	value *int64
	most  int64
}

func specFields(s *clusterpb.TenantSpec) []specField {
	if s == nil {
		s = &clusterpb.TenantSpec{}
	}
	l := s.GetLimits()
	if l == nil {
		l = &clusterpb.Limits{}
	}
	return []specField{
		{"retention", s.RetentionMs, maxRetention},
		{"out_of_order_window", s.OutOfOrderWindowMs, maxWindow},
		{"future_window", s.FutureWindowMs, maxWindow},
		{"limits.active_series", l.ActiveSeries, maxLimit},
		{"limits.new_series_per_second", l.NewSeriesPerSecond, maxLimit},
		{"limits.samples_per_second", l.SamplesPerSecond, maxLimit},
		{"limits.burst_samples", l.BurstSamples, maxLimit},
		{"limits.request_bytes", l.RequestBytes, maxLimit},
		{"limits.series_per_request", l.SeriesPerRequest, maxLimit},
		{"limits.samples_per_request", l.SamplesPerRequest, maxLimit},
		{"limits.label_names_per_series", l.LabelNamesPerSeries, maxLimit},
		{"limits.label_name_length", l.LabelNameLength, maxLimit},
		{"limits.label_value_length", l.LabelValueLength, maxLimit},
		{"limits.exemplars", l.Exemplars, maxLimit},
	}
}

// checkSpec wants every field that is there to be possible; prefix is what the
// admin API writes before the fields' names.
func checkSpec(prefix string, s *clusterpb.TenantSpec) *clusterpb.Refusal {
	for _, f := range specFields(s) {
		switch {
		case f.value == nil:
		case *f.value < 0:
			return invalid(prefix+f.name, "%s%s is negative", prefix, f.name)
		case *f.value > f.most:
			return invalid(prefix+f.name, "%s%s is beyond what is possible, %d", prefix, f.name, f.most)
		}
	}
	return checkRelabel(prefix, s.GetRelabel())
}

package cluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func TestATenantsLife(t *testing.T) {
	h := created(t, 1, 1)
	spec := &clusterpb.TenantSpec{RetentionMs: ref(int64(0)), Limits: &clusterpb.Limits{ActiveSeries: ref(int64(5))}}
	res := h.do(&clusterpb.PutTenant{Id: "a", Spec: spec})
	*spec.RetentionMs = 7 // the asker's own again
	tn := h.state.Tenant("a")
	if tn.GetIncarnation() != h.rev || tn.GetRoute().GetFrom() != h.rev || tn.GetSpec().GetRetentionMs() != 0 || !slices.Equal(res.Changed.Tenants, []string{"a"}) {
		t.Fatalf("tenant %v, changed %+v", tn, res.Changed)
	}
	born := h.rev
	h.do(&clusterpb.PutTenant{Id: "a", State: clusterpb.TenantState_TENANT_SUSPENDED})
	if tn := h.state.Tenant("a"); tn.GetIncarnation() != born || tn.GetVersion() != h.rev || tn.GetSpec() != nil || tn.GetState() != clusterpb.TenantState_TENANT_SUSPENDED {
		t.Fatalf("tenant %v", tn)
	}
	if res := h.do(&clusterpb.DeleteTenant{Id: "a"}); res.Version != 0 {
		t.Fatalf("a deletion left version %d", res.Version)
	}
	if ts := h.state.Tombstone("a"); h.state.Tenant("a") != nil || ts.GetIncarnation() != born || ts.GetRevision() != h.rev || ts.GetTimeMs() != h.now {
		t.Fatalf("tombstone %v", ts)
	}
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.DeleteTenant{Id: "a"})
	h.refused(clusterpb.Refusal_DELETED, "id", &clusterpb.PutTenant{Id: "a", Automatic: true})
	h.do(&clusterpb.PutTenant{Id: "a"})
	if tn := h.state.Tenant("a"); tn.GetIncarnation() != h.rev || h.state.Tombstone("a") != nil {
		t.Fatalf("tenant %v", tn)
	}
	h.do(&clusterpb.DeleteTenant{Id: "a"})
	h.now += 30 * day
	// Somebody has not heard of it yet.
	through := h.state.Tombstone("a").GetRevision() - 1
	h.do(&clusterpb.Expire{TombstonesBeforeMs: h.now, TombstonesThrough: &through})
	if h.state.Tombstone("a") == nil {
		t.Fatal("a tombstone went before all had heard of the deletion")
	}
	h.do(&clusterpb.Expire{TombstonesBeforeMs: h.now})
	h.do(&clusterpb.PutTenant{Id: "a", Automatic: true})
}

func TestAWriteCreatesItsTenant(t *testing.T) {
	h := created(t, 1, 1)
	auto := &clusterpb.PutTenant{Id: "a", Automatic: true, State: clusterpb.TenantState_TENANT_SUSPENDED, Spec: &clusterpb.TenantSpec{RetentionMs: ref(int64(5))}}
	v := h.do(auto).Version
	tn, events := h.state.Tenant("a"), len(h.state.Events(0))
	if tn.GetState() != clusterpb.TenantState_TENANT_ACTIVE || tn.GetSpec() != nil {
		t.Fatalf("a write chose the tenant's settings: %v", tn)
	}
	if again := h.do(auto); again.Version != v || h.state.Tenant("a") != tn || len(h.state.Events(0)) != events {
		t.Fatal("the second of two writes changed the tenant")
	}
	s := DefaultSettings()
	s.MaxTenants = 1
	h.do(&clusterpb.PutSettings{Settings: s})
	h.refused(clusterpb.Refusal_LIMIT, "id", &clusterpb.PutTenant{Id: "b", Automatic: true})
	h.refused(clusterpb.Refusal_LIMIT, "id", &clusterpb.PutTenant{Id: "b"})
	s = DefaultSettings()
	s.AutoCreateTenants = false
	h.do(&clusterpb.PutSettings{Settings: s})
	h.refused(clusterpb.Refusal_DENIED, "id", &clusterpb.PutTenant{Id: "b", Automatic: true})
	h.do(&clusterpb.PutTenant{Id: "b"})
}

func TestPutTenantRefusesByField(t *testing.T) {
	h := created(t, 1, 1)
	minus := ref(int64(-1))
	for field, put := range map[string]*clusterpb.PutTenant{
		"id":                        {Id: "a b"},
		"state":                     {Id: "a", State: 7},
		"retention":                 {Id: "a", Spec: &clusterpb.TenantSpec{RetentionMs: minus}},
		"out_of_order_window":       {Id: "a", Spec: &clusterpb.TenantSpec{OutOfOrderWindowMs: ref(int64(1) << 62)}},
		"future_window":             {Id: "a", Spec: &clusterpb.TenantSpec{FutureWindowMs: minus}},
		"limits.active_series":      {Id: "a", Spec: &clusterpb.TenantSpec{Limits: &clusterpb.Limits{ActiveSeries: minus}}},
		"limits.burst_samples":      {Id: "a", Spec: &clusterpb.TenantSpec{Limits: &clusterpb.Limits{BurstSamples: minus}}},
		"limits.label_value_length": {Id: "a", Spec: &clusterpb.TenantSpec{Limits: &clusterpb.Limits{LabelValueLength: minus}}},
		"limits.exemplars":          {Id: "a", Spec: &clusterpb.TenantSpec{Limits: &clusterpb.Limits{Exemplars: minus}}},
	} {
		h.refused(clusterpb.Refusal_INVALID, field, put)
	}
}

func TestTenantTokens(t *testing.T) {
	h := created(t, 1, 1)
	create := func(tenant, id string) *clusterpb.CreateTenantToken {
		return &clusterpb.CreateTenantToken{Tenant: tenant, Token: &clusterpb.TenantToken{Id: id, Hash: hashOf(id)}}
	}
	h.refused(clusterpb.Refusal_NOT_FOUND, "", create("a", "t1"))
	h.do(&clusterpb.PutTenant{Id: "a"})
	h.do(&clusterpb.PutTenant{Id: "b"})
	h.do(create("a", "t1"))
	h.do(create("a", "t2"))
	if got := h.state.TenantByToken(hashOf("t2")); got.GetId() != "a" || len(got.GetTokens()) != 2 || got.GetTokens()[1].GetCreatedMs() != h.now {
		t.Fatalf("tenant %v", got)
	}
	h.refused(clusterpb.Refusal_EXISTS, "id", create("b", "t1"))
	same := create("a", "t1")
	same.Token.Hash = hashOf("another")
	h.refused(clusterpb.Refusal_EXISTS, "id", same)
	h.refused(clusterpb.Refusal_INVALID, "hash", &clusterpb.CreateTenantToken{Tenant: "a", Token: &clusterpb.TenantToken{Id: "t3", Hash: []byte("plain text")}})
	h.refused(clusterpb.Refusal_INVALID, "id", &clusterpb.CreateTenantToken{Tenant: "a"})

	// Replacing what an operator wrote keeps the credentials.
	h.do(&clusterpb.PutTenant{Id: "a", Spec: &clusterpb.TenantSpec{}})
	h.do(&clusterpb.RevokeTenantToken{Tenant: "a", Id: "t1"})
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.RevokeTenantToken{Tenant: "a", Id: "t1"})
	if h.state.TenantByToken(hashOf("t1")) != nil || h.state.TenantByToken(hashOf("t2")).GetId() != "a" {
		t.Fatal("the wrong token was revoked")
	}
	h.do(&clusterpb.DeleteTenant{Id: "a"})
	if h.state.TenantByToken(hashOf("t2")) != nil {
		t.Fatal("a deleted tenant's token still works")
	}
	h.refused(clusterpb.Refusal_EXISTS, "id", create("b", "t2")) // the tombstone knows it
	h.do(&clusterpb.Expire{TombstonesBeforeMs: h.now})
	h.do(create("b", "t2"))
	for i := range maxTenantTokens - 1 {
		h.do(create("b", fmt.Sprintf("more-%d", i)))
	}
	h.refused(clusterpb.Refusal_LIMIT, "tenant", create("b", "one-more"))
}

func TestTenantConfigFillsInDefaults(t *testing.T) {
	h := created(t, 1, 1)
	if c := h.state.TenantConfig(nil); c.Retention != 15*day || c.OutOfOrderWindow != 2*hour || c.FutureWindow != 10*minute ||
		c.Limits != (Limits{LabelNamesPerSeries: 64, LabelNameLength: 1024, LabelValueLength: 4096, Exemplars: 100_000}) {
		t.Fatalf("defaults %+v", c)
	}
	s := DefaultSettings()
	s.TenantDefaults = &clusterpb.TenantSpec{RetentionMs: ref(day), Limits: &clusterpb.Limits{ActiveSeries: ref(int64(9)), Exemplars: ref(int64(0))}}
	h.do(&clusterpb.PutSettings{Settings: s})
	h.do(&clusterpb.PutTenant{Id: "a", Spec: &clusterpb.TenantSpec{
		OutOfOrderWindowMs: ref(int64(0)), FutureWindowMs: ref(int64(0)),
		Limits: &clusterpb.Limits{ActiveSeries: ref(int64(0)), BurstSamples: ref(int64(3))},
	}})
	c := h.state.TenantConfig(h.state.Tenant("a"))
	if c.Retention != day || c.OutOfOrderWindow != 10*minute || c.FutureWindow != 0 {
		t.Fatalf("config %+v", c)
	}
	if l := c.Limits; l.ActiveSeries != 0 || l.BurstSamples != 3 || l.Exemplars != 0 || l.LabelNameLength != 1024 {
		t.Fatalf("limits %+v", l)
	}
}

func TestTheWidestWindowIsNeverForgotten(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.PutTenant{Id: "a", Spec: &clusterpb.TenantSpec{OutOfOrderWindowMs: ref(day)}})
	if w := h.state.WidestWindow(); w != day+10*minute {
		t.Fatalf("widest window %d", w)
	}
	s := DefaultSettings()
	s.TenantDefaults.FutureWindowMs = ref(hour)
	h.do(&clusterpb.PutSettings{Settings: s})
	if w := h.state.WidestWindow(); w != day+hour {
		t.Fatalf("widest window %d after the default changed", w)
	}
	h.do(&clusterpb.DeleteTenant{Id: "a"})
	h.do(&clusterpb.PutSettings{Settings: DefaultSettings()})
	if w := h.state.WidestWindow(); w != day+hour {
		t.Fatalf("widest window %d after its tenant is gone", w)
	}
}

func TestWalkTenantsIsInOrderAndGoesOn(t *testing.T) {
	h := created(t, 1, 1)
	ids := []string{"a", "a-b", "a.b", "aa", "ab", "b", "ba", "c"}
	for _, i := range []int{3, 0, 7, 5, 1, 6, 2, 4} {
		h.do(&clusterpb.PutTenant{Id: ids[i]})
	}
	from := func(after string, most int) []string {
		var got []string
		h.state.WalkTenants(after, func(t *clusterpb.Tenant) bool {
			got = append(got, t.GetId())
			return len(got) < most
		})
		return got
	}
	if got := from("", 99); !slices.Equal(got, ids) || h.state.TenantCount() != len(ids) {
		t.Fatalf("all tenants: %v", got)
	}
	for i, id := range ids {
		if got := from(id, 99); !slices.Equal(got, ids[i+1:]) {
			t.Errorf("after %s: %v", id, got)
		}
	}
	if got := from("a0", 2); !slices.Equal(got, []string{"aa", "ab"}) {
		t.Errorf("two after a0: %v", got)
	}
}

func TestLongestRetention(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.PutTenant{Id: "for-ever", Spec: &clusterpb.TenantSpec{RetentionMs: ref(int64(0))}})
	h.do(&clusterpb.PutTenant{Id: "long", Spec: &clusterpb.TenantSpec{RetentionMs: ref(90 * day)}})
	if got := h.state.LongestRetention(); got != 90*day {
		t.Fatalf("longest finite retention %d", got)
	}
}

package main

import (
	"fmt"
	"time"

	"github.com/muster-metrics/muster/api/tenancy"
	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/ingest"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// views makes ingest's view of each state, and keeps what stays the same
// between two of them: a ring's table is looked at once.
type views struct {
	storeID [16]byte
	clock   func() time.Duration // this node's minus the cluster's
	refuses func() string        // why the write door is shut; "": it is open
	rings   map[uint64]*ingest.Ring
	rules   rulebook
}

func newViews(storeID [16]byte, clock func() time.Duration, refuses func() string) *views {
	return &views{storeID: storeID, clock: clock, refuses: refuses, rings: map[uint64]*ingest.Ring{}}
}

// of is the view of st. It is called in the order of the revisions.
func (v *views) of(st *cluster.State) *ingest.View {
	rings := make(map[uint64]*ingest.Ring, len(st.Rings()))
	var moved uint64
	for _, r := range st.Rings() {
		id := r.Spec.GetId()
		old := v.rings[id]
		rings[id] = old
		if old == nil || old.Table != r.Table || old.Name != r.Spec.GetName() {
			rings[id] = ingest.NewRing(id, r.Spec.GetName(), r.Table)
		}
		if old != nil { // where a ring is new nobody writes by another table
			moved = max(moved, rings[id].Moved())
		}
	}
	v.rings = rings
	view := &ingest.View{
		Revision:    st.Revision(),
		Moved:       moved,
		AutoCreate:  st.Settings().GetAutoCreateTenants(),
		FloatsOnly:  !st.Supports(cluster.AllSamples),
		SplitLabel:  st.Settings().GetSplitTenantLabel(),
		Admit:       func(from, id string) error { return admitTenant(st, from, id) },
		Tenant:      func(id string) (ingest.Tenant, bool) { return tenantOf(st, &v.rules, id) },
		Ring:        func(id uint64) *ingest.Ring { return rings[id] },
		Store:       func(s ring.Store) (ingest.Peer, bool) { return peerOf(st, s) },
		ClockOffset: func() time.Duration { return -v.clock() },
		NotReady:    v.refuses,
	}
	if own := st.StoreByID(v.storeID[:]); own != nil && st.Holder(ring.Store(own.GetNumber())) != nil {
		view.Self = ring.Store(own.GetNumber())
	}
	return view
}

func tenantOf(st *cluster.State, rules *rulebook, id string) (ingest.Tenant, bool) {
	t := st.Tenant(id)
	if t == nil {
		return ingest.Tenant{}, false
	}
	c := st.TenantConfig(t)
	tenant := ingest.Tenant{
		Incarnation:      t.GetIncarnation(),
		Ring:             t.GetRoute().GetRing(),
		Routed:           t.GetRoute().GetFrom(),
		Suspended:        t.GetState() == clusterpb.TenantState_TENANT_SUSPENDED,
		OutOfOrderWindow: time.Duration(c.OutOfOrderWindow) * time.Millisecond,
		FutureWindow:     time.Duration(c.FutureWindow) * time.Millisecond,
		Limits: ingest.Limits{
			RequestBytes:      c.Limits.RequestBytes,
			SeriesPerRequest:  c.Limits.SeriesPerRequest,
			SamplesPerRequest: c.Limits.SamplesPerRequest,
			LabelNames:        c.Limits.LabelNamesPerSeries,
			LabelNameLength:   c.Limits.LabelNameLength,
			LabelValueLength:  c.Limits.LabelValueLength,

			SamplesPerSecond:   c.Limits.SamplesPerSecond,
			BurstSamples:       c.Limits.BurstSamples,
			NewSeriesPerSecond: c.Limits.NewSeriesPerSecond,
			ActiveSeries:       c.Limits.ActiveSeries,
		},
	}
	tenant.Relabel, tenant.Unready = rules.of(c.Relabel)
	return tenant, true
}

// admitTenant says why a request that came as one tenant may not write series of
// another, or of itself. A credential is one tenant's.
func admitTenant(st *cluster.State, from, id string) error {
	if from != id && st.Settings().GetTenantAuth() != clusterpb.TenantAuth_AUTH_HEADER {
		return fmt.Errorf("%w: the credential is of tenant %s, and writes for no other", ingest.ErrTenantRefused, from)
	}
	if err := tenancy.Admit(st, id); err != nil {
		if !cluster.ValidTenantID(id) {
			return fmt.Errorf("%w: %w", ingest.ErrTenantName, err)
		}
		return fmt.Errorf("%w: %w", ingest.ErrTenantRefused, err)
	}
	return nil
}

func peerOf(st *cluster.State, s ring.Store) (ingest.Peer, bool) {
	m := st.Holder(s)
	if m == nil {
		return ingest.Peer{}, false
	}
	p := ingest.Peer{Node: m.GetName()}
	copy(p.ID[:], st.Store(s).GetId())
	return p, true
}

package cluster

import (
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// hashIn is a hash whose series of the tenant is in that slot.
func hashIn(tenant string, slot, slots int) uint64 {
	for h := uint64(0); ; h++ {
		if ring.KeyOf(ring.TenantHash(tenant), h).Slot(slots) == slot {
			return h
		}
	}
}

func TestPassedAreSlotsMovedClosedAndAnnounced(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.PutTenant{Id: "a"})
	var p *Passed
	look := func(announced uint64) (gone int, news uint64) {
		t.Helper()
		p = h.state.PassedBy(1, announced, p)
		r, ok := p.Of(h.state.Tenant("a"))
		if !ok {
			return -1, 0
		}
		for slot := range 8 {
			if r.Gone("a")(hashIn("a", slot, 8)) {
				gone++
			}
		}
		return gone, r.News
	}
	expect := func(announced uint64, gone int, news uint64) {
		t.Helper()
		if g, n := look(announced); g != gone || n != news {
			t.Fatalf("announced %d of %d: %d slots gone, news %d; want %d and %d", announced, h.rev, g, n, gone, news)
		}
	}
	expect(h.rev, 0, 1)
	h.join("n2") // half of the slots go there
	r := h.state.Ring(DefaultRing)
	h.do(moveOf(r, ring.NextSteps(r.Table, ring.Plan(r.Table, h.state.Eligible(r), r.RF()), r.Quorum())))
	moved := h.rev
	expect(h.rev, 0, 1) // not closed
	h.closeAll(h.state.Ring(DefaultRing))
	expect(moved-1, 0, 1) // a share of ours is on the way
	expect(moved, 4, 2)
	same := p
	expect(h.rev, 4, 2)
	if same.rings[r.Spec.GetId()] != p.rings[r.Spec.GetId()] {
		t.Error("the table was looked at again, for nothing")
	}
	// A slot that comes back is no news.
	back := h.state.Ring(DefaultRing)
	for slot := range 8 {
		if s := back.Table.Slot(slot); !s.Replicas.Has(1) {
			h.do(moveOf(back, []ring.Step{{Slot: slot, Replicas: ring.SetOf(1), Quorum: 1, Base: s.Changed}}))
			break
		}
	}
	expect(h.rev, 3, 2)
}

func TestPassedAreTenantsWhoseRouteLeft(t *testing.T) {
	h := created(t, 1, 1)
	h.join("n2")
	h.do(&clusterpb.PutTenant{Id: "a"})
	soft := h.state.Ring(DefaultRing).Spec.GetId()
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 1, Slots: 8, Nodes: []string{"n2"}})
	routed := h.rev
	of := func(announced uint64) (*PassedRing, bool) {
		return h.state.PassedBy(1, announced, nil).Of(h.state.Tenant("a"))
	}
	if _, ok := of(h.rev); ok {
		t.Fatal("passed before its route was closed")
	}
	h.do(&clusterpb.CloseRoutes{Ring: soft, Through: routed})
	if _, ok := of(routed - 1); ok {
		t.Fatal("passed while a share of ours is on the way")
	}
	r, ok := of(routed)
	if !ok || !r.Gone("a")(1) || !r.Gone("a")(2) {
		t.Fatalf("not passed: %+v", r)
	}
	// The ring goes, and the other one has the tenant again.
	h.do(&clusterpb.DeleteRing{Name: "hard"})
	hard := h.state.Tenant("a").GetPastRoutes()[1].GetRing()
	h.do(&clusterpb.CloseRoutes{Ring: hard, Through: h.rev})
	if r, ok := of(h.rev); !ok || r.Gone("a")(hashIn("a", 3, 8)) {
		t.Fatalf("gone, and here again: %+v, %v", r, ok)
	}
}

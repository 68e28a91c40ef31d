package cluster

import (
	"slices"
	"strings"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func claimsOfRing(h *story, name string) []string { return h.state.Ring(name).Spec.GetTenants() }

// TestATenantMovesInOneStep: one revision, one event, one new route; both rings
// say what they claim now, and nobody else notices.
func TestATenantMovesInOneStep(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.PutRing{Name: "a", Tenants: []string{"x", "y"}, ReplicationFactor: 1, Slots: 8})
	h.do(&clusterpb.PutRing{Name: "b", Tenants: []string{"z"}, ReplicationFactor: 1, Slots: 8})
	for _, id := range []string{"x", "y", "z"} {
		h.do(&clusterpb.PutTenant{Id: id})
	}
	events, y := len(h.state.Events(0)), h.state.Tenant("y")
	res := h.do(&clusterpb.MoveTenant{Tenant: "x", Ring: "b"})
	x := h.state.Tenant("x")
	if res.Version != h.rev || x.GetVersion() != h.rev || x.GetRoute().GetFrom() != h.rev || len(x.GetPastRoutes()) != 1 {
		t.Fatalf("tenant %v, answered version %d", x, res.Version)
	}
	if h.state.Tenant("y") != y || nameOf(h.state.RouteOf("x")) != "b" || !res.Changed.Rings {
		t.Fatalf("y %v, x to %s", h.state.Tenant("y"), nameOf(h.state.RouteOf("x")))
	}
	if got := claimsOfRing(h, "a"); !slices.Equal(got, []string{"y"}) {
		t.Errorf("ring a claims %v", got)
	}
	if got := claimsOfRing(h, "b"); !slices.Equal(got, []string{"z", "x"}) {
		t.Errorf("ring b claims %v", got)
	}
	ev := h.state.Event(h.rev)
	if n := len(h.state.Events(0)); n != events+1 || ev.GetAction() != "tenant moved" || ev.GetObject() != "x" || ev.GetDetail() != "from ring a to ring b" || len(ev.GetChanges()) != 2 {
		t.Errorf("%d events, %v", n-events, ev)
	}
	// Again is no change; a version that is not the tenant's is a conflict.
	if again := h.do(&clusterpb.MoveTenant{Tenant: "x", Ring: "b"}); again.Version != x.GetVersion() || h.state.Tenant("x") != x || len(h.state.Events(0)) != events+1 {
		t.Errorf("moved to where it is: %+v", again)
	}
	h.checked(t)
}

func (h *story) checked(t *testing.T) {
	t.Helper()
	checkSound(t, h.state)
}

// TestTheLastClaimOfARing: a ring without claims would take everybody's tenants.
func TestTheLastClaimOfARing(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.PutRing{Name: "a", Tenants: []string{"x"}, ReplicationFactor: 1, Slots: 8})
	h.do(&clusterpb.PutTenant{Id: "x"})
	r := h.refused(clusterpb.Refusal_UNSAFE, "delete_emptied", &clusterpb.MoveTenant{Tenant: "x", Ring: DefaultRing})
	if !strings.Contains(r.GetMessage(), "--delete-emptied") || nameOf(h.state.RouteOf("x")) != "a" {
		t.Fatalf("refused: %v", r)
	}
	h.do(&clusterpb.MoveTenant{Tenant: "x", Ring: DefaultRing, DeleteEmptied: true})
	if h.state.Ring("a") != nil || nameOf(h.state.RouteOf("x")) != DefaultRing || !strings.Contains(h.state.Event(h.rev).GetDetail(), "is deleted") {
		t.Fatalf("x goes to %s: %v", nameOf(h.state.RouteOf("x")), h.state.Event(h.rev))
	}
	h.checked(t)
}

func TestAMoveIsRefused(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.PutRing{Name: "a", Tenants: []string{"team-*"}, ReplicationFactor: 1, Slots: 8})
	h.do(&clusterpb.PutTenant{Id: "team-x"})
	h.refused(clusterpb.Refusal_INVALID, "ring", &clusterpb.MoveTenant{Tenant: "team-x", Ring: "b"})
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.MoveTenant{Tenant: "team-y", Ring: "a"})
	h.refused(clusterpb.Refusal_INVALID, "id", &clusterpb.MoveTenant{Tenant: "-", Ring: "a"})
	r := h.refused(clusterpb.Refusal_UNSAFE, "ring", &clusterpb.MoveTenant{Tenant: "team-x", Ring: DefaultRing})
	if !strings.Contains(r.GetMessage(), "team-*") {
		t.Errorf("it does not say by what: %s", r.GetMessage())
	}
	// By a name over its pattern, and back under it.
	h.do(&clusterpb.PutRing{Name: "b", Tenants: []string{"other"}, ReplicationFactor: 1, Slots: 8})
	h.do(&clusterpb.MoveTenant{Tenant: "team-x", Ring: "b"})
	h.do(&clusterpb.MoveTenant{Tenant: "team-x", Ring: "a"})
	if got := claimsOfRing(h, "a"); !slices.Equal(got, []string{"team-*"}) || len(claimsOfRing(h, "b")) != 1 {
		t.Errorf("ring a claims %v after the way back", got)
	}
}

// TestRingsChangeTogether: what two rings claim is swapped at one revision, which
// one after the other could not do.
func TestRingsChangeTogether(t *testing.T) {
	h := created(t, 1, 1)
	ring := func(name string, tenants ...string) *clusterpb.PutRing {
		return &clusterpb.PutRing{Name: name, Tenants: tenants, ReplicationFactor: 1, Slots: 8}
	}
	h.do(ring("a", "x"))
	h.do(ring("b", "y"))
	h.do(&clusterpb.PutTenant{Id: "x"})
	of := func(put *clusterpb.PutRing) *clusterpb.RestoredRing {
		return &clusterpb.RestoredRing{Ring: put, Version: ringVersion(h.state.Ring(put.GetName()))}
	}
	h.do(&clusterpb.PutRings{Source: "a file", Rings: []*clusterpb.RestoredRing{of(ring("a", "y")), of(ring("b", "x")), of(ring("c", "z"))}})
	x := h.state.Tenant("x")
	if nameOf(h.state.RouteOf("x")) != "b" || nameOf(h.state.RouteOf("y")) != "a" || nameOf(h.state.RouteOf("z")) != "c" || len(x.GetPastRoutes()) != 1 {
		t.Fatalf("x %v", x)
	}
	if ev := h.state.Event(h.rev); ev.GetAction() != "3 rings changed" || ev.GetObject() != "a, b, c" || ev.GetDetail() != "from a file" {
		t.Errorf("event %v", ev)
	}
	if held := h.state.Ring("c").Table.Held(); held[1] != 8 {
		t.Errorf("the new ring is placed as %v", held)
	}
	h.do(&clusterpb.PutRings{Rings: []*clusterpb.RestoredRing{of(ring("e", "e*")), of(ring("f", "f*")), of(ring("g", "g*"))}})
	at := h.rev
	h.do(ring("h", "h*")) // its revision is an id of one before it
	for name, born := range map[string]uint64{"e": at, "f": at, "g": at, "h": h.rev} {
		r := h.state.Ring(name)
		if nameOf(h.state.RouteOf(name+"1")) != name || r.Born() != born || r.Spec.GetCreatedMs() == 0 || h.state.RingByID(r.Spec.GetId()) != r {
			t.Errorf("ring %s: %v", name, r.Spec)
		}
	}
	stale := of(ring("a", "w"))
	stale.Version--
	h.refused(clusterpb.Refusal_CONFLICT_VERSION, "version", &clusterpb.PutRings{Rings: []*clusterpb.RestoredRing{stale}})
	h.refused(clusterpb.Refusal_INVALID, "tenants", &clusterpb.PutRings{Rings: []*clusterpb.RestoredRing{of(ring("a", "x"))}})
	h.refused(clusterpb.Refusal_INVALID, "tenants", &clusterpb.PutRings{Rings: []*clusterpb.RestoredRing{of(ring("a"))}})
	h.refused(clusterpb.Refusal_INVALID, "rings", &clusterpb.PutRings{})
	h.refused(clusterpb.Refusal_INVALID, "rings", &clusterpb.PutRings{Rings: []*clusterpb.RestoredRing{of(ring("a", "p")), of(ring("a", "q"))}})
	gone := of(ring(DefaultRing))
	gone.Delete = true
	h.do(&clusterpb.PutTenant{Id: "soft"})
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.PutRings{Rings: []*clusterpb.RestoredRing{gone}})
	h.do(&clusterpb.PutRings{Rings: []*clusterpb.RestoredRing{gone, of(ring("d"))}}) // another one takes the rest
	if nameOf(h.state.RouteOf("soft")) != "d" {
		t.Errorf("soft goes to %s", nameOf(h.state.RouteOf("soft")))
	}
	h.checked(t)
}

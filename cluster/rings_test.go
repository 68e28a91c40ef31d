package cluster

import (
	"slices"
	"strings"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

func TestANewRingIsPlacedAtOnce(t *testing.T) {
	h := created(t, 1, 3)
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a", "b-*"}, ReplicationFactor: 2, WriteQuorum: clusterpb.WriteQuorum_ALL, Nodes: []string{"n3", "n1"}, Slots: 16})
	r := h.state.Ring("hard")
	if held := r.Table.Held(); held[1] != 16 || held[3] != 16 || held[2] != 0 {
		t.Fatalf("slots by store: %v", held)
	}
	if s := r.Table.At(5); s.Changed != h.rev || s.Since != h.now || s.Quorum != 2 || len(r.Table.Past()) != 0 {
		t.Fatalf("slot %+v", s)
	}
	if r.Spec.GetId() != h.rev || h.state.RingByID(h.rev) != r || r.Spec.GetTable() != nil {
		t.Fatalf("ring %v", r.Spec)
	}
}

func TestPutRingRefuses(t *testing.T) {
	h := created(t, 2, 3)
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a", "b-*"}, ReplicationFactor: 1, Slots: 8})
	for _, c := range []struct {
		name, field, says string
		spoil             func(*clusterpb.PutRing)
	}{
		{"a name of blanks", "name", "letters", func(c *clusterpb.PutRing) { c.Name = " " }},
		{"no replicas", "replication_factor", "1 to 5", func(c *clusterpb.PutRing) { c.ReplicationFactor = 0 }},
		{"too many replicas", "replication_factor", "1 to 5", func(c *clusterpb.PutRing) { c.ReplicationFactor = 6 }},
		{"a quorum of nothing", "write_quorum", "majority", func(c *clusterpb.PutRing) { c.WriteQuorum = 9 }},
		{"a negative quorum", "write_quorum", "majority", func(c *clusterpb.PutRing) { c.WriteQuorum = -1 }},
		{"too few nodes", "nodes", "1 node for 2", func(c *clusterpb.PutRing) { c.Nodes = []string{"n1"} }},
		{"a stranger", "nodes", "no member", func(c *clusterpb.PutRing) { c.Nodes = []string{"n1", "n2", "x"} }},
		{"a node twice", "nodes", "twice", func(c *clusterpb.PutRing) { c.Nodes = []string{"n1", "n1"} }},
		{"slots that are no power", "slots", "power of two", func(c *clusterpb.PutRing) { c.Slots = 12 }},
		{"too many slots", "slots", "power of two", func(c *clusterpb.PutRing) { c.Slots = 1 << 17 }},
		{"a second catch-all", "tenants", "default takes every tenant", func(c *clusterpb.PutRing) { c.Tenants = nil }},
		{"a name claimed already", "tenants", "claimed by ring hard", func(c *clusterpb.PutRing) { c.Tenants = []string{"a"} }},
		{"a pattern claimed already", "tenants", "claimed by ring hard", func(c *clusterpb.PutRing) { c.Tenants = []string{"b-*"} }},
		{"a name twice", "tenants", "twice", func(c *clusterpb.PutRing) { c.Tenants = []string{"x", "x"} }},
		{"a broken pattern", "tenants", "syntax error", func(c *clusterpb.PutRing) { c.Tenants = []string{"longer[a-"} }},
		{"a pattern of blanks", "tenants", "no tenant id", func(c *clusterpb.PutRing) { c.Tenants = []string{"a *"} }},
		{"no tenant's name", "tenants", "tenant", func(c *clusterpb.PutRing) { c.Tenants = []string{"-x"} }},
		{"an endless pattern", "tenants", "128", func(c *clusterpb.PutRing) { c.Tenants = []string{strings.Repeat("*", 200)} }},
		{"too many patterns", "tenants", "at most", func(c *clusterpb.PutRing) { c.Tenants = make([]string, maxPatterns+1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			put := &clusterpb.PutRing{Name: "new", Tenants: []string{"x"}, ReplicationFactor: 2, Slots: 8}
			c.spoil(put)
			if r := h.refused(clusterpb.Refusal_INVALID, c.field, put); !strings.Contains(r.GetMessage(), c.says) {
				t.Fatalf("refused with %q, which does not say %q", r.GetMessage(), c.says)
			}
		})
	}
	h.refused(clusterpb.Refusal_INVALID, "slots", &clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 1, Slots: 16})
}

func TestARingChangeMovesNothingByItself(t *testing.T) {
	h := created(t, 2, 3)
	table := h.state.Ring(DefaultRing).Table
	h.do(&clusterpb.PutRing{Name: DefaultRing, ReplicationFactor: 3, WriteQuorum: clusterpb.WriteQuorum_MAJORITY, Nodes: []string{"n1", "n2", "n3"}})
	r := h.state.Ring(DefaultRing)
	if r.Table != table || r.RF() != 3 || r.Quorum() != 2 || r.Spec.GetVersion() != h.rev || r.Short() != 8 {
		t.Fatalf("ring %v, %d short slots", r.Spec, r.Short())
	}
	h.spread(DefaultRing)
	if r := h.state.Ring(DefaultRing); r.Short() != 0 || r.Table.At(0).Quorum != 2 || r.Spec.GetVersion() >= h.rev {
		t.Fatalf("after the steps: %d short, quorum %d, version %d", r.Short(), r.Table.At(0).Quorum, r.Spec.GetVersion())
	}
	h.refused(clusterpb.Refusal_UNSAFE, "replication_factor", &clusterpb.PutRing{Name: DefaultRing, ReplicationFactor: 4})
}

func TestWhoClaimsATenant(t *testing.T) {
	h := created(t, 1, 1)
	put := func(name string, tenants ...string) {
		h.do(&clusterpb.PutRing{Name: name, Tenants: tenants, ReplicationFactor: 1, Slots: 1})
	}
	put("exact", "team-a", "solo")
	put("long", "team-*")
	put("longer", "team-?*z")
	put("short", "t*")
	put("any-a", "?eam-a", "?eam-b")
	put("order-b", "x[b]")
	put("order-a", "x[a]", "x[^b]")
	for tenant, want := range map[string]string{
		"team-a": "exact", "solo": "exact", // an exact name wins
		"team-b":  "long",   // a longer literal beginning than ?eam-b and t*
		"team-bz": "longer", // the same literal beginning, a longer pattern
		"tea":     "short",
		"beam-a":  "any-a",
		"xa":      "order-a",
		"xb":      "order-b",
		"other":   DefaultRing,
	} {
		if got := h.state.RouteOf(tenant).Spec.GetName(); got != want {
			t.Errorf("tenant %s belongs to ring %s, want %s", tenant, got, want)
		}
	}
	// Equal literal beginnings and lengths: byte order decides.
	put("tie-2", "y?b")
	put("tie-1", "y*b")
	if got := h.state.RouteOf("yab").Spec.GetName(); got != "tie-1" {
		t.Errorf("the tie goes to %s", got)
	}
}

func TestTheCatchAllMayComeLast(t *testing.T) {
	route := func(change ...*clusterpb.PutRing) []string {
		h := created(t, 1, 2)
		h.do(&clusterpb.PutRing{Name: DefaultRing, Tenants: []string{"nobody"}, ReplicationFactor: 1})
		for _, c := range change {
			h.do(c)
		}
		var got []string
		for _, id := range []string{"tenant-a", "tenant-b", "sre"} {
			got = append(got, h.state.RouteOf(id).Spec.GetName())
		}
		return got
	}
	soft := &clusterpb.PutRing{Name: "soft", ReplicationFactor: 1, Slots: 8}
	hard := &clusterpb.PutRing{Name: "hard", Tenants: []string{"tenant-a", "tenant-b"}, ReplicationFactor: 1, Slots: 8}
	first, last := route(soft, hard), route(hard, soft)
	if want := []string{"hard", "hard", "soft"}; !slices.Equal(first, want) || !slices.Equal(last, want) {
		t.Fatalf("catch-all first: %v, last: %v", first, last)
	}
}

func TestRoutesFollowTheRings(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.PutTenant{Id: "a"})
	h.do(&clusterpb.PutTenant{Id: "b"})
	soft := h.state.Ring(DefaultRing).Spec.GetId()
	version := h.state.Tenant("a").GetVersion()
	res := h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 1, Slots: 8})
	hard, moved, since := h.rev, h.rev, h.now
	a := h.state.Tenant("a")
	if r := a.GetRoute(); r.GetRing() != hard || r.GetFrom() != moved || r.GetBeginMs() != since || a.GetVersion() != version {
		t.Fatalf("tenant %v", a)
	}
	if p := a.GetPastRoutes(); len(p) != 1 || p[0].GetRing() != soft || p[0].GetTo() != moved || p[0].GetEndMs() != since {
		t.Fatalf("past routes %v", p)
	}
	if !slices.Equal(res.Changed.Tenants, []string{"a"}) || !res.Changed.Rings || h.state.Tenant("b").GetRoute().GetRing() != soft {
		t.Fatalf("changed %+v", res.Changed)
	}
	h.do(&clusterpb.DeleteRing{Name: "hard"})
	if r := h.state.Tenant("a").GetRoute(); r.GetRing() != soft || len(h.state.Tenant("a").GetPastRoutes()) != 2 {
		t.Fatalf("tenant %v", h.state.Tenant("a"))
	}
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.DeleteRing{Name: DefaultRing})
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.DeleteRing{Name: "hard"})

	// No ring: the tenant waits for one.
	h.do(&clusterpb.PutRing{Name: DefaultRing, Tenants: []string{"b"}, ReplicationFactor: 1})
	if r := h.state.Tenant("a").GetRoute(); r.GetRing() != 0 || h.state.RouteOf("a") != nil {
		t.Fatalf("route %v", r)
	}
	h.do(&clusterpb.PutRing{Name: DefaultRing, ReplicationFactor: 1})
	if p := h.state.Tenant("a").GetPastRoutes(); len(p) != 3 {
		t.Fatalf("a time without a ring is no history: %v", p)
	}
}

func TestManyRoutesAreSummedUp(t *testing.T) {
	h := created(t, 1, 1)
	for i := range listedTenants + 1 {
		h.do(&clusterpb.PutTenant{Id: "t-" + string(rune('0'+i/10)) + string(rune('0'+i%10))})
	}
	res := h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"t-*"}, ReplicationFactor: 1, Slots: 8})
	if !res.Changed.AllTenants || res.Changed.Tenants != nil {
		t.Fatalf("changed %+v", res.Changed)
	}
}

func TestADeletedRingIsHistoryUntilItExpires(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 1, Slots: 8})
	id := h.rev
	h.do(&clusterpb.PutTenant{Id: "a"})
	h.do(&clusterpb.DeleteRing{Name: "hard"})
	r := h.state.RingByID(id)
	if !r.Deleted() || len(r.Table.Open()) != 8 || r.Table.Held()[1] != 0 || h.state.Ring("hard") != nil || len(h.state.Rings()) != 1 {
		t.Fatalf("ring %v with %d open epochs", r.Spec, len(r.Table.Open()))
	}
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.MoveSlots{Ring: id})
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"c"}, ReplicationFactor: 1, Slots: 8}) // the name is free
	h.now += 20 * day
	h.do(&clusterpb.Expire{EpochsBeforeMs: h.now})
	if h.state.RingByID(id) == nil {
		t.Fatal("a ring with open epochs expired")
	}
	h.closeAll(h.state.RingByID(id))
	h.now += day
	h.do(&clusterpb.Expire{EpochsBeforeMs: h.now})
	if h.state.RingByID(id) == nil || len(h.state.Tenant("a").GetPastRoutes()) != 1 {
		t.Fatal("a route by which writes may still begin expired")
	}
	h.do(&clusterpb.CloseRoutes{Ring: id, Through: h.rev})
	h.now += day
	h.do(&clusterpb.Expire{EpochsBeforeMs: h.now})
	if h.state.RingByID(id) != nil || len(h.state.AllRings()) != 2 || len(h.state.Tenant("a").GetPastRoutes()) != 0 {
		t.Fatalf("rings %s", objects(h.state))
	}
}

func TestMoveSlotsRefuses(t *testing.T) {
	h := created(t, 2, 4)
	h.do(nodeToken("join-n5", h.now+hour))
	h.do(joining("n5", "n5/a", false))
	r := h.state.Ring(DefaultRing)
	slot := r.Table.Slot(0)
	in := slot.Replicas.Append(nil)
	var out []uint32
	for _, n := range []ring.Store{1, 2, 3, 4} {
		if !slot.Replicas.Has(n) {
			out = append(out, uint32(n))
		}
	}
	a, b := uint32(in[0]), uint32(in[1])
	step := func(quorum uint32, base uint64, replicas ...uint32) *clusterpb.MoveSlots {
		return &clusterpb.MoveSlots{Ring: r.Spec.GetId(), Steps: []*clusterpb.SlotStep{{Slot: 0, Replicas: replicas, Quorum: quorum, Base: base}}}
	}
	base := slot.Changed
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.MoveSlots{Ring: 1})
	h.refused(clusterpb.Refusal_CONFLICT_VERSION, "steps", step(1, base+1, a, out[0]))
	h.refused(clusterpb.Refusal_CONFLICT_VERSION, "steps", step(2, base, a, out[0]))
	h.refused(clusterpb.Refusal_INVALID, "steps", step(1, base, a, a))
	h.refused(clusterpb.Refusal_INVALID, "steps", step(1, base, a, 0))
	h.refused(clusterpb.Refusal_INVALID, "steps", step(1, base, out...))
	h.refused(clusterpb.Refusal_INVALID, "steps", step(1, base, a, b, out[0]))
	h.refused(clusterpb.Refusal_UNSAFE, "steps", step(1, base, a, 5))   // joining
	h.refused(clusterpb.Refusal_UNSAFE, "steps", step(1, base, a, 999)) // nobody's
	h.refused(clusterpb.Refusal_INVALID, "steps", step(1, base))
	none := step(1, base, a)
	none.Steps[0].Slot = 1 << 31
	h.refused(clusterpb.Refusal_INVALID, "steps", none)
	twice := step(1, base, a, out[0])
	twice.Steps = append(twice.Steps, twice.Steps[0])
	h.refused(clusterpb.Refusal_INVALID, "steps", twice)
	many := &clusterpb.MoveSlots{Ring: r.Spec.GetId(), Steps: make([]*clusterpb.SlotStep, 9)}
	h.refused(clusterpb.Refusal_INVALID, "steps", many)

	h.do(step(1, base, a, out[0]))
	moved := h.rev
	h.refused(clusterpb.Refusal_UNSAFE, "steps", step(1, moved, a, b)) // the epoch before is open
	h.closeAll(h.state.Ring(DefaultRing))
	if e := h.state.Ring(DefaultRing).Table.Past(); e[len(e)-1].To == moved && e[len(e)-1].Closed == 0 {
		t.Fatalf("epochs %+v", e)
	}
	h.do(step(1, moved, a)) // shorter, not below its quorum
	h.closeAll(h.state.Ring(DefaultRing))
	h.refused(clusterpb.Refusal_UNSAFE, "steps", step(1, h.state.Ring(DefaultRing).Table.At(0).Changed))
}

func TestOneBadStepRefusesAllOfThem(t *testing.T) {
	h := created(t, 1, 1)
	h.join("n2")
	r := h.state.Ring(DefaultRing)
	steps := ring.NextSteps(r.Table, ring.Plan(r.Table, h.state.Eligible(r), 1), 1)
	if len(steps) < 2 {
		t.Fatalf("%d steps", len(steps))
	}
	m := moveOf(r, steps)
	m.Steps[len(m.Steps)-1].Base++
	h.refused(clusterpb.Refusal_CONFLICT_VERSION, "steps", m)
}

func TestAClosingMayBeRepeated(t *testing.T) {
	h := created(t, 1, 1)
	h.join("n2")
	r := h.state.Ring(DefaultRing)
	h.do(moveOf(r, ring.NextSteps(r.Table, ring.Plan(r.Table, h.state.Eligible(r), 1), 1)))
	open := h.state.Ring(DefaultRing)
	h.closeAll(open)
	closed, events := h.state.Ring(DefaultRing), len(h.state.Events(0))
	if len(closed.Table.Open()) != 0 {
		t.Fatalf("still open: %+v", closed.Table.Open())
	}
	h.closeAll(open)
	h.do(&clusterpb.CloseEpochs{Ring: r.Spec.GetId(), Epochs: []*clusterpb.EpochKey{{Slot: 1 << 31, To: 1}, nil}})
	if h.state.Ring(DefaultRing) != closed || len(h.state.Events(0)) != events {
		t.Fatal("closing again changed something")
	}
}

func TestALostStoreLeavesASlotEvenBelowItsQuorum(t *testing.T) {
	h := created(t, 3, 2) // two nodes for three replicas: both must store
	h.do(nodeToken("again", h.now+hour))
	again := joining("n2", "n2/b", true)
	again.TokenId = "again"
	h.do(again)
	r := h.state.Ring(DefaultRing)
	base := r.Table.At(0).Changed
	step := func(replica uint32) *clusterpb.MoveSlots {
		return &clusterpb.MoveSlots{Ring: r.Spec.GetId(), Steps: []*clusterpb.SlotStep{{Replicas: []uint32{replica}, Quorum: 2, Base: base}}}
	}
	h.refused(clusterpb.Refusal_UNSAFE, "steps", step(2))
	h.do(step(1))
	if got := h.state.Ring(DefaultRing).BelowQuorum(); got != 1 {
		t.Fatalf("%d slots below their quorum", got)
	}
}

// TestTheHistoryOfATenantThatIsKeptForEverStays: its samples lie where they were
// written, and who that is must be asked.
func TestTheHistoryOfATenantThatIsKeptForEverStays(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 1, Slots: 8})
	id := h.rev
	h.do(&clusterpb.PutTenant{Id: "a", Spec: &clusterpb.TenantSpec{RetentionMs: ref(int64(0))}})
	h.do(&clusterpb.DeleteRing{Name: "hard"})
	h.closeAll(h.state.RingByID(id))
	h.do(&clusterpb.CloseRoutes{Ring: id, Through: h.rev})
	h.now += 400 * day
	h.do(&clusterpb.Expire{EpochsBeforeMs: h.now - 20*day})
	if r := h.state.RingByID(id); r == nil || len(r.Table.Past()) != 8 || len(h.state.Tenant("a").GetPastRoutes()) != 1 {
		t.Fatalf("what is remembered: ring %v, tenant %v", r, h.state.Tenant("a"))
	}
	h.do(&clusterpb.PutTenant{Id: "a", Spec: &clusterpb.TenantSpec{RetentionMs: ref(day)}})
	h.do(&clusterpb.Expire{EpochsBeforeMs: h.now - 20*day})
	h.do(&clusterpb.Expire{EpochsBeforeMs: h.now - 20*day})
	if h.state.RingByID(id) != nil || len(h.state.Tenant("a").GetPastRoutes()) != 0 {
		t.Fatalf("rings %s", objects(h.state))
	}
}

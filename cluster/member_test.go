package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

func TestJoinIsEligibleOnceActive(t *testing.T) {
	h := created(t, 2, 1)
	h.do(nodeToken("join-n2", h.now+hour))
	h.do(joining("n2", "n2/a", false))
	m := h.state.Member("n2")
	if m.GetState() != clusterpb.MemberState_JOINING || m.GetStore() != 2 || m.GetIncarnation() != h.rev || m.GetActivated() != 0 {
		t.Fatalf("member %v", m)
	}
	if got := h.state.Eligible(h.state.Ring(DefaultRing)); len(got) != 1 {
		t.Fatalf("eligible while joining: %v", got)
	}
	h.refused(clusterpb.Refusal_CONFLICT_VERSION, "incarnation", &clusterpb.ActivateMember{Name: "n2", Incarnation: 1})
	h.do(&clusterpb.ActivateMember{Name: "n2", Incarnation: m.GetIncarnation()})
	if got := h.state.Eligible(h.state.Ring(DefaultRing)); len(got) != 2 || got[1] != (ring.Node{Store: 2, Weight: 100, Zone: "z2"}) {
		t.Fatalf("eligible: %v", got)
	}
	active := h.state.Member("n2")
	events := len(h.state.Events(0))
	h.do(&clusterpb.ActivateMember{Name: "n2"})
	h.do(joining("n2", "n2/a", false))
	if h.state.Member("n2") != active || len(h.state.Events(0)) != events {
		t.Fatalf("repetitions changed the member to %v", h.state.Member("n2"))
	}
	moved := joining("n2", "n2/a", false)
	moved.Member.Address = "elsewhere:1"
	h.do(moved)
	if m := h.state.Member("n2"); m.GetAddress() != "elsewhere:1" || m.GetState() != clusterpb.MemberState_ACTIVE || m.GetStore() != 2 {
		t.Fatalf("after coming back with another address: %v", m)
	}
}

func TestJoinNeedsATokenOfItsOwn(t *testing.T) {
	h := created(t, 2, 1)
	add := func(name, token string) *clusterpb.AddMember {
		a := joining(name, name+"/a", false)
		a.TokenId = token
		return a
	}
	h.refused(clusterpb.Refusal_DENIED, "token", add("n2", ""))
	h.refused(clusterpb.Refusal_DENIED, "token", add("n2", "unknown"))
	h.do(&clusterpb.CreateToken{Token: &clusterpb.Token{Id: "person", Role: clusterpb.TokenRole_ROLE_ADMIN, Hash: hashOf("p")}})
	h.refused(clusterpb.Refusal_DENIED, "token", add("n2", "person"))
	h.do(nodeToken("once", h.now+hour))
	h.do(add("n2", "once"))
	if b := h.state.Token("once"); b.GetBoundName() != "n2" || len(b.GetBoundKeyHash()) != keyHashLen {
		t.Fatalf("token %v", b)
	}
	h.refused(clusterpb.Refusal_DENIED, "token", add("n3", "once"))
	h.do(nodeToken("late", h.now+5000))
	h.now += 5000
	h.refused(clusterpb.Refusal_DENIED, "token", add("n3", "late"))
}

func TestAStoreBelongsToOneNode(t *testing.T) {
	h := created(t, 2, 2)
	h.do(nodeToken("join-n3", h.now+hour))
	copied := joining("n3", "n2/a", false)
	h.refused(clusterpb.Refusal_EXISTS, "store_id", copied)
	otherKey := joining("n2", "n2/a", true)
	otherKey.Member.KeyHash = hashOf("another key")
	h.refused(clusterpb.Refusal_DENIED, "key_hash", otherKey)
}

func TestAnEmptyDirectoryReplacesAStore(t *testing.T) {
	h := created(t, 2, 2)
	before := h.state.Member("n2")
	h.do(nodeToken("second", h.now+hour))
	again := joining("n2", "n2/b", false)
	again.TokenId = "second"
	h.refused(clusterpb.Refusal_EXISTS, "name", again)
	again.Replace = true
	h.do(again)
	m := h.state.Member("n2")
	if m.GetStore() != 3 || m.GetIncarnation() != before.GetIncarnation() || m.GetState() != clusterpb.MemberState_JOINING {
		t.Fatalf("member %v", m)
	}
	if old := h.state.Store(2); old.GetLost() != h.rev || old.GetLostTimeMs() != h.now || h.state.Holder(2) != nil {
		t.Fatalf("the old store %v", old)
	}
	h.refused(clusterpb.Refusal_DENIED, "store_id", joining("n2", "n2/a", true))
	h.do(&clusterpb.ActivateMember{Name: "n2"})
	h.spread(DefaultRing)
	if held := h.state.Ring(DefaultRing).Table.Held(); held[2] != 0 || held[3] != 8 {
		t.Fatalf("slots by store: %v", held)
	}
}

func TestUpdateMember(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.UpdateMember{Name: "n1", Weight: ref(uint32(250)), Zone: ref("b"), HttpAddress: ref("n1:10902")})
	if m := h.state.Member("n1"); m.GetWeight() != 250 || m.GetZone() != "b" || m.GetHttpAddress() != "n1:10902" || m.GetAddress() != "n1:19391" {
		t.Fatalf("member %v", m)
	}
	if got := changeTexts(h.state.Event(h.rev)); got != "weight 100 -> 250; zone z1 -> b; http_address=n1:10902" {
		t.Fatalf("the event says %q", got)
	}
	h.refused(clusterpb.Refusal_INVALID, "weight", &clusterpb.UpdateMember{Name: "n1", Weight: ref(uint32(0))})
	h.refused(clusterpb.Refusal_INVALID, "zone", &clusterpb.UpdateMember{Name: "n1", Zone: ref("a b")})
	h.refused(clusterpb.Refusal_INVALID, "address", &clusterpb.UpdateMember{Name: "n1", Address: ref("")})
	h.refused(clusterpb.Refusal_INVALID, "name", &clusterpb.UpdateMember{Name: "n 1"})
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.UpdateMember{Name: "n9"})
}

func TestRemoveByForceTakesTheStoreOutOfEverything(t *testing.T) {
	h := created(t, 3, 3)
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 2, Nodes: []string{"n1", "n2", "n3"}, Slots: 8})
	held := h.state.Ring(DefaultRing).Table.Held()[3] + h.state.Ring("hard").Table.Held()[3]
	h.do(&clusterpb.RemoveMember{Name: "n3", Force: true})
	for _, r := range h.state.Rings() {
		if n := r.Table.Held()[3]; n != 0 {
			t.Errorf("the lost store still holds %d slots of ring %s", n, r.Spec.GetName())
		}
	}
	past := 0
	for _, r := range h.state.Rings() {
		for _, e := range r.Table.Past() {
			if e.To == h.rev && e.Replicas.Has(3) {
				past++
			}
		}
	}
	if past != held {
		t.Errorf("%d epochs remember the lost store, it held %d slots", past, held)
	}
	if nodes := h.state.Ring("hard").Spec.GetNodes(); !slices.Equal(nodes, []string{"n1", "n2"}) {
		t.Errorf("the ring's nodes are %v", nodes)
	}
	gone := h.state.Removed("n3")
	if h.state.Member("n3") != nil || !gone.GetForced() || gone.GetRevision() != h.rev || !h.state.Lost(3) {
		t.Errorf("removed %v", gone)
	}
	if got := h.state.Ring(DefaultRing).Short(); got != 8 {
		t.Errorf("%d short slots", got)
	}
	if r := h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.RemoveMember{Name: "n3"}); !strings.Contains(r.GetMessage(), "removed at") {
		t.Errorf("refused with %q", r.GetMessage())
	}
}

func TestARemovedNameComesBackAsAnotherIncarnation(t *testing.T) {
	h := created(t, 1, 2)
	was := h.state.Member("n2").GetIncarnation()
	h.do(&clusterpb.RemoveMember{Name: "n2", Force: true})
	h.refused(clusterpb.Refusal_DENIED, "store_id", joining("n2", "n2/a", true))
	h.do(nodeToken("again", h.now+hour))
	fresh := joining("n2", "n2/b", false)
	fresh.TokenId = "again"
	h.do(fresh)
	if m := h.state.Member("n2"); m.GetIncarnation() <= was || m.GetStore() != 3 || h.state.Removed("n2") != nil {
		t.Fatalf("member %v, removed %v", m, h.state.Removed("n2"))
	}
}

func TestTheLastNodeStays(t *testing.T) {
	h := created(t, 1, 1)
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RemoveMember{Name: "n1", Force: true})
	h.do(nodeToken("join-n2", h.now+hour))
	h.do(joining("n2", "n2/a", false))
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RemoveMember{Name: "n1", Force: true})
	h.do(&clusterpb.BeginRemoval{Name: "n2"})
	h.do(&clusterpb.RemoveMember{Name: "n2"}) // it has never held anything
	if len(h.state.Members()) != 1 || h.state.Removed("n2").GetForced() {
		t.Fatalf("members %v", h.state.Members())
	}
}

func TestRemovedNamesAreBounded(t *testing.T) {
	h := created(t, 1, 1)
	s := h.state
	e := &edit{next: *s, rev: h.rev, now: h.now}
	for i := range maxRemoved + 10 {
		e.rev++
		m := &clusterpb.Member{Name: fmt.Sprintf("m%d", i)}
		e.setMember(m)
		e.dropMember(m, true)
	}
	if n := len(e.next.removed); n != maxRemoved || e.next.Removed("m0") != nil || e.next.Removed("m1009") == nil {
		t.Fatalf("%d removed names", n)
	}
	checkSound(t, &e.next)
}

func TestSlotTolerance(t *testing.T) {
	h := created(t, 3, 3)
	for dead, want := range []int{1, 0, -1, -2} {
		if got := h.state.SlotTolerance(func(s ring.Store) bool { return int(s) > dead }); got != want {
			t.Errorf("with %d dead: %d more may fail, want %d", dead, got, want)
		}
	}
}

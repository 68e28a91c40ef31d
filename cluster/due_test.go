package cluster

import (
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// Moving counts the slots that the leader gives other replicas or another quorum
// without being asked again.
func (s *State) Moving(r *Ring) int {
	nodes := s.Eligible(r)
	if len(nodes) == 0 || !s.moves(r) {
		return 0
	}
	return away(r, ring.Plan(r.Table, nodes, r.RF()))
}

func TestWhatMovesByItself(t *testing.T) {
	h := created(t, 1, 2)
	moving := func() int { return h.state.Moving(h.state.Ring(DefaultRing)) }
	wants := func(when string, want int) {
		t.Helper()
		if got := moving(); got != want {
			t.Fatalf("%s: %d slots move, want %d", when, got, want)
		}
	}
	rests := func(when string) {
		t.Helper()
		wants(when, 0)
	}
	rests("at rest")
	h.do(nodeToken("join-n3", h.now+hour))
	h.do(joining("n3", "n3/a", false))
	rests("a node joins")
	h.do(&clusterpb.ActivateMember{Name: "n3"})
	if n := moving(); n < 2 || n > 3 {
		t.Fatalf("8 slots of three nodes: %d move to the new one", n)
	}
	h.spread(DefaultRing)
	rests("after a node has joined")

	h.do(&clusterpb.UpdateMember{Name: "n3", Weight: ref(uint32(300))})
	rests("another weight")
	h.do(&clusterpb.PutRing{Name: DefaultRing, ReplicationFactor: 1, Nodes: []string{"n1", "n2"}})
	rests("another node list")
	h.do(&clusterpb.PutRing{Name: DefaultRing, ReplicationFactor: 2})
	wants("another replication factor", 8)
	h.spread(DefaultRing)
	rests("with a replica more")
	h.do(&clusterpb.PutRing{Name: DefaultRing, ReplicationFactor: 2, WriteQuorum: clusterpb.WriteQuorum_ALL})
	wants("another quorum", 8)
	h.spread(DefaultRing)

	held := h.state.Ring(DefaultRing).Table.Held()[3]
	h.do(&clusterpb.RemoveMember{Name: "n3", Force: true})
	wants("a node is gone", held)

	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 3, Slots: 8})
	hard := h.state.Ring("hard").Spec.GetId()
	if n := h.state.Moving(h.state.RingByID(hard)); n != 0 {
		t.Errorf("short for want of nodes: %d slots move", n)
	}
	h.do(&clusterpb.DeleteRing{Name: "hard"})
	if n := h.state.Moving(h.state.RingByID(hard)); n != 0 {
		t.Errorf("a deleted ring: %d slots move", n)
	}
}

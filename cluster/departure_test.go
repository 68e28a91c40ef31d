package cluster

import (
	"strings"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// stateOf is the member's state, with the process that drains.
func (h *story) stateOf(name string) (clusterpb.MemberState, uint64) {
	m := h.state.Member(name)
	return m.GetState(), m.GetDeparture().GetProcess()
}

func TestDrainAndBack(t *testing.T) {
	h := created(t, 3, 4)
	was := h.state.Member("n2").GetActivated()
	h.do(&clusterpb.DrainMember{Name: "n2", Reason: "kernel", Process: 7})
	if s, p := h.stateOf("n2"); s != clusterpb.MemberState_DRAINING || p != 7 {
		t.Fatalf("%v of process %d", s, p)
	}
	if d := h.state.Member("n2").GetDeparture(); d.GetReason() != "kernel" || d.GetRevision() != h.rev || d.GetSinceMs() != h.now {
		t.Fatalf("departure %v", d)
	}
	if n := h.state.Moving(h.state.Ring(DefaultRing)); n != 0 {
		t.Errorf("%d slots move because a node drains", n)
	}
	version := h.state.Member("n2").GetVersion()
	h.do(&clusterpb.DrainMember{Name: "n2", Process: 7}) // asked again
	h.do(&clusterpb.DrainMember{Name: "n2", Undo: true, Process: 6})
	if m := h.state.Member("n2"); m.GetVersion() != version {
		t.Errorf("another process ended the drain: %v", m)
	}
	h.do(&clusterpb.DrainMember{Name: "n2", Undo: true, Process: 7})
	if m := h.state.Member("n2"); m.GetState() != clusterpb.MemberState_ACTIVE || m.GetDeparture() != nil || m.GetActivated() != was {
		t.Fatalf("after undrain: %v", m)
	}
	h.do(&clusterpb.DrainMember{Name: "n2", Undo: true}) // harmless
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.DrainMember{Name: "n9"})
	h.refused(clusterpb.Refusal_INVALID, "name", &clusterpb.DrainMember{Name: "n/2"})
	h.version(1).refused(clusterpb.Refusal_CONFLICT_VERSION, "version", &clusterpb.DrainMember{Name: "n2"})
}

func TestNoDrainBelowTheQuorum(t *testing.T) {
	h := created(t, 3, 3)
	h.do(&clusterpb.DrainMember{Name: "n2", Process: 7})
	r := h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.DrainMember{Name: "n3", Process: 8})
	for _, want := range []string{"8 of 8 slots", "ring default", "1 of the 2 replicas", "n2 is draining"} {
		if !strings.Contains(r.GetMessage(), want) {
			t.Errorf("refused with %q, which does not say %q", r.GetMessage(), want)
		}
	}
	h.do(&clusterpb.DrainMember{Name: "n2", Undo: true})
	h.do(&clusterpb.DrainMember{Name: "n3", Process: 8})

	one := created(t, 1, 2)
	if r := one.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.DrainMember{Name: "n1", Process: 1}); !strings.Contains(r.GetMessage(), "one replica") {
		t.Errorf("refused with %q", r.GetMessage())
	}
	one.do(nodeToken("join-n3", one.now+hour))
	one.do(joining("n3", "n3/a", false))
	one.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.DrainMember{Name: "n3", Process: 1})
}

// TestRemoveAsTheLeaderDoes follows a removal from its beginning to its end, by
// the leader's own steps.
func TestRemoveAsTheLeaderDoes(t *testing.T) {
	h := created(t, 3, 4)
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 2, Nodes: []string{"n2", "n3", "n4"}, Slots: 8})
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RemoveMember{Name: "n4"})
	h.do(&clusterpb.BeginRemoval{Name: "n4", Reason: "old"})
	if h.state.Moving(h.state.Ring(DefaultRing)) == 0 || h.state.Moving(h.state.Ring("hard")) == 0 {
		t.Fatal("no slot moves away")
	}
	if n := len(h.state.Eligible(h.state.Ring(DefaultRing))); n != 3 {
		t.Fatalf("%d nodes are eligible", n)
	}
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RemoveMember{Name: "n4"})
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.DrainMember{Name: "n4", Process: 1})
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.DrainMember{Name: "n4", Undo: true})
	h.refused(clusterpb.Refusal_INVALID, "nodes", &clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 2, Nodes: []string{"n3", "n4"}})
	h.do(&clusterpb.BeginRemoval{Name: "n4", BucketIsEnough: true}) // asked again
	if d := h.state.Member("n4").GetDeparture(); !d.GetBucketIsEnough() || d.GetReason() != "old" {
		t.Fatalf("departure %v", d)
	}
	h.spread(DefaultRing)
	h.spread("hard")
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RemoveMember{Name: "n4"}) // it is not emptied
	h.do(&clusterpb.EmptyStore{Store: 4, InBucket: true})
	h.do(&clusterpb.RemoveMember{Name: "n4"})
	if h.state.Lost(4) {
		t.Errorf("its store is lost: %v", h.state.Store(4))
	}
	if gone := h.state.Removed("n4"); h.state.Member("n4") != nil || gone.GetForced() || gone.GetRevision() != h.rev {
		t.Errorf("removed %v", gone)
	}
	if nodes := h.state.Ring("hard").Spec.GetNodes(); len(nodes) != 2 {
		t.Errorf("ring hard is on %v", nodes)
	}
	if n := h.state.Moving(h.state.Ring(DefaultRing)); n != 0 {
		t.Errorf("%d slots move after it has gone", n)
	}
	// Its directory is no new node's.
	h.do(nodeToken("again", h.now+hour))
	again := joining("n4", "n4/a", false)
	again.TokenId = "again"
	if r := h.refused(clusterpb.Refusal_DENIED, "store_id", again); !strings.Contains(r.GetMessage(), "empty") {
		t.Errorf("refused with %q", r.GetMessage())
	}
	again = joining("n4", "n4/b", false)
	again.TokenId = "again"
	h.do(again)
}

func TestRemovalIsCancelledWhileItMoves(t *testing.T) {
	h := created(t, 2, 3)
	h.do(&clusterpb.BeginRemoval{Name: "n3", Cancel: true}) // nothing to cancel
	h.do(&clusterpb.BeginRemoval{Name: "n3"})
	r := h.state.Ring(DefaultRing)
	held := r.Table.Held()[3]
	step := h.stepAway("n3")
	h.do(step)
	h.do(&clusterpb.BeginRemoval{Name: "n3", Cancel: true})
	if m := h.state.Member("n3"); m.GetState() != clusterpb.MemberState_ACTIVE || m.GetActivated() != h.rev || m.GetDeparture() != nil {
		t.Fatalf("after the cancel: %v", m)
	}
	h.spread(DefaultRing)
	// Also when it is emptied already.
	h.do(&clusterpb.BeginRemoval{Name: "n3"})
	h.spread(DefaultRing)
	h.do(&clusterpb.EmptyStore{Store: 3, InBucket: true})
	h.do(&clusterpb.BeginRemoval{Name: "n3", Cancel: true})
	if h.state.Store(3).GetEmptied() != 0 {
		t.Error("its store counts as emptied")
	}
	h.spread(DefaultRing)
	if n := h.state.Ring(DefaultRing).Table.Held()[3]; n < held-1 || n > held+1 {
		t.Errorf("it held %d slots and has %d again", held, n)
	}
}

// stepAway is the planner's next step while the member leaves.
func (h *story) stepAway(name string) *clusterpb.MoveSlots {
	h.t.Helper()
	r := h.state.Ring(DefaultRing)
	may := map[ring.Store]bool{}
	for _, n := range h.state.Eligible(r) {
		may[n.Store] = true
	}
	steps := stepsOf(h.state, r, ring.Plan(r.Table, h.state.Eligible(r), r.RF()), may)
	if len(steps) == 0 {
		h.t.Fatalf("no step leads away from %s", name)
	}
	return moveOf(r, steps)
}

func TestRemovalIsRefusedWithNumbers(t *testing.T) {
	h := created(t, 3, 3)
	r := h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.BeginRemoval{Name: "n3"})
	for _, want := range []string{"ring default", "2 nodes", "3 replicas", "--replication-factor 2", "--force"} {
		if !strings.Contains(r.GetMessage(), want) {
			t.Errorf("refused with %q, which does not say %q", r.GetMessage(), want)
		}
	}
	alone := created(t, 1, 2)
	alone.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 1, Nodes: []string{"n2"}, Slots: 8})
	if r := alone.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.BeginRemoval{Name: "n2"}); !strings.Contains(r.GetMessage(), "ring hard is on n2 alone") {
		t.Errorf("refused with %q", r.GetMessage())
	}
	alone.do(&clusterpb.BeginRemoval{Name: "n1"})
	if r := alone.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RemoveMember{Name: "n2", Force: true}); !strings.Contains(r.GetMessage(), "last node") {
		t.Errorf("refused with %q", r.GetMessage())
	}
}

// TestARingWithTooFewNodesKeepsWhoLeaves: after a node was lost there is nobody
// to take the leaver's slots. It keeps them until somebody joins.
func TestARingWithTooFewNodesKeepsWhoLeaves(t *testing.T) {
	h := created(t, 3, 4)
	h.do(&clusterpb.BeginRemoval{Name: "n4"})
	h.do(&clusterpb.RemoveMember{Name: "n3", Force: true})
	h.closeAll(h.state.Ring(DefaultRing))
	r := h.state.Ring(DefaultRing)
	held := r.Table.Held()[4]
	may := map[ring.Store]bool{1: true, 2: true}
	for range 10 {
		steps := stepsOf(h.state, r, ring.Plan(r.Table, h.state.Eligible(r), r.RF()), may)
		if len(steps) == 0 {
			break
		}
		h.do(moveOf(r, steps))
		h.closeAll(h.state.Ring(DefaultRing))
		r = h.state.Ring(DefaultRing)
	}
	if n := r.Table.Held()[4]; held == 0 || n == 0 {
		t.Fatalf("it held %d slots and %d now, and nobody has them instead", held, n)
	}
	for i := range r.Table.Slots() {
		if s := r.Table.At(i); s.Replicas.Len() < s.Quorum {
			t.Errorf("slot %d has %d replicas and quorum %d", i, s.Replicas.Len(), s.Quorum)
		}
	}
	healths := []*clusterpb.Health{}
	if got := h.state.RemovalOf("n4", healths); got.Stage != StageMoving || !strings.Contains(got.String(), "2 other nodes for 3 replicas") {
		t.Errorf("the removal is %v", got)
	}
	h.join("n5")
	r = h.state.Ring(DefaultRing)
	may[5] = true
	for range 20 {
		steps := stepsOf(h.state, r, ring.Plan(r.Table, h.state.Eligible(r), r.RF()), may)
		if len(steps) == 0 {
			break
		}
		h.do(moveOf(r, steps))
		h.closeAll(h.state.Ring(DefaultRing))
		r = h.state.Ring(DefaultRing)
	}
	if n := r.Table.Held()[4]; n != 0 {
		t.Errorf("it holds %d slots with a new node there", n)
	}
}

func TestAnOperatorsWeightIsNoDrains(t *testing.T) {
	h := created(t, 1, 2)
	h.join("n3") // its slots have not come yet
	h.do(&clusterpb.DrainMember{Name: "n3", Undo: true})
	h.do(&clusterpb.UpdateMember{Name: "n2", Address: ref("n2:5")})
	if h.state.Moving(h.state.Ring(DefaultRing)) == 0 {
		t.Error("an address that changes holds up the slots of a node that has joined")
	}
}

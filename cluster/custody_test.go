package cluster

import (
	"strings"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// leave begins the removal of a node and moves its slots to the others.
func (h *story) leave(name string) ring.Store {
	h.t.Helper()
	h.setState(name, clusterpb.MemberState_REMOVING)
	h.spread(DefaultRing)
	h.closeAll(h.state.Ring(DefaultRing))
	return storeOf(h.state.Member(name).GetStore())
}

func (h *story) setState(name string, to clusterpb.MemberState) {
	e := &edit{next: *h.state, rev: h.rev}
	m := copyOf(h.state.Member(name))
	m.State, m.Departure, m.Version = to, nil, h.rev
	if to == clusterpb.MemberState_REMOVING {
		m.Departure = &clusterpb.Departure{Revision: h.rev}
	}
	e.setMember(m)
	h.state = &e.next
}

func TestAnEmptiedStoreLeavesWithoutBeingLost(t *testing.T) {
	h := created(t, 2, 4)
	st := uint32(4)
	give := &clusterpb.SetCustodians{Store: st, Custodians: []uint32{2}}
	h.refused(clusterpb.Refusal_UNSAFE, "store", give) // it stays
	h.setState("n4", clusterpb.MemberState_REMOVING)
	h.refused(clusterpb.Refusal_UNSAFE, "store", &clusterpb.EmptyStore{Store: st, InBucket: true}) // slots
	h.leave("n4")
	h.refused(clusterpb.Refusal_UNSAFE, "store", &clusterpb.EmptyStore{Store: st})
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RemoveMember{Name: "n4"})
	for field, bad := range map[string]*clusterpb.SetCustodians{
		"custodians": {Store: st, Custodians: []uint32{4}},
		"were":       {Store: st, Custodians: []uint32{2}, Were: []uint32{3}},
	} {
		if r := h.apply(bad).Refusal; r.GetField() != field {
			t.Fatalf("%v: %v", bad, r)
		}
	}
	h.do(give)
	if since, ok := h.state.Custody(4, 2); !ok || since != h.rev {
		t.Fatalf("custody since %d, %v", since, ok)
	}
	h.do(&clusterpb.EmptyStore{Store: st})
	h.do(&clusterpb.RemoveMember{Name: "n4"})
	if h.state.Lost(4) || h.state.Whereabouts(4) != "kept by n2" || len(h.state.InCustody(2)) != 1 {
		t.Fatalf("store 4 is %s: %v", h.state.Whereabouts(4), h.state.Store(4))
	}
	h.refused(clusterpb.Refusal_UNSAFE, "custodians", &clusterpb.SetCustodians{Store: st, Were: []uint32{2}})

	// A second custodian counts from its own naming, the first goes on.
	first, _ := h.state.Custody(4, 2)
	h.do(&clusterpb.SetCustodians{Store: st, Custodians: []uint32{2, 3}, Were: []uint32{2}})
	second, _ := h.state.Custody(4, 3)
	if again, _ := h.state.Custody(4, 2); again != first || second != h.rev {
		t.Fatalf("custody since %d and %d, want %d and %d", again, second, first, h.rev)
	}
	// Its last custodian's end is its own.
	h.do(&clusterpb.PutRing{Name: DefaultRing, ReplicationFactor: 1})
	h.do(&clusterpb.RemoveMember{Name: "n2", Force: true})
	if h.state.Lost(4) || h.state.Whereabouts(4) != "kept by n3" {
		t.Fatalf("store 4 is %s", h.state.Whereabouts(4))
	}
	h.do(&clusterpb.RemoveMember{Name: "n3", Force: true})
	if !h.state.Lost(4) || h.state.Whereabouts(4) != "lost" {
		t.Fatalf("store 4 is %s", h.state.Whereabouts(4))
	}
}

func TestWhatTheBucketHasIsNotLostWithItsCustodian(t *testing.T) {
	h := created(t, 2, 4)
	h.leave("n4")
	h.do(&clusterpb.SetCustodians{Store: 4, Custodians: []uint32{2}})
	h.do(&clusterpb.EmptyStore{Store: 4, InBucket: true})
	h.do(&clusterpb.RemoveMember{Name: "n4"})
	h.do(&clusterpb.RemoveMember{Name: "n2", Force: true})
	if h.state.Lost(4) || !strings.Contains(h.state.Whereabouts(4), "Store Gateway") {
		t.Fatalf("store 4 is %s", h.state.Whereabouts(4))
	}
}

// TestACustodianHandsOnBeforeItLeaves: while it keeps something for another, its
// own store does not count as empty.
func TestACustodianHandsOnBeforeItLeaves(t *testing.T) {
	h := created(t, 1, 4)
	h.leave("n4")
	h.do(&clusterpb.SetCustodians{Store: 4, Custodians: []uint32{3}})
	h.do(&clusterpb.EmptyStore{Store: 4})
	h.do(&clusterpb.RemoveMember{Name: "n4"})
	h.leave("n3")
	h.do(&clusterpb.SetCustodians{Store: 3, Custodians: []uint32{2}})
	h.refused(clusterpb.Refusal_UNSAFE, "store", &clusterpb.EmptyStore{Store: 3})
	h.do(&clusterpb.SetCustodians{Store: 4, Custodians: []uint32{3, 2}, Were: []uint32{3}})
	h.do(&clusterpb.SetCustodians{Store: 4, Custodians: []uint32{2}, Were: []uint32{3, 2}})
	h.do(&clusterpb.EmptyStore{Store: 3})
	h.do(&clusterpb.RemoveMember{Name: "n3"})
	if kept := h.state.InCustody(2); len(kept) != 2 || h.state.Lost(3) || h.state.Lost(4) {
		t.Fatalf("n2 keeps %v", kept)
	}
}

func TestALeaverWhoseCustodianIsGoneIsNotEmpty(t *testing.T) {
	h := created(t, 1, 4)
	h.leave("n4")
	h.do(&clusterpb.SetCustodians{Store: 4, Custodians: []uint32{3}})
	h.do(&clusterpb.EmptyStore{Store: 4})
	h.do(&clusterpb.RemoveMember{Name: "n3", Force: true})
	if st := h.state.Store(4); st.GetEmptied() != 0 || h.state.Lost(4) {
		t.Fatalf("%v", st)
	}
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RemoveMember{Name: "n4"})
}

// TestALeaverLooksAgainWhereACustodianIsGone: the one that is left may have been
// named a moment ago, and have nothing yet.
func TestALeaverLooksAgainWhereACustodianIsGone(t *testing.T) {
	for name, gone := range map[string]func(h *story){
		"gave it back": func(h *story) { h.do(&clusterpb.SetCustodians{Store: 4, Were: []uint32{3}}) },
		"is lost while it gives on": func(h *story) {
			h.do(&clusterpb.SetCustodians{Store: 4, Custodians: []uint32{3, 2}, Were: []uint32{3}})
			h.do(&clusterpb.RemoveMember{Name: "n3", Force: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := created(t, 1, 4)
			h.leave("n4")
			h.do(&clusterpb.SetCustodians{Store: 4, Custodians: []uint32{3}})
			h.do(&clusterpb.EmptyStore{Store: 4})
			gone(h)
			if st := h.state.Store(4); st.GetEmptied() != 0 {
				t.Errorf("it counts as empty: %v", st)
			}
			h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RemoveMember{Name: "n4"})
		})
	}
}

// TestAStoreThatComesBackIsItsNodesOwn: it was on its way out when the snapshot
// was made. It takes samples again that no custodian has.
func TestAStoreThatComesBackIsItsNodesOwn(t *testing.T) {
	h := created(t, 1, 4)
	h.leave("n4")
	h.do(&clusterpb.SetCustodians{Store: 4, Custodians: []uint32{3}})
	h.do(&clusterpb.EmptyStore{Store: 4, InBucket: true})
	id := h.state.Store(4).GetId()
	first := joining("n9", "n9/z", false)
	h.do(&clusterpb.RefoundCluster{Member: first.GetMember(), StoreId: first.GetStoreId(), CaCertificates: []byte("pem"), Known: 1})
	if len(h.state.Store(4).GetCustodians()) != 1 {
		t.Fatalf("nobody answers for it while it is away: %v", h.state.Store(4))
	}
	h.do(nodeToken("join-n4", h.now+hour))
	again := joining("n4", "n4/z", false)
	again.StoreId = id
	h.do(again)
	st := h.state.Store(4)
	if h.state.Holder(4).GetName() != "n4" || st.GetEmptied() != 0 || st.GetInBucket() || len(st.GetCustodians()) != 0 {
		t.Fatalf("store 4 of %s: %v", h.state.Holder(4).GetName(), st)
	}
}

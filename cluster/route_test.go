package cluster

import (
	"fmt"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// TestARouteIsClosedWhenNoQuorumCanMissItsEnd: of three replicas two have to
// know that the tenant has gone.
func TestARouteIsClosedWhenNoQuorumCanMissItsEnd(t *testing.T) {
	h := created(t, 3, 3)
	h.do(&clusterpb.PutTenant{Id: "a"})
	h.do(&clusterpb.PutTenant{Id: "b"})
	soft := h.state.Ring(DefaultRing).Spec.GetId()
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 3, Slots: 8})
	moved := h.rev
	announced := map[ring.Store]uint64{1: moved, 2: moved - 1, 3: moved - 1}
	if through, waiting := h.state.closableRoutes(announced); len(through) != 0 || !waiting {
		t.Fatalf("closable with one announcement: %v", through)
	}
	announced[3] = moved
	through, waiting := h.state.closableRoutes(announced)
	if through[soft] != moved || len(through) != 1 || waiting {
		t.Fatalf("closable with two of three: %v", through)
	}
	h.do(&clusterpb.CloseRoutes{Ring: soft, Through: moved - 1}) // it ended later
	if p := h.state.Tenant("a").GetPastRoutes()[0]; p.GetClosed() != 0 {
		t.Fatalf("closed: %v", p)
	}
	res := h.do(&clusterpb.CloseRoutes{Ring: soft, Through: moved})
	if p := h.state.Tenant("a").GetPastRoutes()[0]; p.GetClosed() != h.rev || p.GetClosedMs() != h.now {
		t.Fatalf("not closed: %v", p)
	}
	if len(res.Changed.Tenants) != 1 || len(h.state.openRoutes()) != 0 {
		t.Errorf("changed %+v, open %v", res.Changed, h.state.openRoutes())
	}
	closed := h.state.Tenant("a").GetPastRoutes()[0].GetClosed()
	h.do(&clusterpb.CloseRoutes{Ring: soft, Through: h.rev}) // twice is once
	if p := h.state.Tenant("a").GetPastRoutes()[0]; p.GetClosed() != closed {
		t.Errorf("closed again: %v", p)
	}
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.CloseRoutes{Ring: 99})
}

// TestTheLeaderClosesRoutes: each time that a tenant moves, and a new leader
// does it for the old.
func TestTheLeaderClosesRoutes(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.settled()
	b.voters(3)
	n := b.leader()
	n.propose(putTenant("a"))
	closed := func(want int) {
		t.Helper()
		b.eventually(fmt.Sprintf("%d closed routes", want), func() string {
			for _, o := range b.running() {
				past := o.node.State().Tenant("a").GetPastRoutes()
				if len(past) != want {
					return fmt.Sprintf("%s knows %d past routes", o.name, len(past))
				}
				for _, p := range past {
					if p.GetClosed() == 0 {
						return fmt.Sprintf("%s: open is %v", o.name, p)
					}
				}
			}
			return ""
		})
	}
	hard := &clusterpb.Command{Change: &clusterpb.Command_PutRing{PutRing: &clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 3, Slots: 16}}}
	n.propose(hard)
	closed(1)
	n.propose(&clusterpb.Command{Change: &clusterpb.Command_DeleteRing{DeleteRing: &clusterpb.DeleteRing{Name: "hard"}}})
	n.stop()
	b.leader()
	n.start()
	closed(2)
	b.agree()
}

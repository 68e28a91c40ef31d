package cluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// TestMaintenanceHoldsAllButWhatIsBelowItsQuorum: two of five nodes are lost.
// Slots that had both take no write: they get another replica at once. The rest
// waits until the maintenance is over.
func TestMaintenanceHoldsAllButWhatIsBelowItsQuorum(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(5, InitRequest{ReplicationFactor: 3})
	b.settled()
	b.voters(3)
	maintenance := func(on bool) {
		t.Helper()
		set := DefaultSettings()
		set.Maintenance = on
		nodes[0].propose(&clusterpb.Command{Change: &clusterpb.Command_PutSettings{PutSettings: &clusterpb.PutSettings{Settings: set}}})
	}
	maintenance(true)
	lost := 0
	for _, server := range b.leader().node.engine.Load().raft.GetConfiguration().Configuration().Servers {
		if i := slices.IndexFunc(nodes, func(n *bedNode) bool { return n.name == nodeOf(server.ID) }); server.Suffrage != raft.Voter {
			b.losesNode(nodes[i])
			lost++
		}
	}
	if lost != 2 {
		t.Fatalf("%d nodes do not vote", lost)
	}
	ring := func() *Ring { return b.leader().node.State().Ring(DefaultRing) }
	b.eventually("no write is refused", func() string {
		if n := ring().BelowQuorum(); n > 0 {
			return fmt.Sprintf("%d slots are below their quorum", n)
		}
		return ""
	})
	for range 10 { // some rounds of the leader later
		nodes[0].propose(putTenant(fmt.Sprintf("t-%d", nodes[0].node.State().Revision())))
	}
	r := ring()
	if r.Short() == 0 || r.Spec.GetMove().GetMoved() == 0 || !isUnderWay(r.Spec.GetMove()) {
		t.Errorf("%d slots are short, and the move is %v", r.Short(), r.Spec.GetMove())
	}
	maintenance(false)
	b.settled()
}

// losesNode stops a node and removes it by force.
func (b *bed) losesNode(gone *bedNode) {
	b.t.Helper()
	gone.stop()
	b.eventually(gone.name+" is removed by force", func() string {
		via := b.leader()
		answer, err := via.node.Propose(via.ctx(), &clusterpb.Command{Change: &clusterpb.Command_RemoveMember{
			RemoveMember: &clusterpb.RemoveMember{Name: gone.name, Force: true},
		}})
		if err != nil {
			return err.Error()
		}
		return answer.GetRefusal().GetMessage()
	})
}

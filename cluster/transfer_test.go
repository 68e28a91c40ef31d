package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestTransfersToAHungNodeDoNotStopTheLeader hands leadership twice to a node
// whose disk has stalled, lets the leader lose its place meanwhile, and gives it
// back: it takes changes again, because no call to a peer lasts for longer than
// the transport's timeout (hashicorp/raft#696).
func TestTransfersToAHungNodeDoNotStopTheLeader(t *testing.T) {
	b := newRaftBed(t, "a", "b", "c")
	b.start(500*time.Millisecond, false)
	b.elect("a", "c")
	b.apply("a", "one")
	a, hung := b.nodes["a"].raft, b.nodes["b"]
	hung.disk.stall.Lock()
	b.apply("a", "two") // with c
	for range 2 {
		if err := a.LeadershipTransferToServer("b", "b").Error(); err == nil {
			t.Fatal("leadership went to a node that hangs")
		}
	}
	b.until("the leader takes changes beside the hung node, whoever it is", func() bool { return b.applyAnywhere("three") })

	for _, name := range []string{"b", "c"} {
		b.nodes["a"].trans.cut.Store(raft.ServerID(name), true)
		b.nodes[name].trans.cut.Store(raft.ServerID("a"), true)
	}
	b.until("a leads no more", func() bool { return a.State() != raft.Leader })
	hung.disk.stall.Unlock()
	for _, n := range b.nodes {
		n.trans.cut.Clear()
	}
	b.until("a leads again and takes a change", func() bool {
		for name, n := range b.nodes {
			if name != "a" && n.raft.State() == raft.Leader {
				_ = n.raft.LeadershipTransferToServer("a", "a").Error()
			}
		}
		return a.State() == raft.Leader && a.Apply([]byte("four"), time.Second).Error() == nil
	})
	for name, n := range b.nodes {
		b.until(name+" applied four", func() bool { return n.fsm.has("four") })
	}
}

// TestLeadershipGoesToNobodyWhoIsSilent: a voter that was not heard a moment
// ago is refused before Raft is asked.
func TestLeadershipGoesToNobodyWhoIsSilent(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.voters(3)
	leader := b.leader()
	var silent *bedNode
	for _, n := range b.nodes {
		if n != leader {
			silent = n
		}
	}
	silent.stop()
	leader = b.leader()
	b.eventually("the silent node is refused", func() string {
		err := leader.node.TransferLeadership(leader.ctx(), silent.name)
		if err == nil || !strings.Contains(err.Error(), "heard in the last") {
			return fmt.Sprint(err)
		}
		return ""
	})
	leader.propose(putTenant("after"))
}

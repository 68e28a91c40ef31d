package cluster

import (
	"path/filepath"
	"sync"
	"testing"
)

// heard collects the revisions that a node publishes from its start on.
type heard struct {
	mu        sync.Mutex
	revisions []uint64
	first     Change
}

func (h *heard) hear(c Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.revisions) == 0 {
		h.first = c
	}
	h.revisions = append(h.revisions, c.New.Revision())
}

func (h *heard) least() (uint64, Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.revisions) == 0 {
		return 0, Change{}
	}
	return h.revisions[0], h.first
}

// TestACrashWhileTheLogIsFetchedAnewPublishesNothingOlder: the log was given up,
// nobody has sent it again yet, and the process ends.
func TestACrashWhileTheLogIsFetchedAnewPublishesNothingOlder(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.voters(3)
	last := b.nodes[2]
	for _, id := range []string{"a", "b", "c"} {
		b.nodes[0].propose(putTenant(id))
	}
	b.agree()
	announced := last.node.State().Revision()
	b.nodes[0].stop()
	b.nodes[1].stop()
	last.node.heal(last.node.engine.Load(), "a test says so")
	if got := last.node.State().Revision(); got != announced || last.node.fsm.Doubted() == "" {
		t.Fatalf("revision %d, doubted %q: want what was there, in doubt", got, last.node.fsm.Doubted())
	}
	last.stop()

	var h heard
	b.adjust = func(n *Node, i int) {
		if i == 2 {
			n.OnChange(h.hear)
		}
	}
	last.last.Store(0) // it comes back with less, and must not show it
	last.start()
	if got := last.node.State().Revision(); got != 0 {
		t.Errorf("it serves by revision %d before it has heard anything", got)
	}
	b.nodes[0].start()
	b.nodes[1].start()
	b.agree()
	b.nodes[0].propose(putTenant("d"))
	b.agree()
	least, first := h.least()
	if least < announced {
		t.Errorf("it published revision %d after it had announced %d", least, announced)
	}
	if !first.Keys.AllTenants || first.Old.Revision() != 0 || first.Old.TenantCount() != 0 {
		t.Errorf("the first change is from revision %d, of %+v: watchers miss what came before", first.Old.Revision(), first.Keys)
	}
}

// TestWhoJoinsAgainPublishesNothingFromBefore: after a restart, too.
func TestWhoJoinsAgainPublishesNothingFromBefore(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{Name: "test", ReplicationFactor: 2})
	b.voters(3)
	leader := b.leader()
	i := 0
	if b.nodes[i] == leader {
		i = 1
	}
	n := b.nodes[i]
	n.rejoin(leader)
	b.agree()
	joined := n.node.State().Member(n.name).GetIncarnation()
	if floor, err := readFloor(n.node.raftDir()); err != nil || floor < joined {
		t.Fatalf("floor %d, %v: want %d at least", floor, err, joined)
	}
	n.stop()
	if err := setAside(filepath.Join(n.dir, "raft")); err != nil { // a crash before the log was sent
		t.Fatal(err)
	}
	var h heard
	b.adjust = func(node *Node, k int) {
		if k == i {
			node.OnChange(h.hear)
		}
	}
	n.last.Store(0)
	n.start()
	b.agree()
	if least, _ := h.least(); least < joined {
		t.Errorf("it published revision %d, and joined again at %d", least, joined)
	}
}

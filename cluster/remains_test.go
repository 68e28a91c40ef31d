package cluster

import (
	"errors"
	"testing"
)

// TestRemainsAreWhatANodeServedBy stops nodes and compares their directories
// with what they said before.
func TestRemainsAreWhatANodeServedBy(t *testing.T) {
	b := newBed(t)
	b.cluster(2, InitRequest{})
	b.voters(2)
	leader := b.leader()
	for _, id := range []string{"a", "b"} {
		leader.propose(putTenant(id))
	}
	between := leader.node.State()
	if _, err := leader.node.Barrier(leader.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := leader.node.engine.Load().raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	leader.propose(putTenant("c"))
	b.agree()
	if _, err := OpenRemains(leader.dir); !errors.Is(err, ErrInUse) {
		t.Errorf("the directory of a running node: %v", err)
	}
	last := leader.node.State()
	for _, n := range b.nodes {
		n.stop()
	}
	sums := map[uint64]uint64{}
	for _, n := range b.nodes {
		r, err := OpenRemains(n.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []*State{between, last} {
			st, err := r.StateAt(want.Revision())
			if err != nil || st.Revision() != want.Revision() || st.Hash() != want.Hash() {
				t.Errorf("%s at revision %d: %v, revision %d, hash %x, want %x", n.name, want.Revision(), err, st.Revision(), st.Hash(), want.Hash())
			}
		}
		if r.Revision() < last.Revision() {
			t.Errorf("%s recorded %d, has served by %d", n.name, r.Revision(), last.Revision())
		}
		servers, err := r.Servers()
		if err != nil || len(servers) != 2 || !servers["n1"] || !servers["n2"] {
			t.Errorf("%s: servers %v, %v", n.name, servers, err)
		}
		first, end, err := r.Entries()
		if err != nil || first > last.Revision() || end < last.Revision() {
			t.Errorf("%s: entries %d to %d, %v", n.name, first, end, err)
		}
		for i := first; i <= last.Revision(); i++ {
			_, sum, err := r.Entry(i)
			if other, ok := sums[i]; err != nil || ok && other != sum {
				t.Errorf("%s: entry %d: %v, %x and %x", n.name, i, err, sum, other)
			}
			sums[i] = sum
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

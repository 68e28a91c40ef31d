package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAReplicationFactorChangesUnderWrites: three copies become two and two become
// three again, in the ring of all and in a hard one, while each node is written
// to. Nothing is refused, and every node counts what was acknowledged in a complete
// answer. For the time with two copies, one of which was enough, no node may be
// missing; this is as true when there are three again.
func TestAReplicationFactorChangesUnderWrites(t *testing.T) {
	t.Parallel()
	beds(t, replicationFactorChanges)
}

func replicationFactorChanges(t *testing.T, b *bed) {
	rings := []string{"default", "hard"}
	change := func(rf int) {
		for k, name := range rings {
			b.cli(k, "ring", "set", name, "--replication-factor", strconv.Itoa(rf))
		}
	}
	b.cli(0, "ring", "create", "hard", "--tenants", "solo", "--nodes", "n1,n2,n3", "--slots", "64")
	down := b.writers("team", "solo")
	down.wrote()
	change(2)
	down.wrote() // while they go
	b.copies(2, rings...)
	require.Contains(t, b.cli(1, "ring", "show", "hard"), "With two copies one is enough")
	down.wrote()
	down.end()
	down.complete()
	b.audit()

	up := b.writers("team", "solo")
	up.wrote()
	change(3)
	up.wrote()
	b.copies(3, rings...)
	up.wrote()
	up.end()
	up.complete()
	down.complete()

	spare := b.spares()[0]
	asked := (spare + 1) % len(b.nodes)
	b.stop(spare)
	for tenant, held := range map[string]bool{"team": true, "solo": spare < 3} {
		_, err := b.ask(asked, "-t", tenant, "count(m)")
		if !held {
			require.NoError(t, err, "n%d was never in the ring of %s", spare+1, tenant)
			continue
		}
		require.ErrorContains(t, err, fmt.Sprintf("missing n%d", spare+1))
	}
	b.start(spare)
	b.settle()
	up.complete()
	down.complete()
}

// writers have a pen for each tenant, which writes through all nodes in turn.
type writers []*pen

func (b *bed) writers(tenants ...string) (w writers) {
	for _, tenant := range tenants {
		w = append(w, b.pen(tenant, 20, b.all()...))
		b.t.Cleanup(w[len(w)-1].halt)
	}
	return w
}

// all are the nodes, from 0.
func (b *bed) all() (nodes []int) {
	for i := range b.nodes {
		nodes = append(nodes, i)
	}
	return nodes
}

// wrote waits until each has written through each node.
func (w writers) wrote() {
	for _, p := range w {
		p.b.t.Helper()
		p.wrote(2 * len(p.doors))
	}
}

func (w writers) end() {
	for _, p := range w {
		p.b.t.Helper()
		p.end()
	}
}

func (w writers) complete() {
	for _, p := range w {
		p.b.t.Helper()
		p.complete(p.b.all()...)
	}
}

// copies waits until every node sees so many replicas of each slot of the rings, and
// no period of one in which a write might still begin.
func (b *bed) copies(rf int, rings ...string) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("each slot has %d replicas", rf), func() error {
		for i, n := range b.nodes {
			for _, name := range rings {
				r := n.node.cluster.State().Ring(name)
				for k := range r.Table.Slots() {
					if s := r.Table.Slot(k); s.Replicas.Len() != rf || s.Quorum != r.QuorumAt(rf) {
						return fmt.Errorf("n%d sees %v of %d in slot %d of %s", i+1, s.Replicas, s.Quorum, k, name)
					}
				}
				if open := r.Table.Open(); len(open) > 0 {
					return fmt.Errorf("n%d sees %d open epochs of %s", i+1, len(open), name)
				}
			}
		}
		return nil
	})
}

// spares are nodes, from 0, that may be stopped one and all while the others keep
// a leader: those without a vote, and then one that has a vote and does not lead.
func (b *bed) spares() (nodes []int) {
	b.t.Helper()
	var st statusAnswer
	out, _, _ := b.try(0, "cluster", "status", "-o", "json") // whether it calls itself healthy is no matter
	require.NoError(b.t, json.Unmarshal([]byte(out), &st))
	voter := -1
	for _, n := range st.Nodes {
		i := slices.IndexFunc(b.nodes, func(r *running) bool { return r.cfg.Name == n.Name })
		switch n.Role {
		case "non-voter":
			nodes = append(nodes, i)
		case "voter":
			voter = i
		}
	}
	require.NotEqual(b.t, -1, voter, "%+v", st.Nodes)
	return append(nodes, voter)
}

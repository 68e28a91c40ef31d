package main

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// TestATenantMovesWhileItsLeaderDiesAndACoordinatorIsFrozen: real processes. The
// leader is killed while the move is under way, and another node is frozen across
// the move back and writes on by the route that it knew: whoever lives refuses
// nothing, and every node counts what was acknowledged.
func TestATenantMovesWhileItsLeaderDiesAndACoordinatorIsFrozen(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 5)
	cli := func(n *fleet.Node, args ...string) {
		t.Helper()
		_, err := n.CLI(t.Context(), args...)
		require.NoError(t, err)
	}
	cli(f.Nodes[0], "ring", "create", "a", "--tenants", "load,a-*", "--nodes", "n1,n2,n3", "--slots", "64")
	cli(f.Nodes[0], "ring", "create", "b", "--tenants", "b-*", "--nodes", "n3,n4,n5", "--slots", "64")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	start := time.Now().Add(-time.Hour).UnixMilli()
	senders, done := sendThroughEach(ctx, f, start)
	moreRounds(t, senders, 5)

	leader := slices.IndexFunc(f.Nodes, func(n *fleet.Node) bool { return n.Name == leaderOf(t, f.Nodes[0]) })
	asked, others := f.Nodes[(leader+1)%5], slices.Delete(slices.Clone(senders), leader, leader+1)
	moved := make(chan error, 1)
	go func() { // it repeats by itself until it knows
		_, err := asked.CLI(ctx, "tenant", "set", "load", "--ring", "b")
		moved <- err
	}()
	f.Nodes[leader].Kill()
	require.NoError(t, <-moved)
	moreRounds(t, others, 10)
	require.Equal(t, "b", ringOfTenant(t, asked, "load"))
	require.NoError(t, f.Nodes[leader].Start(ctx))
	require.NoError(t, f.Settle(ctx))
	moreRounds(t, senders, 5)
	senders[leader].forgive() // until it was ready again

	// Not the leader, so that somebody makes the change.
	leader = slices.IndexFunc(f.Nodes, func(n *fleet.Node) bool { return n.Name == leaderOf(t, f.Nodes[0]) })
	frozen := (leader + 2) % 5
	asked, others = f.Nodes[leader], slices.Delete(slices.Clone(senders), frozen, frozen+1)
	f.Nodes[frozen].Freeze()
	cli(asked, "tenant", "set", "load", "--ring", "a")
	moreRounds(t, others, 5)
	f.Nodes[frozen].Thaw()
	moreRounds(t, senders, 5)
	stop()
	done()
	for i, s := range senders {
		require.Empty(t, s.refused, "n%d refuses nothing while it lives", i+1)
	}
	require.NoError(t, f.Settle(t.Context()))
	for _, n := range f.Nodes {
		require.Equal(t, "a", ringOfTenant(t, n, "load"))
		for _, s := range senders {
			require.Equal(t, s.rounds()*senderSeries, countOf(t, n, s.name, start, s.rounds()), "acknowledged samples of %s on %s", s.name, n.Name)
		}
	}
}

// forgive forgets what a node refused until now.
func (s *sender) forgive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = nil
}

func leaderOf(t *testing.T, n *fleet.Node) string {
	t.Helper()
	var st statusAnswer
	out, err := n.CLI(t.Context(), "cluster", "status", "-o", "json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &st))
	return st.Leader
}

func ringOfTenant(t *testing.T, n *fleet.Node, tenant string) string {
	t.Helper()
	var a struct{ Ring string }
	out, err := n.CLI(t.Context(), "tenant", "ring", tenant, "-o", "json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &a))
	return a.Ring
}

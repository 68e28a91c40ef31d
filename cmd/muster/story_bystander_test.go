package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBystandersMeetNoFenceWhileNodesComeAndGo: a node joins and another leaves under
// writes. Fences refuse series of slots that move, which are sent again, and none of
// a slot that stays: the count that a running node shows of them is 0, and no share
// is refused as a whole.
func TestBystandersMeetNoFenceWhileNodesComeAndGo(t *testing.T) {
	t.Parallel()
	beds(t, bystandersMeetNoFence)
}

func bystandersMeetNoFence(t *testing.T, b *bed) {
	leaves := len(b.nodes) - 1
	b.cli(0, "settings", "set", "move_series_per_second=150") // many steps, and a fence at each
	pens := []*pen{b.pen("a", 100, 0), b.pen("b", 100, 1)}
	wrote := func() {
		for _, p := range pens {
			p.wrote(5)
		}
	}
	for _, p := range pens {
		defer p.halt()
	}
	wrote()
	b.grow()
	b.settle()
	b.bystandersRefused()
	b.cli(0, "cluster", "remove", b.nodes[leaves].cfg.Name)
	b.stop(leaves)
	b.settle()
	b.bystandersRefused()
	wrote()
	for _, p := range pens {
		p.end()
		p.complete(0, len(b.nodes)-1)
	}
}

// bystandersRefused wants no running node to have refused a series whose slot has not
// moved, or a whole share as stale.
func (b *bed) bystandersRefused() {
	b.t.Helper()
	moved := 0.0
	for i, n := range b.nodes {
		if n.node == nil {
			continue
		}
		moved += counted(b, n.node.reg, "muster_ingest_stale_series_total")
		require.Zero(b.t, counted(b, n.node.reg, "muster_ingest_stale_unmoved_series_total"), "series of slots that stay, refused by n%d", i+1)
		require.Zero(b.t, counted(b, n.node.reg, "muster_ingest_shares_refused_total", "stale"), "whole shares, refused by n%d", i+1)
	}
	b.t.Logf("%v series of slots that moved were refused, and sent again", moved)
}

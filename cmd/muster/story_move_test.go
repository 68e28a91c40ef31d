package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// moving is the move of ring default, as node i knows it.
func (b *bed) moving(i int) *clusterpb.Move {
	return b.nodes[i].node.cluster.State().Ring("default").Spec.GetMove()
}

// movedOn waits until the move has made more steps than before, and is not over.
func (b *bed) movedOn(i int, before uint64) uint64 {
	b.t.Helper()
	b.eventually(fmt.Sprintf("slots move, beyond %d", before), func() error {
		switch m := b.moving(i); {
		case m == nil && before > 0:
			b.t.Fatal("the move is over: nothing is left to be seen in the middle of it")
		case m.GetMoved() <= before:
			return fmt.Errorf("%v", m)
		}
		return nil
	})
	return b.moving(i).GetMoved()
}

// leadBy makes node i the leader.
func (b *bed) leadBy(i int) {
	b.t.Helper()
	name := b.nodes[i].cfg.Name
	b.eventually(name+" leads", func() error {
		_, msg, _ := b.try(0, "cluster", "transfer-leader", name)
		if l, _ := b.nodes[0].node.cluster.Leader(); l != name {
			return fmt.Errorf("%q leads: %s", l, msg)
		}
		return nil
	})
}

// rests waits until the slots stay where they are, through some rounds of the
// leader: one that has begun may end.
func (b *bed) rests(i int) {
	b.t.Helper()
	table := func() string {
		return fmt.Sprint(b.nodes[i].node.cluster.State().Ring("default").Table.Held())
	}
	b.eventually("the slots rest", func() error {
		before, rounds := table(), 8*b.nodes[i].cfg.Timing.Round
		for begin := time.Now(); time.Since(begin) < rounds; {
			b.cli(i, "tenant", "create", fmt.Sprintf("rest-%d", b.nodes[i].node.cluster.State().Revision()))
		}
		if now := table(); now != before {
			return fmt.Errorf("%s, then %s", before, now)
		}
		return nil
	})
}

// TestAMoveSurvivesItsLeaderAndObeysItsOperator: a node joins in many small
// batches. The leader is stopped in the middle, the move is cancelled and asked
// for again, and the cluster is in maintenance for a while. No write is refused.
func TestAMoveSurvivesItsLeaderAndObeysItsOperator(t *testing.T) {
	t.Parallel()
	beds(t, moveInManyBatches)
}

func moveInManyBatches(t *testing.T, b *bed) {
	const leader = 2 // it votes in any cluster, and is no door of the writer
	last := len(b.nodes) - 1
	b.cli(0, "settings", "set", "move_series_per_second=8") // a slot or two a batch
	b.leadBy(leader)
	p := b.pen("a", 30, 0, 1)
	defer func() { p.halt() }()
	look := func() { // nothing was refused until now, and nothing is missing
		t.Helper()
		p.wrote(5)
		p.end()
		p.complete(0, leader)
		b.audit()
		p = b.pen("a", 30, 0, 1)
	}
	p.wrote(5)
	b.grow()
	at := b.movedOn(0, 0)
	require.Contains(t, b.cli(1, "ring", "show"), "cause: "+b.nodes[last+1].cfg.Name+" joined, since ")

	b.stop(leader)
	at = b.movedOn(0, at)
	b.start(leader)
	b.movedOn(0, at)
	b.eventually("the former leader is back", b.nodes[leader].node.ready.err)
	look()

	b.cli(1, "ring", "rebalance", "--cancel")
	b.rests(1)
	out := b.cli(0, "ring", "show")
	require.Contains(t, out, "cancelled: ")
	require.Contains(t, out, "go on:  muster ring rebalance default")
	b.settle() // nothing is moving, and nothing is short
	look()

	b.cli(1, "ring", "rebalance", "--no-wait")
	b.movedOn(1, 0)
	b.cli(0, "settings", "set", "maintenance=true")
	b.rests(0)
	require.NotNil(t, b.moving(0))
	require.Contains(t, b.cli(0, "ring", "show"), "waits: maintenance is on")
	require.Contains(t, b.cli(0, "cluster", "status"), "waits: maintenance is on")
	_, msg, code := b.try(1, "ring", "rebalance", "--timeout", "1ms")
	require.Equal(t, exitFailed, code, msg)
	require.Contains(t, msg, "goes on without this command")
	look()

	b.cli(0, "settings", "set", "maintenance=false", "move_series_per_second=20000")
	require.Contains(t, b.cli(1, "ring", "rebalance"), "rebalanced ring default")
	require.Nil(t, b.moving(1))
	b.settle()
	require.NoError(t, b.balanced(last+2))
	p.wrote(5)
	p.end()
	p.complete(0, leader, last+1)
}

// balanced is an error unless so many nodes hold the slots of ring default,
// within one of each other.
func (b *bed) balanced(nodes int) error {
	var show struct {
		Slots []struct {
			Replicas []string `json:"replicas"`
		} `json:"slots"`
	}
	if err := json.Unmarshal([]byte(b.cli(0, "ring", "show", "-o", "json")), &show); err != nil {
		return err
	}
	held := map[string]int{}
	for _, s := range show.Slots {
		for _, n := range s.Replicas {
			held[n]++
		}
	}
	var counts []int
	for _, n := range held {
		counts = append(counts, n)
	}
	if slices.Sort(counts); len(counts) != nodes || counts[nodes-1]-counts[0] > 1 {
		return fmt.Errorf("held %v, want %d nodes", held, nodes)
	}
	return nil
}

// TestANodeIsRemovedWhileAnotherJoins: one move does both, and neither refuses a
// write. What the leaver holds is not cancelled as a rebalance.
func TestANodeIsRemovedWhileAnotherJoins(t *testing.T) {
	t.Parallel()
	b := slottedBed(t, 3, 2, fewSlots)
	b.cli(0, "settings", "set", "move_series_per_second=8")
	p := b.pen("a", 30, 0, 1)
	defer p.halt()
	p.wrote(5)
	b.grow()
	b.movedOn(0, 0)
	_, msg, code := b.try(0, "cluster", "remove", "n3", "--timeout", "1ms")
	require.Equal(t, exitFailed, code, msg)
	b.eventually("the move tells of the removal", func() error {
		if out := b.cli(1, "ring", "show"); !strings.Contains(out, "cause: removal of n3, by ") {
			return errors.New(out)
		}
		return nil
	})
	_, msg, code = b.try(1, "ring", "rebalance", "--cancel")
	require.Equal(t, exitConflict, code, msg)
	require.Contains(t, msg, "`muster cluster remove n3 --cancel` ends that")
	b.cli(0, "settings", "set", "move_series_per_second=20000")
	b.cli(0, "cluster", "remove", "n3")
	b.stop(2)
	b.settle()
	require.NoError(t, b.balanced(3))
	p.wrote(5)
	p.end()
	p.complete(0, 1, 3)
	b.audit()
}

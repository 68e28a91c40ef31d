package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHardRingKeepsItsTenantsOnItsNodes(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		now := time.Now().UnixMilli()
		b.write(0, "tenant-a", batch("before", 50, now)...) // still in the ring of all
		b.cli(1, "ring", "create", "hard", "--tenants", "tenant-a,team-*", "--nodes", "n1,n2", "--replication-factor", "2")
		b.settle()
		for i := range b.nodes {
			b.write(i, "tenant-a", batch(fmt.Sprintf("after%d", i), 50, now)...)
			b.write(i, "team-x", batch(fmt.Sprintf("after%d", i), 50, now)...)
			b.write(i, "other", batch(fmt.Sprintf("after%d", i), 50, now)...)
		}
		n := 50 * len(b.nodes)
		b.assertPlacement("team-x", n)
		b.assertPlacement("other", n)
		for i := 2; i < len(b.nodes); i++ {
			for ls := range b.held(i, "tenant-a") {
				require.Contains(t, ls, `"before"`, "n%d is not in the ring of tenant-a", i+1)
			}
		}
		// What was written before the tenant moved is still read, from anywhere.
		for i := range b.nodes {
			require.Equal(t, map[string]float64{"{}": float64(n + 50)}, b.query(i, "-t", "tenant-a", `count({job="test"})`))
		}
	})
}

func TestNewNodesTakeTheirShareWithoutARefusedWrite(t *testing.T) {
	t.Parallel()
	beds(t, newNodesTakeTheirShare)
}

func newNodesTakeTheirShare(t *testing.T, b *bed) {
	old := len(b.nodes)
	start := time.Now().UnixMilli()
	b.write(0, "a", batch("m", 400, start)...)

	// Writes go on through the old nodes while another joins and takes over.
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		n := int64(0)
		for {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			n++
			b.write(int(n)%old, "a", batch("m", 400, start+n)...)
		}
	}()
	b.grow()
	b.settle()
	close(stop)
	rounds := <-done + 1
	b.write(old, "a", batch("m", 400, start+rounds)...)

	var show struct {
		Slots []struct {
			Replicas []string `json:"replicas"`
		} `json:"slots"`
	}
	require.NoError(t, json.Unmarshal([]byte(b.cli(2, "ring", "show", "default", "-o", "json")), &show))
	held := map[string]int{}
	for _, s := range show.Slots {
		require.Len(t, s.Replicas, 3)
		for _, n := range s.Replicas {
			held[n]++
		}
	}
	counts := slices.Sorted(maps.Values(held))
	require.Len(t, counts, old+1)
	require.LessOrEqual(t, counts[old]-counts[0], 1, "balance within one slot: %v", held)
	for i := range b.nodes {
		got := b.query(i, "-t", "a", fmt.Sprintf(`sum(count_over_time(m[1h] @ %d))`, time.Now().Unix()+5))
		require.Equal(t, map[string]float64{"{}": float64(400 * (rounds + 1))}, got, "every acknowledged sample on n%d", i+1)
	}
}

func TestStoppedNodeIsRemovedByForce(t *testing.T) {
	t.Parallel() // it waits for what does not come, most of the time
	sizes(t, []int{4, 5}, stoppedNodeIsRemovedByForce)
}

func stoppedNodeIsRemovedByForce(t *testing.T, b *bed) {
	last := len(b.nodes) - 1
	name := fmt.Sprintf("n%d", last+1)
	now := time.Now().UnixMilli()
	b.write(last, "a", batch("m", 300, now)...)
	_, msg, code := b.try(0, "cluster", "remove", name, "--force")
	require.NotZero(t, code, "a node that answers is not removed by force")
	require.Contains(t, msg, "answers")
	b.stop(last)
	b.eventually(name+" is removed", func() error {
		_, msg, code := b.try(0, "cluster", "remove", name, "--force")
		if code != 0 {
			return fmt.Errorf("exit %d: %s", code, msg)
		}
		return nil
	})
	b.settle()
	b.write(0, "a", batch("m", 300, now+1)...)
	for i := range last {
		require.Equal(t, map[string]float64{"{}": 300}, b.query(i, "-t", "a", "count(m)"))
	}
	require.NotContains(t, b.cli(1, "cluster", "status"), name+" ")
	// It comes back, hears what it is, and says so wherever it is asked.
	b.start(last)
	b.knowsItIsOut(t, last, name+" was removed from cluster test by force at revision")
	require.NotContains(t, b.cli(0, "tenant", "list"), "by-who-is-out")
	b.stop(last)
}

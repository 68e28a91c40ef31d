package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/tsdb"
)

// TestAFormerOwnerLetsMovedSeriesGo lets a node join. Series that moved to it are
// in one memory more than they should be, until their former owner lets them go:
// long before their window is cut.
func TestAFormerOwnerLetsMovedSeriesGo(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			t.Parallel()
			bucket := t.TempDir()
			soon := func(c *nodeConfig) {
				c.LetGo = letGoConfig{Least: -1, Every: 100 * time.Millisecond, Quiet: 400 * time.Millisecond}
				c.Bucket = fmt.Appendf(nil, "{type: FILESYSTEM, config: {directory: %q}}", bucket)
			}
			b := slottedBed(t, nodes, 3, fewSlots, soon)
			now := formerOwnersLetGo(t, b, bucket, soon)
			if nodes == 3 {
				whatWasLetGoStaysSo(t, b, now)
			}
			b.audit()
		})
	}
}

const movedSeries = 300 // that the story writes, each with three samples

func formerOwnersLetGo(t *testing.T, b *bed, bucket string, soon func(*nodeConfig)) (now int64) {
	const series = movedSeries
	now = time.Now().UnixMilli()
	b.write(0, "a", batch("m", series, now-2000)...)
	b.write(1, "a", batch("m", series, now-3000)...) // late
	b.eventually("all replicas have all", func() error {
		if n := b.inMemory("a"); n != 3*series {
			return fmt.Errorf("%d series in memory, want %d", n, 3*series)
		}
		return nil
	})

	b.grow(soon)
	b.settle()
	b.write(2, "a", batch("m", series, now-1000)...)
	// Each series comes to be in the memory of its owners, and of nobody else.
	r := b.nodes[0].node.cluster.State().Rings()[0]
	owned := make([]int, len(b.nodes))
	for _, s := range batch("m", series, now) {
		for _, i := range b.owners(r, "a", s.labels) {
			owned[i]++
		}
	}
	moved := owned[len(owned)-1] // to the new node, from the others
	require.Greater(t, moved, 30)
	b.eventually("former owners let go", func() error {
		for i, want := range owned {
			if n := b.seriesOn(i, "a"); n != want {
				return fmt.Errorf("%d series in the memory of n%d, want %d", n, i+1, want)
			}
		}
		return nil
	})
	require.Equal(t, 3*series, b.inMemory("a"))
	b.wholeTenant(now, 3*series)
	// What was let go is in blocks that leave as all others do.
	for i := range b.nodes {
		_, err := b.nodes[i].node.shipper.Sync(t.Context())
		require.NoError(t, err)
	}
	early := 0
	for _, m := range bucketMetas(t, bucket) {
		require.Equal(t, 1, m.Compaction.Level)
		if !m.Compaction.FromOutOfOrder() { // whose series is in one, and whose is not, is not told
			require.True(t, m.Compaction.FromSelectedSeries(), "block %s was cut", m.ULID)
			early += int(m.Stats.NumSamples)
		}
	}
	require.GreaterOrEqual(t, early, moved)
	return now
}

// whatWasLetGoStaysSo over a start of a node; then the tenant goes to a ring of its
// own, and all other nodes let all of it go.
func whatWasLetGoStaysSo(t *testing.T, b *bed, now int64) {
	had := b.seriesOn(0, "a")
	b.stop(0)
	b.start(0)
	b.settle()
	require.Equal(t, had, b.seriesOn(0, "a"))
	b.wholeTenant(now, 3*movedSeries)
	b.cli(1, "ring", "create", "hard", "--tenants", "a", "--nodes", "n1,n2", "--replication-factor", "2")
	b.eventually("all but two nodes let the tenant go", func() error {
		for i := 2; i < len(b.nodes); i++ {
			if n := b.seriesOn(i, "a"); n != 0 {
				return fmt.Errorf("%d series in the memory of n%d", n, i+1)
			}
		}
		return nil
	})
	b.wholeTenant(now, 3*movedSeries)
}

// wholeTenant wants every node to have all samples of the tenant.
func (b *bed) wholeTenant(now int64, samples int) {
	b.t.Helper()
	at := fmt.Sprint(now/1000 + 5)
	for i := range b.nodes {
		require.Equal(b.t, map[string]float64{"{}": float64(samples)}, b.query(i, "-t", "a", "--time", at, "sum(count_over_time(m[1h]))"), "n%d", i+1)
	}
}

// seriesOn is how many series of a tenant node i has in memory.
func (b *bed) seriesOn(i int, tenant string) int {
	var tn *clusterpb.Tenant
	b.eventually("n1 knows the tenant", func() error {
		if tn = b.nodes[i].node.cluster.State().Tenant(tenant); tn == nil {
			return fmt.Errorf("n%d does not know %s", i+1, tenant)
		}
		return nil
	})
	return int(b.nodes[i].node.tsdb.Series(tsdb.Key{Tenant: tenant, Incarnation: tn.GetIncarnation()}))
}

// inMemory is how many series of a tenant all nodes have in memory.
func (b *bed) inMemory(tenant string) (n int) {
	for i := range b.nodes {
		n += b.seriesOn(i, tenant)
	}
	return n
}

func bucketMetas(t *testing.T, bucket string) (metas []promtsdb.BlockMeta) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(bucket, "*", "meta.json"))
	require.NoError(t, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var m promtsdb.BlockMeta
		require.NoError(t, json.Unmarshal(raw, &m))
		metas = append(metas, m)
	}
	return metas
}

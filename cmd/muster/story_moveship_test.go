package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// TestBlocksLeaveWhileTheirTenantMoves: a tenant goes back and forth between two
// rings while it is written to. Each former owner writes what it holds to blocks and
// ships them under its own label, while samples come to it again or already go
// elsewhere. Nothing is refused, every node counts what was acknowledged, and the
// bucket has of each node that holds nothing in memory any more exactly what it held.
func TestBlocksLeaveWhileTheirTenantMoves(t *testing.T) {
	t.Parallel()
	bucket := t.TempDir()
	b := slottedBed(t, 5, 3, fewSlots, func(c *nodeConfig) {
		c.LetGo = letGoConfig{Least: -1, Every: 100 * time.Millisecond, Quiet: 300 * time.Millisecond}
		c.Bucket = fmt.Appendf(nil, "{type: FILESYSTEM, config: {directory: %q}}", bucket)
	})
	in := map[string][]int{"a": {0, 1, 2}, "b": {2, 3, 4}}
	b.cli(0, "ring", "create", "a", "--tenants", "team,others", "--nodes", "n1,n2,n3", "--slots", "64")
	b.cli(0, "ring", "create", "b", "--tenants", "more", "--nodes", "n3,n4,n5", "--slots", "64")
	p := b.pen("team", 20, 0, 1, 2, 3, 4)
	defer p.halt()
	p.wrote(20)
	for _, to := range []string{"b", "a", "b"} {
		b.cli(1, "tenant", "set", "team", "--ring", to)
		b.routesClosed("team")
		b.eventually("who is not in ring "+to+" lets go", func() error {
			for i := range b.nodes {
				if n := b.seriesOn(i, "team"); !slices.Contains(in[to], i) && n > 0 {
					return fmt.Errorf("%d series in the memory of n%d", n, i+1)
				}
			}
			return nil
		})
		b.ship()
		p.wrote(20)
	}
	p.end()
	p.complete(0, 1, 2, 3, 4)
	b.ship()
	shipped := samplesInBucket(t, bucket, "team")
	for _, i := range []int{0, 1} { // not in ring b
		held := b.held(i, "team")
		require.NotEmpty(t, held)
		require.Equal(t, held, shipped[b.nodes[i].cfg.Name], "n%d", i+1)
	}
	require.NotEmpty(t, shipped["n4"], "it let go when the tenant went back")
	require.Empty(t, slices.DeleteFunc(blockLevels(t, bucket), func(level int) bool { return level == 1 }))
	b.audit()
}

// ship has every node send what it has not sent.
func (b *bed) ship() {
	b.t.Helper()
	for _, n := range b.nodes {
		_, err := n.node.shipper.Sync(b.t.Context())
		require.NoError(b.t, err)
	}
}

func blockLevels(t *testing.T, bucket string) (levels []int) {
	for _, m := range bucketMetas(t, bucket) {
		levels = append(levels, m.Compaction.Level)
	}
	return levels
}

// samplesInBucket counts the samples of each series of a tenant, by replica label;
// a sample that two blocks of one replica have counts once.
func samplesInBucket(t *testing.T, bucket, tenant string) map[string]map[string]int {
	t.Helper()
	times := map[string]map[string]map[int64]bool{}
	for _, m := range bucketMetas(t, bucket) {
		dir := filepath.Join(bucket, m.ULID.String())
		of := thanosLabels(t, filepath.Join(dir, "meta.json"))
		require.Equal(t, tenant, of["tenant_id"])
		if times[of["receive_replica"]] == nil {
			times[of["receive_replica"]] = map[string]map[int64]bool{}
		}
		readBlock(t, dir, times[of["receive_replica"]])
	}
	out := map[string]map[string]int{}
	for replica, series := range times {
		out[replica] = map[string]int{}
		for name, at := range series {
			out[replica][name] = len(at)
		}
	}
	return out
}

func readBlock(t *testing.T, dir string, into map[string]map[int64]bool) {
	t.Helper()
	block, err := promtsdb.OpenBlock(nil, dir, nil, nil)
	require.NoError(t, err)
	defer block.Close()
	q, err := promtsdb.NewBlockChunkQuerier(block, 0, 1<<60)
	require.NoError(t, err)
	defer q.Close()
	set := promstorage.NewSeriesSetFromChunkSeriesSet(q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")))
	for set.Next() {
		name := set.At().Labels().String()
		if into[name] == nil {
			into[name] = map[int64]bool{}
		}
		for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; {
			into[name][it.AtT()] = true
		}
	}
	require.NoError(t, set.Err())
}

// thanosLabels are the external labels in a block's meta.json.
func thanosLabels(t *testing.T, file string) map[string]string {
	t.Helper()
	var m struct {
		Thanos struct{ Labels map[string]string }
	}
	require.NoError(t, json.Unmarshal([]byte(readText(t, file)), &m))
	return m.Thanos.Labels
}

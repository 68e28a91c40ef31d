package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBlocksReachTheBucket writes to a cluster with very short blocks and waits
// until each replica's blocks are in the bucket, of a tenant that fell silent.
func TestBlocksReachTheBucket(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			t.Parallel()
			bucket := t.TempDir()
			blocksReachTheBucket(t, bucket, slottedBed(t, nodes, 3, fewSlots, func(c *nodeConfig) {
				c.BlockDuration = 10 * time.Second
				c.Bucket = fmt.Appendf(nil, "{type: FILESYSTEM, config: {directory: %q}}", bucket)
			}))
		})
	}
}

func blocksReachTheBucket(t *testing.T, bucket string, b *bed) {
	start := time.Now().UnixMilli()
	for round := range int64(3) {
		b.write(int(round), "a", batch("m", 20, start+round)...)
	}
	// By the series' slots each node's blocks have what is its own.
	want := map[string]uint64{}
	st := b.nodes[0].node.cluster.State()
	r := st.RingByID(st.Tenant("a").GetRoute().GetRing())
	for _, s := range batch("m", 20, start) {
		for _, n := range b.owners(r, "a", s.labels) {
			want[fmt.Sprintf("n%d", n+1)] += 3
		}
	}
	b.eventually("the samples of each replica are in the bucket", func() error {
		samples, err := bucketSamples(bucket)
		if err != nil {
			return err
		}
		if !maps.Equal(samples, want) {
			return fmt.Errorf("%v, want %v", samples, want)
		}
		return nil
	})
	// The samples are still on the nodes, too, and are shown once.
	for i := range b.nodes {
		require.Equal(t, map[string]float64{"{}": 60}, b.query(i, "-t", "a", fmt.Sprintf("sum(count_over_time(m[1h] @ %d))", start/1000+5)))
	}
}

// bucketSamples counts the samples of tenant a by replica, and fails for a block
// whose files are not what its meta.json says.
func bucketSamples(bucket string) (map[string]uint64, error) {
	metas, err := filepath.Glob(filepath.Join(bucket, "*", "meta.json"))
	if err != nil {
		return nil, err
	}
	samples := map[string]uint64{}
	for _, file := range metas {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var m struct {
			Stats  struct{ NumSamples uint64 }
			Thanos struct {
				Labels map[string]string
				Source string
				Files  []struct {
					RelPath   string `json:"rel_path"`
					SizeBytes int64  `json:"size_bytes"`
				}
			}
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if m.Thanos.Labels["tenant_id"] != "a" || m.Thanos.Source != "receive" {
			return nil, fmt.Errorf("%s: labels %v, source %q", file, m.Thanos.Labels, m.Thanos.Source)
		}
		for _, f := range m.Thanos.Files {
			st, err := os.Stat(filepath.Join(filepath.Dir(file), f.RelPath))
			if err != nil {
				return nil, err
			}
			if f.SizeBytes != 0 && st.Size() != f.SizeBytes {
				return nil, fmt.Errorf("%s has %d bytes, its meta.json says %d", f.RelPath, st.Size(), f.SizeBytes)
			}
		}
		samples[m.Thanos.Labels["receive_replica"]] += m.Stats.NumSamples
	}
	return samples, nil
}

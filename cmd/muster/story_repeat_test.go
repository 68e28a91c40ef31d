package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/prompb"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/tsdb"
)

// TestRepeatsLeaveNothingBehind: a sender repeats a request that some replicas
// have stored, as long as the others are away, and once more when it is late.
// Each replica has each sample once: in order, in one chunk, and in no
// write-behind log.
func TestRepeatsLeaveNothingBehind(t *testing.T) {
	t.Parallel() // nodes stop and start, which is waiting mostly
	beds(t, repeatsLeaveNothingBehind)
}

func repeatsLeaveNothingBehind(t *testing.T, b *bed) {
	const series, samples, repeats = 50, 20, 20
	at := time.Now().Add(-2*time.Minute).UnixMilli() / 1000 * 1000
	first, next := ladder(series, samples, at), ladder(series, samples, at+samples*1000)
	b.write(0, "a", sample{batch("before", 1, at)[0].labels, at, 1}) // every node knows the tenant
	b.stop(1)
	b.stop(2)
	for attempt := range repeats + 1 {
		status, text := b.post(0, "a", first, "Retry-Attempt", strconv.Itoa(attempt))
		require.Equal(t, 503, status, "attempt %d: %s", attempt, text)
	}
	b.start(1)
	b.start(2)
	b.settle()
	b.sendAgain("a", first, repeats+1)
	b.sendAgain("a", next, 0)
	b.sendAgain("a", first, repeats+2) // from a queue that was slow
	b.eventually("every replica has all of it", func() error {
		total := 0
		for i := range b.nodes {
			for ls, n := range b.held(i, "a") {
				if n > 2*samples {
					return fmt.Errorf("n%d holds %d samples of %s", i+1, n, ls)
				}
				total += n
			}
		}
		if want := 3 * (2*samples*series + 1); total != want {
			return fmt.Errorf("%d samples on all nodes, want %d", total, want)
		}
		return nil
	})
	for i := range b.nodes {
		b.inOrder(i, "a")
	}
}

// ladder is a request of n series with k samples each, a second apart.
func ladder(n, k int, at int64) []byte {
	var req prompb.WriteRequest
	for _, s := range batch("m", n, at) {
		ts := prompb.TimeSeries{Labels: prompb.FromLabels(s.labels, nil)}
		for i := range k {
			ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: at + int64(i)*1000, Value: float64(i)})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	raw, err := req.Marshal()
	if err != nil {
		panic(err)
	}
	return snappy.Encode(nil, raw)
}

// sendAgain sends a request through the first node until it is acknowledged,
// counting the attempts as Prometheus does.
func (b *bed) sendAgain(tenant string, raw []byte, attempt int) {
	b.t.Helper()
	b.eventually("the request is acknowledged", func() error {
		status, text := b.post(0, tenant, raw, "Retry-Attempt", strconv.Itoa(attempt))
		attempt++
		require.NotEqual(b.t, 400, status, text)
		if status != 204 {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
}

// inOrder wants that nothing of a tenant came to node i out of order: there is no
// write-behind log, and the block that is cut from its head has a chunk for each
// series and is the only one.
func (b *bed) inOrder(i int, tenant string) {
	b.t.Helper()
	n := b.nodes[i].node
	key := tsdb.Key{Tenant: tenant, Incarnation: n.cluster.State().Tenant(tenant).GetIncarnation()}
	held := b.held(i, tenant)
	require.NoDirExists(b.t, filepath.Join(n.tsdb.Path(key), "wbl"), "n%d", i+1)
	require.NoError(b.t, n.tsdb.Cut(context.Background(), key))
	var blocks []promtsdb.BlockMeta
	entries, err := os.ReadDir(n.tsdb.Path(key))
	require.NoError(b.t, err)
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(n.tsdb.Path(key), e.Name(), "meta.json"))
		require.NoError(b.t, err)
		var meta promtsdb.BlockMeta
		require.NoError(b.t, json.Unmarshal(raw, &meta))
		blocks = append(blocks, meta)
	}
	chunks, samples := uint64(0), uint64(0)
	for _, m := range blocks {
		require.False(b.t, m.Compaction.FromOutOfOrder(), "n%d: %s", i+1, m.ULID)
		chunks += m.Stats.NumChunks
		samples += m.Stats.NumSamples
	}
	want := uint64(0)
	for _, k := range held {
		want += uint64(k)
	}
	require.Equal(b.t, want, samples, "n%d: samples in blocks", i+1)
	require.LessOrEqual(b.t, chunks, uint64(2*len(held)), "n%d: chunks of %d series; a window's border may cut each once", i+1, len(held))
	if len(blocks) == 1 {
		require.Equal(b.t, uint64(len(held)), chunks, "n%d: chunks of %d series", i+1, len(held))
	}
}

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
// write-behind log. A tenant whose window is open, because a sample of its came
// late before, has that one sample in there and no other.
func TestRepeatsLeaveNothingBehind(t *testing.T) {
	t.Parallel() // nodes stop and start, which is waiting mostly
	beds(t, repeatsLeaveNothingBehind)
}

func repeatsLeaveNothingBehind(t *testing.T, b *bed) {
	const series, samples, repeats = 50, 20, 20
	at := time.Now().Add(-2*time.Minute).UnixMilli() / 1000 * 1000
	first, next := ladder(series, samples, at), ladder(series, samples, at+samples*1000)
	late := batch("late", 1, at)[0].labels
	for _, tenant := range []string{"a", "open"} { // every node knows them
		b.write(0, tenant, sample{late, at, 1})
	}
	// The third replica may be later than the answer: what is out of order is so on each.
	b.eventually("every replica has the sample before which another comes", func() error {
		return b.threefold("open", map[string]int{late.String(): 1})
	})
	b.write(0, "open", sample{late, at - 30_000, 1})
	b.eventually("every replica has the late sample", func() error {
		return b.threefold("open", map[string]int{late.String(): 2})
	})
	b.stop(1)
	b.stop(2)
	for attempt := range repeats + 1 {
		for _, tenant := range []string{"a", "open"} {
			status, text := b.post(0, tenant, first, "Retry-Attempt", strconv.Itoa(attempt))
			require.Equal(t, 503, status, "attempt %d: %s", attempt, text)
		}
	}
	b.start(1)
	b.start(2)
	b.settle()
	for tenant, ooo := range map[string]int{"a": 0, "open": 1} {
		want := func(each int) map[string]int {
			all := map[string]int{late.String(): 1 + ooo}
			for _, s := range batch("m", series, at) {
				all[s.labels.String()] = each
			}
			return all
		}
		b.sendAgain(tenant, first, repeats+1)
		b.eventually("every replica has what comes first of "+tenant, func() error { return b.threefold(tenant, want(samples)) })
		b.sendAgain(tenant, next, 0)
		b.sendAgain(tenant, first, repeats+2) // from a queue that was slow
		b.eventually("every replica has all of "+tenant, func() error { return b.threefold(tenant, want(2*samples)) })
		for i := range b.nodes {
			b.inOrder(i, tenant, late.String(), ooo)
		}
	}
}

// threefold is nil when three nodes have each series, with as many samples as it is
// to have.
func (b *bed) threefold(tenant string, want map[string]int) error {
	b.t.Helper()
	total := map[string]int{}
	for i := range b.nodes {
		for ls, n := range b.held(i, tenant) {
			if n != want[ls] {
				return fmt.Errorf("n%d holds %d samples of %s, want %d", i+1, n, ls, want[ls])
			}
			total[ls]++
		}
	}
	for ls := range want {
		if total[ls] != 3 {
			return fmt.Errorf("%d nodes hold %s", total[ls], ls)
		}
	}
	return nil
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

// inOrder wants that nothing of a tenant came to node i out of order but the
// first samples of the series late: there is no write-behind log without them,
// and what is cut from its head has them in a block of their own.
func (b *bed) inOrder(i int, tenant, late string, samples int) {
	b.t.Helper()
	n := b.nodes[i].node
	key := tsdb.Key{Tenant: tenant, Incarnation: n.cluster.State().Tenant(tenant).GetIncarnation()}
	held := b.held(i, tenant)
	if held[late] == 0 {
		samples = 0
	}
	if samples == 0 {
		require.NoDirExists(b.t, filepath.Join(n.tsdb.Path(key), "wbl"), "n%d, %s", i+1, tenant)
	}
	require.NoError(b.t, n.tsdb.Cut(context.Background(), key))
	var ordered, others promtsdb.BlockStats
	windows := 0
	for _, m := range b.blocks(n.tsdb.Path(key)) {
		sum := &ordered
		if m.Compaction.FromOutOfOrder() {
			sum = &others
		} else {
			windows++
		}
		sum.NumSamples += m.Stats.NumSamples
		sum.NumChunks += m.Stats.NumChunks
	}
	all := 0
	for _, k := range held {
		all += k
	}
	require.Equal(b.t, uint64(samples), others.NumSamples, "n%d, %s: samples out of order", i+1, tenant)
	require.Equal(b.t, uint64(all-samples), ordered.NumSamples, "n%d, %s: samples in order", i+1, tenant)
	// A window's border may cut a series' chunk once.
	require.LessOrEqual(b.t, ordered.NumChunks, uint64(windows*len(held)), "n%d, %s: chunks of %d series", i+1, tenant, len(held))
}

// blocks are the blocks in a folder, by their meta.json.
func (b *bed) blocks(dir string) (all []promtsdb.BlockMeta) {
	b.t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(b.t, err)
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name(), "meta.json"))
		require.NoError(b.t, err)
		var meta promtsdb.BlockMeta
		require.NoError(b.t, json.Unmarshal(raw, &meta))
		all = append(all, meta)
	}
	return all
}

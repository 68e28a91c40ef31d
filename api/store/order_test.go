package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/muster-metrics/muster/proto/storepb"
	"github.com/muster-metrics/muster/tsdb"
)

// TestTheStreamIsWhatSortingWouldGive holds the streaming cursor, the sorted
// one, the merge, shards, limits and batches against sorting everything.
func TestTheStreamIsWhatSortingWouldGive(t *testing.T) {
	b := newBed(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		names := []string{"a", "q", "rb", "receive_replicb", "s", "tenant_ic", "u", "z"}
		if rapid.Bool().Draw(rt, "inside") {
			names = append(names, "receive_replica", "tenant_id")
		}
		req := everything(matcher(storepb.LabelMatcher_RE, "tenant_id", fmt.Sprintf("t%d-.*", round)))
		req.WithoutReplicaLabels = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"receive_replica", "tenant_id", "q", "z", "none"}), 0, 3, rapid.ID[string]).Draw(rt, "without")
		req.ResponseBatchSize = rapid.Int64Range(0, 5).Draw(rt, "batch")
		req.SkipChunks = rapid.Bool().Draw(rt, "skip")
		if rapid.Bool().Draw(rt, "sharded") {
			req.ShardInfo = &storepb.ShardInfo{TotalShards: rapid.Int64Range(1, 3).Draw(rt, "total"), By: rapid.Bool().Draw(rt, "by")}
			req.ShardInfo.ShardIndex = rapid.Int64Range(0, req.ShardInfo.TotalShards-1).Draw(rt, "index")
			req.ShardInfo.Labels = rapid.SliceOfNDistinct(rapid.SampledFrom(append(names, "__name__")), 0, 3, rapid.ID[string]).Draw(rt, "labels")
		}
		var want []string
		var sorted []expected
		for i := range rapid.IntRange(1, 3).Draw(rt, "tenants") {
			key := b.tenant(fmt.Sprintf("t%d-%d", round, i))
			sorted = append(sorted, fill(rt, b, key, names, req)...)
		}
		slices.SortStableFunc(sorted, func(a, b expected) int { return labels.Compare(a.labels, b.labels) })
		for _, e := range sorted {
			want = append(want, e.line(req.SkipChunks))
		}
		got := b.mustSeries(req).lines(rt)
		require.True(rt, slices.IsSortedFunc(b.mustSeries(req).series, func(a, b *storepb.Series) int {
			return labels.Compare(labelsOf(a.Labels), labelsOf(b.Labels))
		}), "not sorted: %v", got)
		// Equal label sets of different series may come in any order.
		slices.Sort(got)
		slices.Sort(want)
		require.Equal(rt, want, got)
		if len(want) > 0 {
			req.Limit = rapid.Int64Range(1, int64(len(want))).Draw(rt, "limit")
			require.Len(rt, b.mustSeries(req).series, int(req.Limit))
		}
	})
}

type expected struct {
	labels labels.Labels
	time   int64
}

func (e expected) line(skip bool) string {
	if skip {
		return e.labels.String()
	}
	return fmt.Sprintf("%s %d=%d", e.labels, e.time, e.time)
}

// fill writes random series into a tenant and says what the request shall give.
func fill(rt *rapid.T, b *bed, key tsdb.Key, names []string, req *storepb.SeriesRequest) []expected {
	seen := map[string]bool{}
	var points []point
	var out []expected
	for i := range rapid.IntRange(0, 12).Draw(rt, "series") {
		set := map[string]string{"__name__": rapid.SampledFrom([]string{"m", "n"}).Draw(rt, "name")}
		for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 4, rapid.ID[string]).Draw(rt, "names") {
			set[n] = rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "value")
		}
		ls := labels.FromMap(set)
		if seen[ls.String()] {
			continue
		}
		seen[ls.String()] = true
		points = append(points, at(ls, int64(i+1)))

		set["tenant_id"], set["receive_replica"] = key.Tenant, "n1"
		for _, n := range req.WithoutReplicaLabels {
			delete(set, n)
		}
		final := labels.FromMap(set)
		if inShard(final, req.ShardInfo) {
			out = append(out, expected{final, int64(i + 1)})
		}
	}
	b.write(key, points...)
	return out
}

func inShard(ls labels.Labels, info *storepb.ShardInfo) bool {
	if info == nil {
		return true
	}
	text := ""
	ls.Range(func(l labels.Label) {
		if slices.Contains(info.Labels, l.Name) == info.By {
			text += l.Name + "\xff" + l.Value + "\xff"
		}
	})
	return int64(xxhash.Sum64String(text)%uint64(info.TotalShards)) == info.ShardIndex
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/tsdb"
)

// native is a sample of a native histogram, of integers or of floats.
type native struct {
	labels labels.Labels
	t      int64
	h      *histogram.Histogram
	fh     *histogram.FloatHistogram
}

// natives is a value at each of several times of series of every shape: integers,
// floats, gauges, buckets that come and go, stale markers, and custom bounds, which
// Prometheus sends in remote write 2.0 only.
func natives(n, times int, at int64, custom bool) [][]native {
	rounds := make([][]native, times)
	for k := range rounds {
		for i, s := range batch("latency", n, at+int64(k)*1000) {
			c := native{labels: s.labels, t: s.t}
			seen := int64(i + 3*k)
			switch shape := i % 6; {
			case shape == 0:
				c.h = tsdbutil.GenerateTestHistogram(seen)
			case shape == 1:
				c.fh = tsdbutil.GenerateTestFloatHistogram(seen)
			case shape == 2 && custom:
				c.h = tsdbutil.GenerateTestCustomBucketsHistogram(seen)
			case shape == 3 && custom:
				c.fh = tsdbutil.GenerateTestCustomBucketsFloatHistogram(seen)
			case shape == 4:
				c.h = tsdbutil.GenerateTestGaugeHistogram(seen)
			default:
				c.h = &histogram.Histogram{
					Count: uint64(7 + k), Sum: 1.5, Schema: 8,
					PositiveSpans: []histogram.Span{{Offset: int32(i % 11 * k), Length: 1}}, PositiveBuckets: []int64{int64(7 + k)},
				}
			}
			if i%4 == 0 && k == times-1 {
				c.h, c.fh = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}, nil
			}
			rounds[k] = append(rounds[k], c)
		}
	}
	return rounds
}

// nativeText is all that must come back of a histogram: the TSDB adds empty
// buckets, knows counter resets itself, and marks staleness in its own way.
func nativeText(h *histogram.Histogram, fh *histogram.FloatHistogram) string {
	switch {
	case h != nil && value.IsStaleNaN(h.Sum), fh != nil && value.IsStaleNaN(fh.Sum):
		return "stale"
	case h != nil:
		h = h.Copy().Compact(0)
		return fmt.Sprint("integers ", h.CounterResetHint == histogram.GaugeType, h.Schema, h.Count, h.Sum, h.ZeroCount, h.ZeroThreshold,
			h.PositiveSpans, h.PositiveBuckets, h.NegativeSpans, h.NegativeBuckets, h.CustomValues)
	default:
		fh = fh.Copy().Compact(0)
		return fmt.Sprint("floats ", fh.CounterResetHint == histogram.GaugeType, fh.Schema, fh.Count, fh.Sum, fh.ZeroCount, fh.ZeroThreshold,
			fh.PositiveSpans, fh.PositiveBuckets, fh.NegativeSpans, fh.NegativeBuckets, fh.CustomValues)
	}
}

// prometheusSendsNatives has a Prometheus agent send the histograms to node i.
func (b *bed) prometheusSendsNatives(i int, tenant, message string, rounds [][]native) {
	b.t.Helper()
	b.prometheusAppends(i, tenant, message, "histograms", len(rounds), func(app promstorage.Appender, k int) int {
		for _, s := range rounds[k] {
			_, err := app.AppendHistogram(0, s.labels, s.t, s.h, s.fh)
			require.NoError(b.t, err)
		}
		return len(rounds[k])
	})
}

// storedNatives is what node i has of a tenant's histograms, by series and time.
func (b *bed) storedNatives(i int, tenant string) map[string]map[int64]string {
	b.t.Helper()
	all := map[string]map[int64]string{}
	q, err := b.nodes[i].node.tsdb.ChunkQuerier(b.key(i, tenant), 0, 1<<60)
	if errors.Is(err, tsdb.ErrUnknownTenant) {
		return all
	}
	require.NoError(b.t, err)
	defer q.Close()
	set := promstorage.NewSeriesSetFromChunkSeriesSet(q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")))
	for set.Next() {
		of := map[int64]string{}
		it := set.At().Iterator(nil)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			switch kind {
			case chunkenc.ValHistogram:
				_, h := it.AtHistogram(nil)
				of[it.AtT()] = nativeText(h, nil)
			case chunkenc.ValFloatHistogram:
				_, fh := it.AtFloatHistogram(nil)
				of[it.AtT()] = nativeText(nil, fh)
			default:
				_, v := it.At()
				of[it.AtT()] = fmt.Sprint(v)
			}
		}
		require.NoError(b.t, it.Err())
		all[set.At().Labels().String()] = of
	}
	require.NoError(b.t, set.Err())
	return all
}

func (b *bed) key(i int, tenant string) tsdb.Key {
	return tsdb.Key{Tenant: tenant, Incarnation: b.nodes[i].node.cluster.State().Tenant(tenant).GetIncarnation()}
}

// identicalNatives waits until three nodes hold each histogram.
func (b *bed) identicalNatives(tenant string, rounds [][]native) {
	b.t.Helper()
	want := map[string]map[int64]string{}
	for _, round := range rounds {
		for _, s := range round {
			if want[s.labels.String()] == nil {
				want[s.labels.String()] = map[int64]string{}
			}
			want[s.labels.String()][s.t] = nativeText(s.h, s.fh)
		}
	}
	b.eventually("three nodes hold the histograms that "+tenant+" sent", func() error {
		holders := map[string]int{}
		for i := range b.nodes {
			for name, got := range b.storedNatives(i, tenant) {
				if fmt.Sprint(got) != fmt.Sprint(want[name]) {
					return fmt.Errorf("n%d has %v of %s, want %v", i+1, got, name, want[name])
				}
				holders[name]++
			}
		}
		for name := range want {
			if holders[name] != 3 {
				return fmt.Errorf("%d nodes hold %s", holders[name], name)
			}
		}
		return nil
	})
}

// localPrometheus is one TSDB that holds the histograms.
func localPrometheus(t *testing.T, rounds [][]native) promstorage.Queryable {
	t.Helper()
	db := teststorage.New(t)
	for _, round := range rounds {
		app := db.AppenderV2(t.Context())
		for _, s := range round {
			_, err := app.Append(0, s.labels, 0, s.t, 0, s.h, s.fh, promstorage.AOptions{})
			require.NoError(t, err)
		}
		require.NoError(t, app.Commit())
	}
	return db
}

// asPrometheus is what Prometheus' own engine answers.
func asPrometheus(t *testing.T, db promstorage.Queryable, at time.Time, expr string) map[string]float64 {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1 << 20, Timeout: time.Minute})
	q, err := engine.NewInstantQuery(t.Context(), db, nil, expr, at)
	require.NoError(t, err)
	defer q.Close()
	res := q.Exec(t.Context())
	require.NoError(t, res.Err)
	vector, err := res.Vector()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, s := range vector {
		values[series(s.Metric.Map())] = s.F
	}
	require.NoError(t, engine.Close())
	return values
}

// TestNativeHistogramsAreReadBack lets Prometheus' own code send native histograms
// in both forms. Every node answers as one Prometheus that had scraped them would.
func TestNativeHistogramsAreReadBack(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		at := time.Now().Add(time.Minute).UnixMilli()
		first, second := natives(48, 6, at, false), natives(48, 6, at, true)
		b.prometheusSendsNatives(0, "one", "prometheus.WriteRequest", first)
		b.prometheusSendsNatives(1, "two", "io.prometheus.write.v2.Request", second)
		b.identicalNatives("one", first)
		b.identicalNatives("two", second)
		when := time.UnixMilli(at + 6000).Truncate(time.Second) // as the queries have it
		inPrometheus := map[string]promstorage.Queryable{"one": localPrometheus(t, first), "two": localPrometheus(t, second)}
		answers := func() {
			t.Helper()
			for _, expr := range []string{
				`histogram_quantile(0.9, latency)`, `histogram_count(rate(latency[1m]))`, `histogram_sum(latency)`,
				`histogram_quantile(0.5, sum(rate(latency{instance=~"host-00(00|06|07|12|13|18|19)"}[1m])))`, `count_over_time(latency[1m])`,
			} {
				for tenant, db := range inPrometheus {
					want := asPrometheus(t, db, when, expr)
					require.NotEmpty(t, want, expr)
					for i := range b.nodes {
						got := b.query(i, "-t", tenant, "--time", fmt.Sprint(when.Unix()), expr)
						require.Equal(t, len(want), len(got), "%s of %s on n%d", expr, tenant, i+1)
						for name, v := range want {
							require.InDelta(t, v, got[name], 1e-9*math.Abs(v), "%s of %s on n%d", name, tenant, i+1)
						}
					}
				}
			}
		}
		answers()
		// A sender that repeats adds nothing, and blocks say the same as heads.
		b.repeatsNatives("one", first)
		b.identicalNatives("one", first)
		for i := range b.nodes {
			require.NoError(t, b.nodes[i].node.tsdb.Cut(t.Context(), b.key(i, "one")))
		}
		b.identicalNatives("one", first)
		answers()
		out := b.cli(1, "query", "-t", "one", "--time", fmt.Sprint(when.Unix()), `latency{instance="host-0001"}`)
		require.Contains(t, out, `latency{instance="host-0001", job="test"}  {count:`)
	})
}

// repeatsNatives writes the rounds again, each as a repeat of one request.
func (b *bed) repeatsNatives(tenant string, rounds [][]native) {
	b.t.Helper()
	for k, round := range rounds {
		req := &prompb.WriteRequest{}
		for _, s := range round {
			one := prompb.TimeSeries{Labels: prompb.FromLabels(s.labels, nil)}
			if s.fh != nil {
				one.Histograms = []prompb.Histogram{prompb.FromFloatHistogram(s.t, s.fh)}
			} else {
				one.Histograms = []prompb.Histogram{prompb.FromIntHistogram(s.t, s.h)}
			}
			req.Timeseries = append(req.Timeseries, one)
		}
		raw, err := req.Marshal()
		require.NoError(b.t, err)
		b.eventually("the repeat is taken", func() error {
			status, text := b.post(k%len(b.nodes), tenant, raw, "Content-Encoding", "identity", "Retry-Attempt", "1")
			if status == 204 {
				return nil
			}
			require.NotEqual(b.t, 4, status/100, "%d %s", status, text)
			return fmt.Errorf("%d %s", status, text)
		})
	}
}

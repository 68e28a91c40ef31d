package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// exporter is the OpenTelemetry SDK's, towards node i, and what it was given.
type exporter struct {
	*otlpmetrichttp.Exporter
	sent []metricdata.ResourceMetrics
	last int64 // when it last collected, in milliseconds
}

func (b *bed) exporter(i int, tenant string, opts ...otlpmetrichttp.Option) *exporter {
	b.t.Helper()
	opts = append([]otlpmetrichttp.Option{
		otlpmetrichttp.WithEndpointURL("http://" + b.nodes[i].cfg.Write + "/api/v1/otlp/v1/metrics"),
		otlpmetrichttp.WithHeaders(map[string]string{"THANOS-TENANT": tenant}),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: 50 * time.Millisecond, MaxInterval: time.Second, MaxElapsedTime: patience}),
		otlpmetrichttp.WithTimeout(patience),
	}, opts...)
	e, err := otlpmetrichttp.New(b.t.Context(), opts...)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = e.Shutdown(context.Background()) })
	return &exporter{Exporter: e}
}

// export sends what the instruments have by now, and keeps it. Then it sends the
// last three once more, as after lost answers.
func (e *exporter) export(t *testing.T, r sdk.Reader) {
	t.Helper()
	for time.Now().UnixMilli() <= e.last { // two collections in a millisecond would contradict each other
		runtime.Gosched()
	}
	var rm metricdata.ResourceMetrics
	require.NoError(t, r.Collect(t.Context(), &rm))
	e.last = time.Now().UnixMilli()
	require.NoError(t, e.Export(t.Context(), &rm))
	e.sent = append(e.sent, rm)
	for i := max(len(e.sent)-3, 0); i < len(e.sent); i++ {
		require.NoError(t, e.Export(t.Context(), &e.sent[i]), "sent once more")
	}
}

// expected are the samples that the exported data points are, worked out from
// the specification of the translation and not by its code.
func (e *exporter) expected() [][]sample {
	var rounds [][]sample
	for _, rm := range e.sent {
		var round []sample
		var oldest, newest int64
		job := []string{"job", "shop", "instance", "i-1"}
		add := func(name string, at time.Time, v float64, set attribute.Set, more ...string) {
			pairs := append(append([]string{"__name__", name}, job...), more...)
			for _, kv := range set.ToSlice() {
				pairs = append(pairs, map[string]string{"http.route": "http_route"}[string(kv.Key)], kv.Value.AsString())
			}
			round = append(round, sample{labels.FromStrings(pairs...), at.UnixMilli(), v})
			if t := at.UnixMilli(); oldest == 0 || t < oldest {
				oldest = t
			}
			newest = max(newest, at.UnixMilli())
		}
		for _, m := range rm.ScopeMetrics[0].Metrics {
			switch d := m.Data.(type) {
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					add("room_temperature_celsius", p.Time, p.Value, p.Attributes)
				}
			case metricdata.Sum[int64]:
				name := map[string]string{"http.requests": "http_requests_total", "queue.length": "queue_length"}[m.Name]
				for _, p := range d.DataPoints {
					add(name, p.Time, float64(p.Value), p.Attributes)
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					add("http_latency_seconds_count", p.Time, float64(p.Count), p.Attributes)
					add("http_latency_seconds_sum", p.Time, p.Sum, p.Attributes)
					below := uint64(0)
					for i, n := range p.BucketCounts {
						below += n
						le := "+Inf"
						if i < len(p.Bounds) {
							le = fmt.Sprint(p.Bounds[i])
						}
						add("http_latency_seconds_bucket", p.Time, float64(below), p.Attributes, "le", le)
					}
				}
			}
		}
		add("target_info", time.UnixMilli(oldest), 1, attribute.Set{}, "host_arch", "arm64")
		if oldest < newest {
			add("target_info", time.UnixMilli(newest), 1, attribute.Set{}, "host_arch", "arm64")
		}
		rounds = append(rounds, round)
	}
	return rounds
}

// TestWhatTheOpenTelemetrySDKSendsIsReadBack: instruments of an application,
// through the SDK and its exporter, to each node in turn.
func TestWhatTheOpenTelemetrySDKSendsIsReadBack(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		first := b.exporter(0, "shop")
		second := b.exporter(1, "shop", otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
		reader := sdk.NewManualReader()
		provider := sdk.NewMeterProvider(sdk.WithReader(reader), sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "shop"), attribute.String("service.instance.id", "i-1"), attribute.String("host.arch", "arm64"),
		)))
		meter := provider.Meter("shop")
		requests, err := meter.Int64Counter("http.requests")
		require.NoError(t, err)
		length, err := meter.Int64UpDownCounter("queue.length")
		require.NoError(t, err)
		latency, err := meter.Float64Histogram("http.latency", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(0.25, 0.5, 2))
		require.NoError(t, err)
		temperature, err := meter.Float64Gauge("room.temperature", metric.WithUnit("Cel"))
		require.NoError(t, err)
		for round := range 4 {
			for route := range 10 {
				at := metric.WithAttributes(attribute.String("http.route", fmt.Sprint("/", route)))
				requests.Add(t.Context(), int64(route+round), at)
				length.Add(t.Context(), int64(route-round), at)
				latency.Record(t.Context(), float64(route*round)/3, at)
				temperature.Record(t.Context(), math.Sqrt(float64(route-round)), at) // some are NaN
			}
			if round%2 == 0 {
				first.export(t, reader)
			} else {
				second.export(t, reader)
				first.sent, second.sent = append(first.sent, second.sent...), nil
			}
			first.last = max(first.last, second.last)
			second.last = first.last
		}
		require.NoError(t, provider.Shutdown(t.Context()))
		b.identical("shop", first.expected())
	})
}

// nativeOf is the native histogram that an exponential one is, by the
// specification: OTLP's bucket i ends where Prometheus' bucket i+1 does, and
// beyond schema 8 neighbours are one.
func nativeOf(p metricdata.ExponentialHistogramDataPoint[float64]) *histogram.Histogram {
	h := &histogram.Histogram{Schema: min(p.Scale, 8), Count: p.Count, Sum: p.Sum, ZeroCount: p.ZeroCount, ZeroThreshold: 1e-128}
	side := func(b metricdata.ExponentialBucket) (spans []histogram.Span, deltas []int64) {
		counts := map[int32]int64{}
		for i, n := range b.Counts {
			counts[(b.Offset+int32(i))>>max(p.Scale-8, 0)+1] += int64(n)
		}
		next, last := int32(0), int64(0)
		for _, i := range slices.Sorted(maps.Keys(counts)) {
			spans = append(spans, histogram.Span{Offset: i - next, Length: 1})
			deltas = append(deltas, counts[i]-last)
			next, last = i+1, counts[i]
		}
		return spans, deltas
	}
	h.PositiveSpans, h.PositiveBuckets = side(p.PositiveBucket)
	h.NegativeSpans, h.NegativeBuckets = side(p.NegativeBucket)
	return h
}

// TestExponentialHistogramsAreReadBackAsNative: coarse ones, and ones finer than
// a native histogram can be, as the SDK makes them of few values.
func TestExponentialHistogramsAreReadBackAsNative(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		e := b.exporter(0, "shop")
		reader := sdk.NewManualReader()
		provider := sdk.NewMeterProvider(sdk.WithReader(reader), sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "shop"))),
			sdk.WithView(sdk.NewView(sdk.Instrument{Name: "*"}, sdk.Stream{Aggregation: sdk.AggregationBase2ExponentialHistogram{MaxSize: 20, MaxScale: 20}})))
		size, err := provider.Meter("shop").Float64Histogram("size", metric.WithUnit("By"))
		require.NoError(t, err)
		for round := range 4 {
			for kind := range 8 {
				at := metric.WithAttributes(attribute.Int("kind", kind))
				for i := range 1 + kind*3 {
					size.Record(t.Context(), float64(i*i-round)*1.25, at)
				}
			}
			e.export(t, reader)
		}
		require.NoError(t, provider.Shutdown(t.Context()))
		var rounds [][]native
		scales := map[bool]int{}
		for _, rm := range e.sent {
			var round []native
			for _, p := range rm.ScopeMetrics[0].Metrics[0].Data.(metricdata.ExponentialHistogram[float64]).DataPoints {
				kind, _ := p.Attributes.Value("kind")
				round = append(round, native{
					labels: labels.FromStrings("__name__", "size_bytes", "job", "shop", "kind", kind.String()),
					t:      p.Time.UnixMilli(), h: nativeOf(p),
				})
				scales[p.Scale > 8]++
			}
			rounds = append(rounds, round)
		}
		require.Len(t, scales, 2, "coarse ones and fine ones")
		b.identicalNatives("shop", rounds)
		last := e.sent[3].ScopeMetrics[0].Metrics[0].Data.(metricdata.ExponentialHistogram[float64]).DataPoints
		total := 0.0
		for _, p := range last {
			total += float64(p.Count)
		}
		for i := range b.nodes {
			require.Equal(t, map[string]float64{"{}": total}, b.query(i, "-t", "shop", "sum(histogram_count(size_bytes))"), "on n%d", i+1)
		}
	})
}

// TestExemplarsAndMetadataOfOTLPAreReadBack on every node, as those of remote write.
func TestExemplarsAndMetadataOfOTLPAreReadBack(t *testing.T) {
	b := newBed(t, 3, 3)
	e, now := b.exporter(1, "shop"), time.Now()
	var points []metricdata.DataPoint[float64]
	var want []string
	for i := range 20 {
		trace := [16]byte{1, byte(i)}
		points = append(points, metricdata.DataPoint[float64]{
			Time: now, Value: float64(i), Attributes: attribute.NewSet(attribute.Int("i", i)),
			Exemplars: []metricdata.Exemplar[float64]{{Time: now.Add(-time.Second), Value: float64(i) + 0.5, TraceID: trace[:], SpanID: make([]byte, 8)}},
		})
		want = append(want, fmt.Sprintf("%s %x@%.3f=%v", series(map[string]string{"__name__": "m", "job": "shop", "i": fmt.Sprint(i)}), trace,
			float64(now.Add(-time.Second).UnixMilli())/1000, float64(i)+0.5))
	}
	require.NoError(t, e.Export(t.Context(), &metricdata.ResourceMetrics{
		Resource: resource.NewSchemaless(attribute.String("service.name", "shop")),
		ScopeMetrics: []metricdata.ScopeMetrics{{Metrics: []metricdata.Metrics{
			{Name: "m", Description: "What it is.", Data: metricdata.Sum[float64]{Temporality: metricdata.CumulativeTemporality, DataPoints: points}},
			{Name: "n", Data: metricdata.Sum[float64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: true, DataPoints: points[:1]}},
		}}},
	}))
	slices.Sort(want)
	b.sameExemplars("shop", want)
	for i := range b.nodes {
		b.knows(i, "shop", `{"m":[{"type":"gauge","help":"What it is.","unit":""}],"n_total":[{"type":"counter","help":"","unit":""}]}`)
	}
}

// TestAnOTLPSenderIsToldWhatIsRejected through the SDK's own reading of the answer.
func TestAnOTLPSenderIsToldWhatIsRejected(t *testing.T) {
	b := newBed(t, 3, 3)
	e := b.exporter(0, "shop")
	point := func(at time.Time) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Time: at, Value: 1, Attributes: attribute.NewSet(attribute.Int64("at", at.Unix()))}
	}
	rm := &metricdata.ResourceMetrics{
		Resource: resource.NewSchemaless(attribute.String("service.name", "shop")),
		ScopeMetrics: []metricdata.ScopeMetrics{{Metrics: []metricdata.Metrics{
			{Name: "mixed", Data: metricdata.Gauge[int64]{DataPoints: []metricdata.DataPoint[int64]{point(time.Now()), point(time.Now().Add(-100 * time.Hour))}}},
			{Name: "delta", Data: metricdata.Sum[int64]{Temporality: metricdata.DeltaTemporality, DataPoints: []metricdata.DataPoint[int64]{point(time.Now())}}},
		}}},
	}
	err := e.Export(t.Context(), rm)
	require.ErrorContains(t, err, "2 of 3 data points rejected")
	require.ErrorContains(t, err, "temporality is not cumulative: 1, {__name__=\"delta\"")
	require.Len(t, b.query(1, "-t", "shop", "mixed"), 1)
	b.cli(0, "tenant", "set", "shop", "--state", "suspended")
	b.eventually("a suspended tenant is refused", func() error {
		if err := e.Export(t.Context(), rm); !strings.Contains(fmt.Sprint(err), "403") {
			return fmt.Errorf("answered %q", fmt.Sprint(err))
		}
		return nil
	})
	resp, err := http.Post("http://"+b.nodes[2].cfg.Write+"/api/v1/otlp", "application/json", strings.NewReader(`{}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode, "at the other path, of the default tenant")
}

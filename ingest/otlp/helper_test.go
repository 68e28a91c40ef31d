package otlp

import (
	"fmt"
	"math"
	"testing"
	"unsafe"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/muster-metrics/muster/ingest/wire"
)

// at is the time of the requests here, in milliseconds; taken is an hour before
// and after it.
const at = 1_700_000_000_000

var taken = wire.Limits{MinTime: at - 3_600_000, MaxTime: at + 3_600_000}

func stamp(ms int64) pcommon.Timestamp { return pcommon.Timestamp(ms * 1e6) }

// scopeOf begins a request with one resource.
func scopeOf(attributes ...string) (pmetric.Metrics, pmetric.MetricSlice) {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	for i := 0; i < len(attributes); i += 2 {
		rm.Resource().Attributes().PutStr(attributes[i], attributes[i+1])
	}
	return md, rm.ScopeMetrics().AppendEmpty().Metrics()
}

func named(ms pmetric.MetricSlice, name, unit string) pmetric.Metric {
	m := ms.AppendEmpty()
	m.SetName(name)
	m.SetUnit(unit)
	m.SetDescription("what " + name + " is")
	return m
}

func gauge(ms pmetric.MetricSlice, name string, t int64, v float64, attributes ...string) pmetric.NumberDataPoint {
	p := named(ms, name, "").SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetTimestamp(stamp(t))
	p.SetDoubleValue(v)
	for i := 0; i < len(attributes); i += 2 {
		p.Attributes().PutStr(attributes[i], attributes[i+1])
	}
	return p
}

// counter is a sum that can have any temporality.
func counter(ms pmetric.MetricSlice, name string, how pmetric.AggregationTemporality, values ...int64) pmetric.Sum {
	s := named(ms, name, "By").SetEmptySum()
	s.SetIsMonotonic(true)
	s.SetAggregationTemporality(how)
	for i, v := range values {
		p := s.DataPoints().AppendEmpty()
		p.SetStartTimestamp(stamp(at - 60_000))
		p.SetTimestamp(stamp(at))
		p.SetIntValue(v)
		p.Attributes().PutStr("http.method", fmt.Sprintf("m%d", i))
	}
	return s
}

func classic(ms pmetric.MetricSlice, name string, points int) pmetric.Histogram {
	h := named(ms, name, "s").SetEmptyHistogram()
	h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for i := range points {
		p := h.DataPoints().AppendEmpty()
		p.SetTimestamp(stamp(at))
		p.Attributes().PutStr("route", fmt.Sprint(i))
		p.ExplicitBounds().FromRaw([]float64{0.5, 1, 2.5})
		p.BucketCounts().FromRaw([]uint64{1, 2, 0, 4})
		p.SetCount(7)
		if i%2 == 0 {
			p.SetSum(12.25)
		}
	}
	return h
}

func quantiles(ms pmetric.MetricSlice, name string, points int) pmetric.Summary {
	s := named(ms, name, "ms").SetEmptySummary()
	for i := range points {
		p := s.DataPoints().AppendEmpty()
		p.SetTimestamp(stamp(at))
		p.Attributes().PutStr("route", fmt.Sprint(i))
		p.SetCount(3)
		p.SetSum(4.5)
		for _, q := range []float64{0.5, 0.99} {
			v := p.QuantileValues().AppendEmpty()
			v.SetQuantile(q)
			v.SetValue(q * 2)
		}
	}
	return s
}

func exponentialOf(ms pmetric.MetricSlice, name string, scale int32) pmetric.ExponentialHistogramDataPoint {
	h := named(ms, name, "s").SetEmptyExponentialHistogram()
	h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := h.DataPoints().AppendEmpty()
	p.SetTimestamp(stamp(at))
	p.SetScale(scale)
	p.SetCount(6)
	p.SetSum(9.5)
	p.SetZeroCount(1)
	p.Positive().SetOffset(-2)
	p.Positive().BucketCounts().FromRaw([]uint64{1, 0, 0, 0, 3})
	p.Negative().BucketCounts().FromRaw([]uint64{1})
	return p
}

func encoded(t testing.TB, md pmetric.Metrics, isJSON bool) []byte {
	t.Helper()
	req := pmetricotlp.NewExportRequestFromMetrics(md)
	write := req.MarshalProto
	if isJSON {
		write = req.MarshalJSON
	}
	b, err := write()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// laid is what a request becomes: a line per sample, in their order.
type laid struct {
	points  *Points
	batch   *wire.Batch
	samples []string
	// exemplars are a line each, families what is said of each.
	exemplars []string
	families  []string
	reasons   map[string]int
}

func lay(t testing.TB, body []byte, isJSON bool, lim wire.Limits) (laid, error) {
	t.Helper()
	var b wire.Batch
	p, _, err := Lay(t.Context(), body, isJSON, lim, &b)
	if err != nil {
		return laid{}, err
	}
	l := laid{points: p, batch: &b, reasons: map[string]int{}}
	b.Refused.Each(func(r wire.Reason, n int, _ string) { l.reasons[r.String()] = n })
	r := wire.NewReader(b.Frames)
	for r.Next() {
		raw := r.Labels()
		if !wire.WellFormed(raw) {
			t.Fatalf("labels %q are not well formed", raw)
		}
		ls := *(*labels.Labels)(unsafe.Pointer(&raw)) // a string is the head of a slice
		for {
			at, v, ok := r.Sample()
			if !ok {
				break
			}
			l.samples = append(l.samples, line(ls, at, v))
		}
		for {
			at, h, fh, ok := r.Histogram()
			if !ok {
				break
			}
			l.samples = append(l.samples, histogramLine(ls, at, h, fh))
		}
		for {
			raw, at, v, ok := r.Exemplar()
			if !ok {
				break
			}
			of := *(*labels.Labels)(unsafe.Pointer(&raw))
			l.exemplars = append(l.exemplars, line(ls, at, v)+" "+of.String())
		}
	}
	d := wire.NewReader(b.Descriptions.Frames)
	for d.Next() {
		m, ok := d.Metadata()
		if !ok {
			t.Fatal("no description")
		}
		l.families = append(l.families, fmt.Sprintf("%s %s %s %s", m.Family, m.TypeName(), m.Unit, m.Help))
	}
	if r.Err() != nil || d.Err() != nil || len(l.samples) != b.Samples || len(l.exemplars) != b.Exemplars {
		t.Fatalf("read %d of %d samples, %d of %d exemplars: %v, %v", len(l.samples), b.Samples, len(l.exemplars), b.Exemplars, r.Err(), d.Err())
	}
	return l, nil
}

func mustLay(t testing.TB, md pmetric.Metrics) laid {
	t.Helper()
	l, err := lay(t, encoded(t, md, false), false, taken)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func line(ls labels.Labels, t int64, v float64) string {
	return fmt.Sprintf("%s @%d %x", ls, t-at, math.Float64bits(v))
}

func histogramLine(ls labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) string {
	if fh != nil {
		return fmt.Sprintf("%s @%d floats %v", ls, t-at, fh)
	}
	h = h.Copy().Compact(0)
	return fmt.Sprintf("%s @%d %d %v %d %v %v %d %v %v %v %v", ls, t-at, h.CounterResetHint, h.Schema, h.Count, math.Float64bits(h.Sum),
		h.ZeroThreshold, h.ZeroCount, h.PositiveSpans, h.PositiveBuckets, h.NegativeSpans, h.NegativeBuckets)
}

// exemplify puts exemplars into a list: with a trace, and with attributes.
func exemplify(list pmetric.ExemplarSlice) {
	traced := list.AppendEmpty()
	traced.SetTraceID([16]byte{1, 2})
	traced.SetSpanID([8]byte{3})
	traced.SetTimestamp(stamp(at - 5))
	traced.SetDoubleValue(0.75)
	plain := list.AppendEmpty()
	plain.SetTimestamp(stamp(at - 4))
	plain.SetIntValue(2)
	plain.FilteredAttributes().PutStr("user.agent", "größe")
}

// everything is a request with data points of every kind.
func everything() pmetric.Metrics {
	md, ms := scopeOf("service.name", "shop", "service.namespace", "eu", "service.instance.id", "i-1", "host.arch", "arm64")
	gauge(ms, "queue.length", at, 3, "süß.key", "größe", "zone", "b")
	gauge(ms, "temperature", at-200_000, 20.5).SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
	gauge(ms, "nan", at, math.NaN())
	gauge(ms, "collide", at, 1, "a.b", "one", "a-b", "two", "empty", "")
	exemplify(counter(ms, "io", pmetric.AggregationTemporalityCumulative, 5, 6, -7).DataPoints().At(1).Exemplars())
	s := named(ms, "up.down", "1").SetEmptySum()
	s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := s.DataPoints().AppendEmpty()
	p.SetTimestamp(stamp(at + 1))
	p.SetDoubleValue(-2.5)
	exemplify(classic(ms, "latency", 3).DataPoints().At(1).Exemplars())
	quantiles(ms, "gc.pause", 2)
	exemplify(exponentialOf(ms, "size", 3).Exemplars())
	exponentialOf(ms, "fine.size", 20)
	exponentialOf(ms, "gone.size", 0).SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
	other := md.ResourceMetrics().AppendEmpty()
	other.Resource().Attributes().PutStr("service.name", "cart")
	gauge(other.ScopeMetrics().AppendEmpty().Metrics(), "queue.length", at, 4)
	return md
}

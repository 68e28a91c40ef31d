package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

// packed is in the error of a field that a packed list is cut in.
const packed = "packed field"

// textOf shows all of a histogram, its floats by their bits.
func textOf(h *histogram.Histogram, fh *histogram.FloatHistogram) string {
	bits := func(all ...float64) (out []uint64) {
		for _, v := range all {
			out = append(out, math.Float64bits(v))
		}
		return out
	}
	if h != nil {
		return fmt.Sprint("ints ", h.CounterResetHint, h.Schema, h.Count, h.ZeroCount, bits(h.Sum, h.ZeroThreshold),
			h.PositiveSpans, h.PositiveBuckets, h.NegativeSpans, h.NegativeBuckets, bits(h.CustomValues...))
	}
	if fh != nil {
		return fmt.Sprint("floats ", fh.CounterResetHint, fh.Schema, bits(fh.Count, fh.ZeroCount, fh.Sum, fh.ZeroThreshold),
			fh.PositiveSpans, bits(fh.PositiveBuckets...), fh.NegativeSpans, bits(fh.NegativeBuckets...), bits(fh.CustomValues...))
	}
	return "nothing"
}

// oracleOf is what Prometheus' own code makes of a histogram; false: the TSDB
// would not take it.
func oracleOf(p prompb.Histogram) (string, bool) {
	if p.ResetHint > 3 || p.ResetHint < 0 {
		p.ResetHint = 0
	}
	for _, n := range []int{
		len(p.PositiveSpans), len(p.NegativeSpans), len(p.PositiveDeltas), len(p.NegativeDeltas),
		len(p.PositiveCounts), len(p.NegativeCounts), len(p.CustomValues),
	} {
		if n > MaxBuckets {
			return "", false
		}
	}
	finer := p.Schema > histogram.ExponentialSchemaMax && p.Schema <= histogram.ExponentialSchemaMaxReserved
	if p.IsFloatHistogram() {
		fh := p.ToFloatHistogram()
		if finer && fh.ReduceResolution(histogram.ExponentialSchemaMax) != nil {
			return "", false
		}
		return textOf(nil, fh), fh.Validate() == nil
	}
	h := p.ToIntHistogram()
	if finer && h.ReduceResolution(histogram.ExponentialSchemaMax) != nil {
		return "", false
	}
	return textOf(h, nil), h.Validate() == nil
}

func histogramV2(h prompb.Histogram) writev2.Histogram {
	if h.IsFloatHistogram() {
		return writev2.FromFloatHistogram(h.Timestamp-1, h.Timestamp, h.ToFloatHistogram())
	}
	return writev2.FromIntHistogram(h.Timestamp-1, h.Timestamp, h.ToIntHistogram())
}

func histogramV1(h writev2.Histogram) prompb.Histogram {
	if h.IsFloatHistogram() {
		return prompb.FromFloatHistogram(h.Timestamp, h.ToFloatHistogram())
	}
	return prompb.FromIntHistogram(h.Timestamp, h.ToIntHistogram())
}

// histogramSeries is a series for every shape that a histogram may have.
func histogramSeries() []prompb.TimeSeries {
	huge := &histogram.Histogram{Schema: 8, Count: 3000, Sum: 1, PositiveSpans: []histogram.Span{{Offset: -70_000, Length: 3000}}}
	for i := range 3000 {
		huge.PositiveBuckets = append(huge.PositiveBuckets, int64(1-min(i, 1)))
	}
	wide := &histogram.FloatHistogram{Schema: 0, Sum: math.NaN(), NegativeSpans: []histogram.Span{{Offset: 5, Length: 8000}, {Offset: 0, Length: 0}, {Offset: 9, Length: 1}}}
	for i := range 8001 {
		wide.NegativeBuckets = append(wide.NegativeBuckets, float64(i)/3)
	}
	fine := tsdbutil.GenerateTestHistogram(2)
	fine.Schema = 12
	fineFloat := tsdbutil.GenerateTestFloatHistogram(2)
	fineFloat.Schema = 52
	ints := map[string]*histogram.Histogram{
		"plain": tsdbutil.GenerateTestHistogram(1), "gauge": tsdbutil.GenerateTestGaugeHistogram(7),
		"custom": tsdbutil.GenerateTestCustomBucketsHistogram(3), "empty": {},
		"stale": {Sum: math.Float64frombits(value.StaleNaN)}, "huge": huge, "fine": fine,
		"large counts": {Count: math.MaxUint64, ZeroCount: math.MaxUint64, ZeroThreshold: 1},
		"threshold":    {ZeroThreshold: 1e-128},
	}
	floats := map[string]*histogram.FloatHistogram{
		"plain": tsdbutil.GenerateTestFloatHistogram(1), "gauge": tsdbutil.GenerateTestGaugeFloatHistogram(7),
		"custom": tsdbutil.GenerateTestCustomBucketsFloatHistogram(3), "empty": {},
		"stale": {Sum: math.Float64frombits(value.StaleNaN)}, "wide": wide, "fine": fineFloat,
		"odd": {Count: math.Inf(1), Sum: math.Inf(-1), ZeroCount: 0.5, ZeroThreshold: 1e-300},
	}
	var all []prompb.TimeSeries
	for _, name := range []string{"plain", "gauge", "custom", "empty", "stale", "huge", "fine", "large counts", "threshold", "wide", "odd"} {
		labels := []prompb.Label{{Name: "__name__", Value: name}}
		if h := ints[name]; h != nil {
			all = append(all, prompb.TimeSeries{Labels: labels, Histograms: []prompb.Histogram{prompb.FromIntHistogram(1_700_000_000_000, h)}})
		}
		if fh := floats[name]; fh != nil {
			all = append(all, prompb.TimeSeries{Labels: labels, Histograms: []prompb.Histogram{prompb.FromFloatHistogram(-5, fh)}})
		}
	}
	mixed := series([]prompb.Sample{{Timestamp: 1, Value: 1}, {Timestamp: 2}}, "__name__", "mixed", "a", "b")
	mixed.Histograms = []prompb.Histogram{
		prompb.FromIntHistogram(3, ints["plain"]), prompb.FromFloatHistogram(4, floats["custom"]), prompb.FromIntHistogram(0, ints["empty"]),
	}
	return append(all, mixed)
}

func TestHistogramsAreLaidOutAsPrometheusReadsThem(t *testing.T) {
	var want []read
	for _, ts := range histogramSeries() {
		w, refused := oracle(ts)
		if refused > 0 {
			t.Fatalf("%v: a bad example", ts.Labels)
		}
		want = append(want, w...)
	}
	var v1, v2 Batch
	for range 2 { // the second time in used memory
		v1.Reset()
		v2.Reset()
		if err := errors.Join(WalkV1(body(t, histogramSeries()...), anyTime, &v1), WalkV2(marshal(t, requestV2(histogramSeries()...)), anyTime, &v2)); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, &v1)
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				t.Fatalf("sample %d of %d is\n%+v, want\n%+v", i, len(got), got[min(i, len(got)-1)], want[i])
			}
		}
		if len(got) != len(want) || v1.Histograms != len(want)-2 || v1.Refused.Total() > 0 || !bytes.Equal(v1.Frames, v2.Frames) {
			t.Fatalf("%d samples of %d, %d of them histograms, refused %v; 2.0 became %d bytes of %d",
				len(got), len(want), v1.Histograms, v1.Refused, len(v2.Frames), len(v1.Frames))
		}
	}
}

func TestBadHistogramsAreRefusedOneByOne(t *testing.T) {
	good := prompb.FromIntHistogram(5, tsdbutil.GenerateTestHistogram(1))
	bad := func(f func(*prompb.Histogram)) prompb.Histogram {
		h := prompb.FromIntHistogram(5, tsdbutil.GenerateTestHistogram(1))
		f(&h)
		return h
	}
	many := make([]int64, MaxBuckets+1)
	for name, c := range map[string]struct {
		h    prompb.Histogram
		text string
	}{
		"schema":  {bad(func(h *prompb.Histogram) { h.Schema = -5 }), "invalid schema"},
		"unknown": {bad(func(h *prompb.Histogram) { h.Schema = 53 }), "invalid schema"},
		"count":   {bad(func(h *prompb.Histogram) { h.Count = &prompb.Histogram_CountInt{CountInt: 1} }), "observations found in buckets"},
		"spans":   {bad(func(h *prompb.Histogram) { h.PositiveSpans[0].Length = 1 << 31 }), "out of range"},
		"finer":   {bad(func(h *prompb.Histogram) { h.Schema, h.PositiveSpans[0].Length = 20, 1<<31 }), "spans need"},
		"bounds":  {bad(func(h *prompb.Histogram) { h.CustomValues = []float64{1} }), "must not have custom bounds"},
		"buckets": {bad(func(h *prompb.Histogram) { h.PositiveDeltas = many }), "more than 16384 buckets"},
		"deltas":  {bad(func(h *prompb.Histogram) { h.NegativeDeltas = []int64{-1} }), "spans need"},
	} {
		ts := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "h"}}, Histograms: []prompb.Histogram{good, c.h, good, c.h}}
		var b Batch
		if err := WalkV1(body(t, ts), anyTime, &b); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, &b); len(got) != 2 || b.Refused.Total() != 2 {
			t.Errorf("%s: kept %v, refused %d", name, got, b.Refused.Total())
		}
		b.Refused.Each(func(r Reason, n int, first string) {
			if r != BadHistogram || n != 2 || !strings.HasPrefix(first, `{__name__="h"}: `) || !strings.Contains(first, c.text) || strings.Contains(first, "\n") {
				t.Errorf("%s: %d %v: %s", name, n, r, first)
			}
		})
	}
}

func TestHistogramsAreJudgedLikeSamples(t *testing.T) {
	ts := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "h"}}, Samples: one(150, 1)}
	for _, at := range []int64{99, 100, 200, 201, 202} {
		ts.Histograms = append(ts.Histograms, prompb.FromIntHistogram(at, tsdbutil.GenerateTestHistogram(1)))
	}
	reasons := func(b *Batch) map[Reason]int {
		got := map[Reason]int{}
		b.Refused.Each(func(r Reason, n int, _ string) { got[r] = n })
		return got
	}
	var b Batch
	if err := WalkV1(body(t, ts), Limits{MinTime: 100, MaxTime: 200}, &b); err != nil {
		t.Fatal(err)
	}
	if got := reasons(&b); len(readAll(t, &b)) != 3 || got[TooOld] != 1 || got[TooNew] != 2 {
		t.Errorf("refused %v", got)
	}
	b = Batch{}
	if err := WalkV1(body(t, ts), Limits{MinTime: 100, MaxTime: 200, FloatsOnly: true}, &b); err != nil {
		t.Fatal(err)
	}
	if got := reasons(&b); len(readAll(t, &b)) != 1 || got[NativeHistogram] != 5 || b.Histograms != 0 {
		t.Errorf("floats only: refused %v", got)
	}
	for name, lim := range map[string]Limits{"samples": {Samples: 5}, "bytes": {Bytes: 200}} {
		b = Batch{}
		var large *TooLarge
		if err := WalkV1(body(t, ts), lim, &b); !errors.As(err, &large) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSeriesWithManyHistogramsTakeSeveralFrames(t *testing.T) {
	small := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "h"}}}
	for i := range FrameSamples + 5 {
		small.Histograms = append(small.Histograms, prompb.Histogram{Timestamp: int64(i)})
	}
	large := prompb.TimeSeries{Labels: small.Labels}
	fh := &histogram.FloatHistogram{PositiveSpans: []histogram.Span{{Length: MaxBuckets}}, PositiveBuckets: make([]float64, MaxBuckets)}
	for i := range 20 {
		large.Histograms = append(large.Histograms, prompb.FromFloatHistogram(int64(i), fh))
	}
	for frames, ts := range map[int]prompb.TimeSeries{2: small, 3: large} {
		var b Batch
		if err := WalkV1(body(t, ts), anyTime, &b); err != nil {
			t.Fatal(err)
		}
		want, _ := oracle(ts)
		if got := readAll(t, &b); len(got) != len(want) || len(b.Series) != frames {
			t.Errorf("%d of %d histograms in %d frames, want %d", len(got), len(want), len(b.Series), frames)
		}
		for _, s := range b.Series {
			if s.End-s.Start > partBytes+1<<10 {
				t.Errorf("a frame of %d bytes", s.End-s.Start)
			}
		}
	}
}

// TestNothingBadIsKeptInBulk: a few bytes of a body may be a histogram, and its
// refusal must not cost a multiple of them.
func TestBadHistogramsCostLittle(t *testing.T) {
	raw := append([]byte{0x0a, 0x80, 0x80, 0x40}, bytes.Repeat([]byte{0x22, 0x02, 0x20, 0x09}, 1<<18)...)
	var b Batch
	var large *TooLarge
	if err := WalkV1(raw, Limits{Bytes: 2 << 20}, &b); !errors.As(err, &large) || cap(b.natives) > 1<<18 {
		t.Errorf("%v, room for %d", err, cap(b.natives))
	}
	b.Reset()
	if cap(b.natives) > 0 {
		t.Errorf("a reset batch keeps room for %d", cap(b.natives))
	}
}

func TestAnEntryThatIsNoHistogramIsToldFromNone(t *testing.T) {
	h := tsdbutil.GenerateTestHistogram(3)
	entry, _, ok := cutEntry(appendHistogram(nil, 7, h, nil))
	if !ok {
		t.Fatal("no entry")
	}
	if at, got, _ := histogramOf(entry); at != 7 || textOf(got, nil) != textOf(h, nil) {
		t.Fatalf("%d %v", at, got)
	}
	for cut := range entry {
		if _, h, fh := histogramOf(entry[:cut:cut]); h != nil || fh != nil {
			t.Errorf("cut at %d of %d it is %v %v", cut, len(entry), h, fh)
		}
	}
	if _, h, fh := histogramOf(append(entry[:len(entry):len(entry)], 0)); h != nil || fh != nil {
		t.Error("with a byte too many it is one")
	}
}

func BenchmarkWalkHistograms(b *testing.B) {
	var all []prompb.TimeSeries
	for i := range 500 {
		ts := scraped(1)[0]
		ts.Samples, ts.Histograms = nil, []prompb.Histogram{prompb.FromIntHistogram(int64(i), tsdbutil.GenerateTestHistogram(int64(i)))}
		all = append(all, ts)
	}
	raw := body(b, all...)
	var batch Batch
	b.ReportAllocs()
	for b.Loop() {
		batch.Reset()
		if err := WalkV1(raw, anyTime, &batch); err != nil || batch.Histograms != 500 {
			b.Fatal(err)
		}
	}
}

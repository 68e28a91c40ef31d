package wire

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
)

// anyTime takes samples of any time.
var anyTime = Limits{MinTime: math.MinInt64, MaxTime: math.MaxInt64}

func body(t testing.TB, series ...prompb.TimeSeries) []byte {
	t.Helper()
	b, err := (&prompb.WriteRequest{Timeseries: series}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func series(samples []prompb.Sample, pairs ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{Samples: samples}
	for i := 0; i < len(pairs); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return ts
}

func one(t int64, v float64) []prompb.Sample { return []prompb.Sample{{Timestamp: t, Value: v}} }

// read is what a reader makes of frames: one line per sample.
type read struct {
	labels string
	t      int64
	bits   uint64
	// native is the text of a histogram, with all that Prometheus keeps of it.
	native string
}

func readAll(t testing.TB, b *Batch) []read {
	t.Helper()
	var out []read
	r := NewReader(b.Frames)
	for i := 0; r.Next(); i++ {
		if !WellFormed(r.Labels()) {
			t.Fatalf("labels %q are not well formed", r.Labels())
		}
		s := b.Series[i]
		ls := unmarshal(t, r.Labels())
		if s.Hash != r.Hash() || ls.Hash() != r.Hash() || int(s.Samples) != r.Samples() || int(s.First) != len(out) {
			t.Fatalf("series %d: %+v, hash %x, %d samples after %d", i, s, r.Hash(), r.Samples(), len(out))
		}
		if string(b.Of(s)) != string(r.Frame()) {
			t.Fatalf("series %d: the batch has another frame than the reader", i)
		}
		for {
			at, v, ok := r.Sample()
			if !ok {
				break
			}
			out = append(out, read{ls.String(), at, math.Float64bits(v), ""})
		}
		for {
			at, h, fh, ok := r.Histogram()
			if !ok {
				break
			}
			out = append(out, read{ls.String(), at, 0, textOf(h, fh)})
		}
		if kind := b.Kind(s); kind != r.Kind() {
			t.Fatalf("series %d is of kind %d, its frame of %d", i, kind, r.Kind())
		}
	}
	if r.Err() != nil || len(out) != b.Samples {
		t.Fatalf("read %d of %d samples: %v", len(out), b.Samples, r.Err())
	}
	return out
}

// unmarshal turns label bytes into labels and makes sure that labels, laid
// out by Prometheus, are the same bytes: their hash is that of the bytes.
func unmarshal(t testing.TB, b []byte) labels.Labels {
	t.Helper()
	var sb labels.ScratchBuilder
	prev := ""
	for i := 0; len(b) > 0; i++ {
		name, rest, ok := nextString(b)
		if !ok {
			t.Fatal("labels are cut")
		}
		value, rest, ok := nextString(rest)
		if !ok {
			t.Fatal("labels are cut")
		}
		if i > 0 && prev >= string(name) {
			t.Fatalf("%q before %q", prev, name)
		}
		prev = string(name)
		sb.Add(prev, string(value))
		b = rest
	}
	return sb.Labels()
}

func TestWalkV1LaysOutSeriesAsPrometheusKeepsThem(t *testing.T) {
	long := strings.Repeat("x", 254)
	cases := map[string]prompb.TimeSeries{
		"plain":           series(one(1_700_000_000_000, 1.5), "__name__", "up", "job", "a"),
		"stale marker":    series(one(5, math.Float64frombits(value.StaleNaN)), "__name__", "up"),
		"zeros elided":    series(one(0, 0), "__name__", "up"),
		"negative time":   series(one(-5, 3), "__name__", "up"),
		"several samples": series([]prompb.Sample{{Timestamp: 1, Value: 2}, {Timestamp: 2, Value: 0}, {Timestamp: 3}}, "__name__", "up"),
		"127":             series(one(1, 1), "__name__", long[:127]),
		"128":             series(one(1, 1), "__name__", long[:128]),
		"254":             series(one(1, 1), "__name__", long),
		"255":             series(one(1, 1), "__name__", long+"x"),
		"70000":           series(one(1, 1), "__name__", "a", "b", strings.Repeat("y", 70_000)),
		"long names":      series(one(1, 1), "__name__", "a", long+"xyz", "b"),
		"not ascii":       series(one(1, 1), "__name__", "größe", "日本", "語"),
		"unsorted":        series(one(1, 1), "z", "1", "__name__", "up", "a", "2"),
		"empty value":     series(one(1, 1), "__name__", "up", "a", "", "b", "2"),
	}
	for name, ts := range cases {
		t.Run(name, func(t *testing.T) {
			var b Batch
			if err := WalkV1(body(t, ts), anyTime, &b); err != nil {
				t.Fatal(err)
			}
			want, refused := oracle(ts)
			if got := readAll(t, &b); !slices.Equal(got, want) || refused != 0 || b.Refused.Total() != 0 {
				t.Fatalf("got %v, refused %+v; want %v", got, b.Refused, want)
			}
		})
	}
}

func TestWalkV1RefusesSeriesForTheirLabelsAndKeepsTheOthers(t *testing.T) {
	lim := anyTime
	lim.Names, lim.NameLength, lim.ValueLength = 4, 20, 30
	cases := []struct {
		reason Reason
		ts     prompb.TimeSeries
	}{
		{NoMetricName, series(one(1, 1), "a", "b")},
		{NoMetricName, series(one(1, 1), "__name__", "", "a", "b")},
		{NoMetricName, series(one(1, 1))},
		{EmptyLabelName, series(one(1, 1), "", "b", "__name__", "up")},
		{DuplicateLabelName, series(one(1, 1), "__name__", "up", "a", "1", "a", "1")},
		{DuplicateLabelName, series(one(1, 1), "a", "1", "__name__", "up", "a", "2")},
		{NotUTF8, series(one(1, 1), "__name__", "up", "a", "\xff")},
		{NotUTF8, series(one(1, 1), "__name__", "up", "a\xc3", "b")},
		{TooManyLabels, series(one(1, 1), "__name__", "up", "a", "1", "b", "1", "c", "1", "d", "1")},
		{LabelNameTooLong, series(one(1, 1), "__name__", "up", strings.Repeat("a", 21), "1")},
		{LabelValueTooLong, series(one(1, 1), "__name__", "up", "a", strings.Repeat("a", 31))},
		{BadHistogram, prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "up"}}, Histograms: []prompb.Histogram{{Schema: -5}}}},
	}
	good := series(one(7, 7), "__name__", "good")
	for _, c := range cases {
		var b Batch
		if err := WalkV1(body(t, good, c.ts, good), lim, &b); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, &b); len(got) != 2 || got[0].labels != `{__name__="good"}` {
			t.Fatalf("%v: kept %v", c.reason, got)
		}
		n := 0
		b.Refused.Each(func(r Reason, count int, first string) {
			if n++; r != c.reason || count != 1 || !utf8.ValidString(first) {
				t.Errorf("refused %d as %q (%s), want %q", count, r, first, c.reason)
			}
		})
		if n != 1 {
			t.Errorf("%v: %d reasons", c.reason, n)
		}
	}
}

func TestWalkV1JudgesAgeAndFuture(t *testing.T) {
	lim := Limits{MinTime: 100, MaxTime: 200}
	samples := []prompb.Sample{{Timestamp: 99}, {Timestamp: 100}, {Timestamp: 200}, {Timestamp: 201}, {Timestamp: 202}}
	for name, ts := range map[string]prompb.TimeSeries{
		"tidy":   series(samples, "__name__", "up", "a", "b"),
		"untidy": series(samples, "a", "b", "__name__", "up"),
	} {
		var b Batch
		if err := WalkV1(body(t, ts), lim, &b); err != nil {
			t.Fatal(err)
		}
		got := map[Reason]int{}
		b.Refused.Each(func(r Reason, n int, _ string) { got[r] = n })
		if read := readAll(t, &b); len(read) != 2 || got[TooOld] != 1 || got[TooNew] != 2 || b.Refused.Total() != 3 {
			t.Errorf("%s: kept %v, refused %v", name, read, got)
		}
	}
}

func TestWalkV1RefusesRequestsBeyondTheirLimits(t *testing.T) {
	s := series([]prompb.Sample{{Timestamp: 1}, {Timestamp: 2}}, "__name__", "up")
	untidy := series([]prompb.Sample{{Timestamp: 1}, {Timestamp: 2}}, "b", "c", "__name__", "up")
	for name, lim := range map[string]Limits{
		"series":  {Series: 1},
		"samples": {Samples: 3},
		"bytes":   {Bytes: 80},
	} {
		for _, ts := range []prompb.TimeSeries{s, untidy} {
			var b Batch
			var large *TooLarge
			if err := WalkV1(body(t, ts, ts), lim, &b); !errors.As(err, &large) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestWalkV1SplitsSeriesWithVeryManySamples(t *testing.T) {
	var samples []prompb.Sample
	for i := range 2*FrameSamples + 10 {
		samples = append(samples, prompb.Sample{Timestamp: int64(i + 1), Value: float64(i)})
	}
	ts := series(samples, "__name__", "up")
	var b Batch
	if err := WalkV1(body(t, ts), anyTime, &b); err != nil {
		t.Fatal(err)
	}
	want, _ := oracle(ts)
	if got := readAll(t, &b); !slices.Equal(got, want) || len(b.Series) != 3 {
		t.Fatalf("%d samples in %d frames", len(got), len(b.Series))
	}
}

func TestWalkV1BoundsWhatASmallBodyCanCost(t *testing.T) {
	samples := append([]byte{0x0a, 0x80, 0x80, 0x40}, make([]byte, 1<<20)...)
	for i := 4; i < len(samples); i += 2 {
		samples[i] = 0x12
	}
	var b Batch
	var large *TooLarge
	if err := WalkV1(samples, Limits{Bytes: 2 << 20}, &b); !errors.As(err, &large) {
		t.Errorf("half a million empty samples: %v", err)
	}
	labels := append([]byte{0x0a, 0x80, 0x80, 0x40}, make([]byte, 1<<20)...)
	for i := 4; i < len(labels); i += 2 {
		labels[i] = 0x0a
	}
	b = Batch{}
	if err := WalkV1(labels, Limits{}, &b); err != nil || cap(b.labels) > 2*maxLabels {
		t.Errorf("half a million empty labels: %v, room for %d", err, cap(b.labels))
	}
	b.Reset()
	if cap(b.labels) != 0 {
		t.Errorf("a reset batch keeps %d labels", cap(b.labels))
	}
}

func TestWalkV1CountsWhatItLeavesOut(t *testing.T) {
	req := &prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{{
			Labels:    []prompb.Label{{Name: "__name__", Value: "up"}},
			Samples:   one(1, 1),
			Exemplars: []prompb.Exemplar{{Value: 1}, {Value: 2}},
		}},
		Metadata: []prompb.MetricMetadata{{MetricFamilyName: "up"}},
	}
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	if err := WalkV1(raw, samplesOnly, &b); err != nil {
		t.Fatal(err)
	}
	if b.IgnoredExemplars != 2 || b.IgnoredMetadata != 1 || b.Samples != 1 || b.Refused.Total() != 0 {
		t.Fatalf("%+v", b)
	}
}

func TestWalkV1SaysWhatIsNoMessage(t *testing.T) {
	whole := body(t, series(one(1_700_000_000_000, 1), "__name__", "up", "a", "b"))
	for cut := 1; cut < len(whole); cut++ {
		var b Batch
		if err := WalkV1(whole[:cut], anyTime, &b); !errors.Is(err, ErrFraming) {
			t.Errorf("cut at %d of %d: %v", cut, len(whole), err)
		}
	}
	for _, raw := range []string{"\x08\x01", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x00", "\x0c", "\x0b\x0a\x01", "\x0f"} {
		var b Batch
		if err := WalkV1([]byte(raw), anyTime, &b); !errors.Is(err, ErrFraming) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// oracle is what a series should become, told from Prometheus' own decoding.
func oracle(ts prompb.TimeSeries) (want []read, refused int) {
	var sb labels.ScratchBuilder
	seen := map[string]bool{}
	bad := false
	for _, l := range ts.Labels {
		if l.Value == "" {
			continue
		}
		bad = bad || l.Name == "" || seen[l.Name] || !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value)
		seen[l.Name] = true
		sb.Add(l.Name, l.Value)
	}
	if bad || !seen["__name__"] || len(ts.Labels) > maxLabels {
		return nil, len(ts.Samples) + len(ts.Histograms)
	}
	sb.Sort()
	ls := sb.Labels()
	for _, s := range ts.Samples {
		want = append(want, read{ls.String(), s.Timestamp, math.Float64bits(s.Value), ""})
	}
	for _, h := range ts.Histograms {
		if text, ok := oracleOf(h); ok {
			want = append(want, read{ls.String(), h.Timestamp, 0, text})
		} else {
			refused++
		}
	}
	return want, refused
}

func FuzzWalkV1(f *testing.F) {
	f.Add(body(f, series(one(1_700_000_000_000, 1.5), "__name__", "up", "job", "a"), series(one(0, 0), "z", "1", "__name__", "b")))
	f.Add(body(f, series(one(1, 1), "__name__", "up", "a", ""), series(one(-1, 1), "__name__", strings.Repeat("ü", 100))))
	f.Add([]byte("\x0a\x10\x0a\x0c\x0a\x08__name__\x12\x00\x12\x00\x1a\x02\x08\x01"))
	f.Add([]byte("\x0b\x0a\x00\x0c\x10\x80\x80\x00"))
	for _, ts := range histogramSeries() {
		f.Add(body(f, ts))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b Batch
		err := WalkV1(raw, samplesOnly, &b)
		var req prompb.WriteRequest
		if oracleErr := req.Unmarshal(raw); oracleErr != nil {
			// What is left out is not decoded: only there may more be taken.
			if err == nil && b.IgnoredMetadata == 0 && b.IgnoredExemplars == 0 {
				t.Fatalf("Prometheus refuses what we took: %v", oracleErr)
			}
			return
		}
		if err != nil && strings.Contains(err.Error(), packed) {
			return // Prometheus reads on behind the end of a packed field
		}
		if err != nil {
			t.Fatalf("Prometheus takes what we refused: %v", err)
		}
		var want []read
		refused := 0
		for _, ts := range req.Timeseries {
			w, r := oracle(ts)
			want = append(want, w...)
			refused += r
		}
		if got := readAll(t, &b); !slices.Equal(got, want) || b.Refused.Total() != refused {
			t.Fatalf("got %v, refused %d; want %v, %d", got, b.Refused.Total(), want, refused)
		}
	})
}

func TestReaderSurvivesAnything(t *testing.T) {
	var b Batch
	all := append(histogramSeries()[:3], series(one(1, 1), "__name__", "up"), series(one(2, 2), "__name__", "down"))
	if err := WalkV1(body(t, all...), anyTime, &b); err != nil {
		t.Fatal(err)
	}
	for i := range b.Frames {
		for _, x := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			raw := slices.Clone(b.Frames)
			raw[i] = x
			drain(raw)
			drain(raw[:i])
		}
	}
}

func FuzzReader(f *testing.F) {
	var b Batch
	if err := WalkV1(body(f, append(histogramSeries(), series(one(1, 1), "__name__", "up"))...), anyTime, &b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Frames)
	f.Fuzz(func(t *testing.T, raw []byte) { drain(raw) })
}

func drain(raw []byte) {
	r := NewReader(raw)
	for r.Next() {
		WellFormed(r.Labels())
		_ = Text(r.Labels())
		for _, _, ok := r.Sample(); ok; {
			_, _, ok = r.Sample()
		}
		for _, _, _, ok := r.Histogram(); ok; {
			_, _, _, ok = r.Histogram()
		}
	}
	r.Sample()
}

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"google.golang.org/protobuf/encoding/protowire"
)

// requestV2 says in 2.0 what the series say in 1.0.
func requestV2(series ...prompb.TimeSeries) *writev2.Request {
	table := writev2.NewSymbolTable()
	req := &writev2.Request{}
	for _, ts := range series {
		var out writev2.TimeSeries
		for _, l := range ts.Labels {
			out.LabelsRefs = append(out.LabelsRefs, table.Symbolize(l.Name), table.Symbolize(l.Value))
		}
		for _, s := range ts.Samples {
			out.Samples = append(out.Samples, writev2.Sample{Value: s.Value, Timestamp: s.Timestamp})
		}
		for _, h := range ts.Histograms {
			out.Histograms = append(out.Histograms, histogramV2(h))
		}
		req.Timeseries = append(req.Timeseries, out)
	}
	req.Symbols = slices.Clone(table.Symbols())
	return req
}

func marshal(t testing.TB, m interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBothFormsEndAsTheSameBytes: or a series would have two places, and two
// lives, depending on who sent it.
func TestBothFormsEndAsTheSameBytes(t *testing.T) {
	long := strings.Repeat("x", 254)
	all := []prompb.TimeSeries{
		series(one(1_700_000_000_000, 1.5), "__name__", "up", "job", "a"),
		series(one(5, math.Float64frombits(value.StaleNaN)), "__name__", "up"),
		series(one(0, 0), "__name__", "up"),
		series(one(-5, 3), "__name__", "up"),
		series([]prompb.Sample{{Timestamp: 1, Value: 2}, {Timestamp: 2, Value: 0}, {Timestamp: 3}}, "__name__", "up"),
		series(one(1, 1), "__name__", long[:127]),
		series(one(1, 1), "__name__", long[:128]),
		series(one(1, 1), "__name__", long),
		series(one(1, 1), "__name__", long+"x"),
		series(one(1, 1), "__name__", "a", "b", strings.Repeat("y", 70_000)),
		series(one(1, 1), "__name__", "a", long+"xyz", "b"),
		series(one(1, 1), "__name__", "größe", "日本", "語"),
		series(one(1, 1), "z", "1", "__name__", "up", "a", "2"),
		series(one(1, 1), "__name__", "up", "a", "", "b", "2"),
	}
	all = append(all, histogramSeries()...)
	for i := range 300 { // references of two bytes
		all = append(all, series(one(1, 1), "__name__", "m", "n", strings.Repeat("v", i+1)))
	}
	var v1, v2 Batch
	if err := WalkV1(body(t, all...), anyTime, &v1); err != nil {
		t.Fatal(err)
	}
	if err := WalkV2(marshal(t, requestV2(all...)), anyTime, &v2); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(v1.Frames, v2.Frames) || !slices.Equal(v1.Series, v2.Series) || v1.Samples != v2.Samples || v2.Refused.Total() != 0 {
		t.Fatalf("1.0 became %d series in %d bytes, 2.0 %d in %d; refused %v", len(v1.Series), len(v1.Frames), len(v2.Series), len(v2.Frames), v2.Refused)
	}
}

func TestWalkV2RefusesSeriesForTheirLabelsAndKeepsTheOthers(t *testing.T) {
	lim := anyTime
	lim.Names, lim.NameLength, lim.ValueLength = 4, 20, 30
	good := series(one(7, 7), "__name__", "good")
	huge := series(one(1, 1), "__name__", "up")
	for range 600 {
		huge.Labels = append(huge.Labels, prompb.Label{Name: "n", Value: strings.Repeat("h", 2000)})
	}
	for _, c := range []struct {
		reason Reason
		ts     prompb.TimeSeries
	}{
		{NoMetricName, series(one(1, 1), "a", "b")},
		{NoMetricName, series(one(1, 1), "__name__", "", "a", "b")},
		{NoMetricName, series(one(1, 1))},
		{EmptyLabelName, series(one(1, 1), "", "b", "__name__", "up")},
		{DuplicateLabelName, series(one(1, 1), "__name__", "up", "a", "1", "a", "1")},
		{NotUTF8, series(one(1, 1), "__name__", "up", "a", "\xff")},
		{TooManyLabels, series(one(1, 1), "__name__", "up", "a", "1", "b", "1", "c", "1", "d", "1")},
		{LabelNameTooLong, series(one(1, 1), "__name__", "up", strings.Repeat("a", 21), "1")},
		{LabelValueTooLong, series(one(1, 1), "__name__", "up", "a", strings.Repeat("a", 31))},
		{LabelsTooLong, huge},
		{TooOld, series(one(math.MinInt64, 1), "__name__", "up")},
		{BadHistogram, prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "up"}}, Histograms: []prompb.Histogram{{Schema: -5}}}},
	} {
		lim.MinTime = -1
		var b Batch
		if err := WalkV2(marshal(t, requestV2(good, c.ts, good)), lim, &b); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, &b); len(got) != 2 || got[0].labels != `{__name__="good"}` {
			t.Fatalf("%v: kept %v", c.reason, got)
		}
		n := 0
		b.Refused.Each(func(r Reason, count int, _ string) {
			if n++; r != c.reason || count != 1 {
				t.Errorf("refused %d as %q, want %q", count, r, c.reason)
			}
		})
		if n != 1 {
			t.Errorf("%v: %d reasons", c.reason, n)
		}
	}
}

func TestWalkV2CountsWhatItLeavesOut(t *testing.T) {
	req := requestV2(series(one(1, 1), "__name__", "up"), series(one(1, 1), "z", "1", "__name__", "up"))
	for i := range req.Timeseries {
		ts := &req.Timeseries[i]
		ts.Samples[0].StartTimestamp = 1_600_000_000_000
		ts.Exemplars = []writev2.Exemplar{{Value: 1}, {Value: 2}}
		ts.Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER}
	}
	var b Batch
	if err := WalkV2(marshal(t, req), samplesOnly, &b); err != nil {
		t.Fatal(err)
	}
	if b.IgnoredExemplars != 4 || b.IgnoredMetadata != 2 || b.Samples != 2 || b.Refused.Total() != 0 {
		t.Fatalf("%+v", b)
	}
}

func TestWalkV2SaysWhatIsWrongAndWhere(t *testing.T) {
	good := func(change func(*writev2.Request)) []byte {
		req := requestV2(series(one(1, 1), "__name__", "up", "a", "b"))
		change(req)
		return marshal(t, req)
	}
	v1 := body(t, series(one(1, 1), "__name__", "up"))
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"first symbol":       {good(func(r *writev2.Request) { r.Symbols[0] = "x" }), "the first symbol is not the empty string at byte 1"},
		"no symbols":         {good(func(r *writev2.Request) { r.Symbols = nil }), "symbol 1 of 0 at byte"},
		"out of range":       {good(func(r *writev2.Request) { r.Timeseries[0].LabelsRefs[3] = 5 }), "symbol 5 of 5 at byte"},
		"far out":            {good(func(r *writev2.Request) { r.Timeseries[0].LabelsRefs[0] = math.MaxUint32 }), "symbol 4294967295 of 5 at byte"},
		"half a pair":        {good(func(r *writev2.Request) { r.Timeseries[0].LabelsRefs = r.Timeseries[0].LabelsRefs[:3] }), "3 references to symbols, want pairs, at byte"},
		"1.0":                {v1, "field 1 of prometheus.WriteRequest at byte 0"},
		"cut":                {good(func(*writev2.Request) {})[:30], "cut at byte"},
		"no message":         {[]byte("hello"), "at byte"},
		"a text as a series": {[]byte("\x28\x01"), "field has another type at byte 2"},
	} {
		var b Batch
		if err := WalkV2(c.raw, anyTime, &b); !errors.Is(err, ErrFraming) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	whole := good(func(*writev2.Request) {})
	req := writev2.Request{}
	for cut := 1; cut < len(whole); cut++ {
		var b Batch
		if err := WalkV2(whole[:cut], anyTime, &b); (err == nil) != (req.Unmarshal(whole[:cut]) == nil) {
			t.Errorf("cut at %d of %d: %v", cut, len(whole), err)
		}
	}
}

// TestWalkV2BoundsWhatReferencesCanCost: a reference takes a byte and may mean
// a megabyte.
func TestWalkV2BoundsWhatReferencesCanCost(t *testing.T) {
	big := strings.Repeat("y", 500_000)
	for name, ts := range map[string]prompb.TimeSeries{
		"kept":    series(one(1, 1), "__name__", "up", "a", big),
		"too old": series(one(-1, 1), "__name__", "up", "a", big),
		"untidy":  series(one(1, 1), "a", big, "__name__", "up"),
		"refused": series(one(1, 1), "a", big),
	} {
		all := make([]prompb.TimeSeries, 1000)
		for i := range all {
			all[i] = ts
		}
		raw := marshal(t, requestV2(all...))
		asked := 0
		var b Batch
		err := WalkV2(raw, Limits{Bytes: 1 << 20, More: func(n int) (int, error) {
			if asked++; n > 10<<20 {
				return 0, &TooLarge{"bytes of series in a request", n}
			}
			return n, nil
		}}, &b)
		if large := new(TooLarge); !errors.As(err, &large) || asked != 5 || cap(b.Frames) > 40<<20 {
			t.Errorf("%s: %v after asking for room %d times, %d bytes of frames", name, err, asked, cap(b.Frames))
		}
	}
}

func TestWalkV2TakesSymbolsFromAnywhere(t *testing.T) {
	req := requestV2(series(one(1, 1), "__name__", "up", "a", "b"))
	tables, rest := &writev2.Request{Symbols: req.Symbols[:2]}, &writev2.Request{Symbols: req.Symbols[2:]}
	raw := slices.Concat(marshal(t, tables), marshal(t, &writev2.Request{Timeseries: req.Timeseries}), marshal(t, rest))
	var b Batch
	if err := WalkV2(raw, anyTime, &b); err != nil || b.Samples != 1 {
		t.Fatalf("%d samples, %v", b.Samples, err)
	}
}

// oracleV2 is what a request should become, told from Prometheus' own decoding.
func oracleV2(raw []byte, req *writev2.Request) (want []read, refused int, ok bool) {
	if len(req.Symbols) > 0 && req.Symbols[0] != "" {
		return nil, 0, false
	}
	for rest := raw; len(rest) > 0; { // the fields of 1.0 are of no request of 2.0
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			break // gogo reads tags and lengths more loosely
		}
		if number == 1 || number == 3 {
			return nil, 0, false
		}
		rest = rest[n:]
	}
	for _, ts := range req.Timeseries {
		plain := prompb.TimeSeries{}
		for _, h := range ts.Histograms {
			plain.Histograms = append(plain.Histograms, histogramV1(h))
		}
		if len(ts.LabelsRefs)%2 != 0 {
			return nil, 0, false
		}
		for i := 0; i < len(ts.LabelsRefs); i += 2 {
			n, v := ts.LabelsRefs[i], ts.LabelsRefs[i+1]
			if int(n) >= len(req.Symbols) || int(v) >= len(req.Symbols) {
				return nil, 0, false
			}
			plain.Labels = append(plain.Labels, prompb.Label{Name: req.Symbols[n], Value: req.Symbols[v]})
		}
		for _, s := range ts.Samples {
			plain.Samples = append(plain.Samples, prompb.Sample{Timestamp: s.Timestamp, Value: s.Value})
		}
		w, r := oracle(plain)
		want = append(want, w...)
		refused += r
	}
	return want, refused, true
}

// tidyFields says whether Go's own decoder finds the fields of a message.
func tidyFields(raw []byte) bool {
	for len(raw) > 0 {
		_, _, n := protowire.ConsumeField(raw)
		if n < 0 {
			return false
		}
		raw = raw[n:]
	}
	return true
}

func FuzzWalkV2(f *testing.F) {
	tidy := requestV2(series(one(1_700_000_000_000, 1.5), "__name__", "up", "job", "a"), series(one(0, 0), "z", "1", "__name__", "b"))
	tidy.Timeseries[0].Samples[0].StartTimestamp = 7
	tidy.Timeseries[0].Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{1, 2}, Value: 1}}
	tidy.Timeseries[0].Metadata = writev2.Metadata{Type: 1, HelpRef: 2}
	f.Add(marshal(f, tidy))
	f.Add(marshal(f, requestV2(series(one(1, 1), "__name__", "up", "a", ""), series(one(-1, 1), "__name__", strings.Repeat("ü", 100)))))
	f.Add([]byte("\x22\x00\x22\x08__name__\x22\x01a\x2a\x08\x08\x01\x08\x02\x12\x02\x10\x05"))
	f.Add(binary.AppendUvarint([]byte("\x22"), 1<<40))
	f.Add(marshal(f, requestV2(histogramSeries()...)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b Batch
		err := WalkV2(raw, samplesOnly, &b)
		var req writev2.Request
		if oracleErr := req.Unmarshal(raw); oracleErr != nil {
			// What is left out is not decoded: only there may more be taken.
			if err == nil && b.IgnoredMetadata == 0 && b.IgnoredExemplars == 0 {
				t.Fatalf("Prometheus refuses what we took: %v", oracleErr)
			}
			return
		}
		want, refused, ok := oracleV2(raw, &req)
		if large := new(TooLarge); errors.As(err, &large) {
			return
		}
		if err != nil && strings.Contains(err.Error(), "of prometheus.WriteRequest") && !tidyFields(raw) {
			return // nobody else reads that far
		}
		if err != nil && strings.Contains(err.Error(), packed) {
			return // Prometheus reads on behind the end of a packed field
		}
		if ok != (err == nil) {
			t.Fatalf("%v, but Prometheus' decoding says %t", err, ok)
		}
		if err != nil {
			return
		}
		if got := readAll(t, &b); !slices.Equal(got, want) || b.Refused.Total() != refused {
			t.Fatalf("got %v, refused %d; want %v, %d", got, b.Refused.Total(), want, refused)
		}
	})
}

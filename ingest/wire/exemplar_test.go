package wire

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// samplesOnly leaves exemplars and metadata out.
var samplesOnly = Limits{MinTime: anyTime.MinTime, MaxTime: anyTime.MaxTime, SamplesOnly: true}

// exemplarsIn reads them from a batch's frames: "series labels@time=bits".
func exemplarsIn(t testing.TB, b *Batch) (out []string) {
	t.Helper()
	r := NewReader(b.Frames)
	for items, i := 0, 0; r.Next(); i++ {
		if s := b.Series[i]; int(s.First) != items || int(s.Samples) != r.Samples() || string(b.Of(s)) != string(r.Frame()) {
			t.Fatalf("series %d: %+v after %d items", i, s, items)
		}
		items += r.Samples()
		n := 0
		for {
			raw, at, v, ok := r.Exemplar()
			if !ok {
				break
			}
			n++
			out = append(out, fmt.Sprintf("%s %s@%d=%x", unmarshal(t, r.Labels()), unmarshal(t, raw), at, math.Float64bits(v)))
		}
		if r.Kind() == Exemplars && n != r.Samples() {
			t.Fatalf("%d exemplars of %d", n, r.Samples())
		}
	}
	if r.Err() != nil || len(out) != b.Exemplars {
		t.Fatalf("read %d of %d exemplars: %v", len(out), b.Exemplars, r.Err())
	}
	return out
}

func exemplarV1(at int64, v float64, pairs ...string) prompb.Exemplar {
	e := prompb.Exemplar{Timestamp: at, Value: v}
	for i := 0; i < len(pairs); i += 2 {
		e.Labels = append(e.Labels, prompb.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return e
}

// withExemplars are both forms of a request whose series have exemplars.
func withExemplars(t testing.TB, all ...prompb.TimeSeries) (v1, v2 []byte) {
	t.Helper()
	req := requestV2(all...)
	place := map[string]uint32{}
	ref := func(s string) uint32 {
		n, ok := place[s]
		if !ok {
			n = uint32(len(req.Symbols))
			req.Symbols, place[s] = append(req.Symbols, s), n
		}
		return n
	}
	for i, ts := range all {
		for _, e := range ts.Exemplars {
			out := writev2.Exemplar{Value: e.Value, Timestamp: e.Timestamp}
			for _, l := range e.Labels {
				out.LabelsRefs = append(out.LabelsRefs, ref(l.Name), ref(l.Value))
			}
			req.Timeseries[i].Exemplars = append(req.Timeseries[i].Exemplars, out)
		}
	}
	return body(t, all...), marshal(t, req)
}

func TestExemplarsAreLaidOutAlikeFromBothForms(t *testing.T) {
	first := series(one(5, 1), "__name__", "m", "a", "b")
	first.Exemplars = []prompb.Exemplar{
		exemplarV1(5, 1.5, "trace_id", "x"), exemplarV1(6, math.Inf(-1), "z", "1", "a", "2", "empty", ""), exemplarV1(7, 0),
	}
	alone := series(nil, "__name__", "n")
	alone.Exemplars = []prompb.Exemplar{exemplarV1(8, 2, "größe", strings.Repeat("ü", MaxExemplarLabels-5))}
	bad := series(one(5, 1), "__name__", "bad")
	bad.Exemplars = []prompb.Exemplar{
		exemplarV1(1, 1, "a", strings.Repeat("x", MaxExemplarLabels)), // one too many
		exemplarV1(2, 1, "a", "1", "a", "2"), exemplarV1(3, 1, "", "x"), exemplarV1(4, 1, "a", "\xff"),
		exemplarV1(5, 1, "a", "b"),
	}
	nameless := series(one(5, 1), "a", "b")
	nameless.Exemplars = []prompb.Exemplar{exemplarV1(1, 1, "a", "b")}
	v1, v2 := withExemplars(t, first, alone, bad, nameless)
	want := []string{
		fmt.Sprintf(`{__name__="m", a="b"} {trace_id="x"}@5=%x`, math.Float64bits(1.5)),
		fmt.Sprintf(`{__name__="m", a="b"} {a="2", z="1"}@6=%x`, math.Float64bits(math.Inf(-1))),
		`{__name__="m", a="b"} {}@7=0`,
		fmt.Sprintf(`{__name__="n"} {"größe"="%s"}@8=%x`, strings.Repeat("ü", MaxExemplarLabels-5), math.Float64bits(2)),
		fmt.Sprintf(`{__name__="bad"} {a="b"}@5=%x`, math.Float64bits(1)),
	}
	var frames [2][]byte
	for i, walk := range []func(*Batch) error{
		func(b *Batch) error { return WalkV1(v1, anyTime, b) },
		func(b *Batch) error { return WalkV2(v2, anyTime, b) },
	} {
		var b Batch
		for range 2 { // the second time with used memory
			b.Reset()
			if err := walk(&b); err != nil {
				t.Fatal(err)
			}
			if got := exemplarsIn(t, &b); !slices.Equal(got, want) {
				t.Fatalf("form %d: got\n%s\nwant\n%s", i+1, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		// The samples are judged without their exemplars.
		if b.Samples != 2 || b.Refused.Total() != 1 || b.LeftOut.Total() != 5 {
			t.Fatalf("form %d: %d samples, %d refused, %d exemplars left out", i+1, b.Samples, b.Refused.Total(), b.LeftOut.Total())
		}
		b.LeftOut.Each(func(r Reason, n int, first string) {
			if r == BadExemplar && (n != 4 || first != `{__name__="bad"}`) || r == NoMetricName && n != 1 {
				t.Errorf("form %d: %v: %d, %s", i+1, r, n, first)
			}
		})
		frames[i] = b.Frames
	}
	if string(frames[0]) != string(frames[1]) {
		t.Fatal("the two forms end as other bytes")
	}
}

func TestExemplarsOfTheWrongTimeAreLeftOut(t *testing.T) {
	ts := series(one(50, 1), "__name__", "m")
	ts.Exemplars = []prompb.Exemplar{exemplarV1(9, 1), exemplarV1(10, 1), exemplarV1(100, 1), exemplarV1(101, 1)}
	v1, v2 := withExemplars(t, ts)
	lim := Limits{MinTime: 10, MaxTime: 100}
	var a, c Batch
	if err := WalkV1(v1, lim, &a); err != nil {
		t.Fatal(err)
	}
	if err := WalkV2(v2, lim, &c); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Batch{&a, &c} {
		if b.Exemplars != 2 || b.LeftOut.Total() != 2 || b.Refused.Total() != 0 || b.Samples != 1 {
			t.Fatalf("%d exemplars, %d left out, %d samples refused", b.Exemplars, b.LeftOut.Total(), b.Refused.Total())
		}
	}
}

func TestReferencesOfExemplarsThatLeadNowhereAreNoMessage(t *testing.T) {
	for name, change := range map[string]func(*writev2.TimeSeries){
		"half a pair":    func(ts *writev2.TimeSeries) { ts.Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{1}}} },
		"out of range":   func(ts *writev2.TimeSeries) { ts.Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{1, 99}}} },
		"help":           func(ts *writev2.TimeSeries) { ts.Metadata = writev2.Metadata{Type: 1, HelpRef: 99} },
		"unit":           func(ts *writev2.TimeSeries) { ts.Metadata = writev2.Metadata{Type: 1, UnitRef: 99} },
		"unit, unsorted": func(ts *writev2.TimeSeries) { ts.Metadata.UnitRef = 99; ts.Exemplars = []writev2.Exemplar{{}} },
	} {
		req := requestV2(series(one(1, 1), "__name__", "up"))
		change(&req.Timeseries[0])
		var b Batch
		if err := WalkV2(marshal(t, req), anyTime, &b); err == nil || !strings.Contains(err.Error(), "symbol") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Many exemplars of one series take several frames, each of which fits a message.
func TestManyExemplarsAreSeveralFrames(t *testing.T) {
	ts := series(nil, "__name__", "m")
	for i := range int64(2*maxExemplarsOfFrame + 1) {
		ts.Exemplars = append(ts.Exemplars, exemplarV1(i, 1, "trace_id", strings.Repeat("x", 100)))
	}
	v1, _ := withExemplars(t, ts)
	var b Batch
	if err := WalkV1(v1, anyTime, &b); err != nil {
		t.Fatal(err)
	}
	if got := exemplarsIn(t, &b); len(got) != len(ts.Exemplars) || len(b.Series) != 3 {
		t.Fatalf("%d exemplars in %d frames", len(got), len(b.Series))
	}
}

// A label of an exemplar costs two bytes of a body, and one may have very many.
func TestEndlessExemplarsAreRefused(t *testing.T) {
	ts := series(nil, "__name__", "m")
	ts.Exemplars = []prompb.Exemplar{{Labels: make([]prompb.Label, 1<<16)}}
	for range 100_000 {
		ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{})
	}
	v1, _ := withExemplars(t, ts)
	var b Batch
	lim := anyTime
	lim.Bytes = 1 << 20
	if err := WalkV1(v1, lim, &b); err == nil {
		t.Fatal("they are taken")
	}
	if cap(b.tags) > 1<<10 {
		t.Fatalf("%d labels of an exemplar were kept", cap(b.tags))
	}
}

func FuzzExemplarsV1(f *testing.F) {
	ts := series(one(5, 1), "__name__", "m", "a", "b")
	ts.Exemplars = []prompb.Exemplar{exemplarV1(5, 1.5, "trace_id", "x"), exemplarV1(6, 1, "z", "1", "a", "2", "e", ""), exemplarV1(7, 0)}
	f.Add(body(f, ts))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b Batch
		err := WalkV1(raw, anyTime, &b)
		var req prompb.WriteRequest
		if req.Unmarshal(raw) != nil || err != nil {
			return // FuzzWalkV1 looks at that
		}
		var want []string
		for _, ts := range req.Timeseries {
			for _, e := range ts.Exemplars {
				if text, ok := oracleExemplar(ts, e); ok {
					want = append(want, text)
				}
			}
		}
		got := exemplarsIn(t, &b)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

// oracleExemplar is what a valid exemplar of Prometheus' decoding is read as.
func oracleExemplar(ts prompb.TimeSeries, e prompb.Exemplar) (string, bool) {
	owner, refused := oracle(prompb.TimeSeries{Labels: ts.Labels, Samples: one(0, 0)})
	if refused > 0 || len(owner) == 0 || len(e.Labels) > MaxExemplarLabels {
		return "", false
	}
	var sb labels.ScratchBuilder
	seen, size := map[string]bool{}, 0
	for _, l := range e.Labels {
		if l.Value == "" {
			continue
		}
		if l.Name == "" || seen[l.Name] || !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value) {
			return "", false
		}
		seen[l.Name] = true
		size += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value)
		sb.Add(l.Name, l.Value)
	}
	sb.Sort()
	return fmt.Sprintf("%s %s@%d=%x", owner[0].labels, sb.Labels(), e.Timestamp, math.Float64bits(e.Value)), size <= MaxExemplarLabels
}

// Under other labels they are judged as if they had come so.
func TestExemplarsAreCopiedWithTheirSeries(t *testing.T) {
	ts := series(one(50, 1), "__name__", "m", "team", "x")
	ts.Exemplars = []prompb.Exemplar{exemplarV1(9, 1, "a", "b"), exemplarV1(50, 2, "a", "c"), exemplarV1(101, 3)}
	v1, _ := withExemplars(t, ts)
	lim := Limits{MinTime: 10, MaxTime: 100}
	var from, to Batch
	if err := WalkV1(v1, lim.Loose(), &from); err != nil || from.Exemplars != 3 {
		t.Fatalf("%d exemplars, %v", from.Exemplars, err)
	}
	c := NewCopy(lim, &to)
	for _, s := range from.Series {
		if err := c.Take(&from, s, labels.FromStrings("__name__", "n")); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{fmt.Sprintf(`{__name__="n"} {a="c"}@50=%x`, math.Float64bits(2))}
	if got := exemplarsIn(t, &to); !slices.Equal(got, want) || to.Samples != 1 || to.LeftOut.Total() != 2 || to.Refused.Total() != 0 {
		t.Fatalf("%q, %d left out, %d samples, %d refused", got, to.LeftOut.Total(), to.Samples, to.Refused.Total())
	}
	for _, s := range from.Series { // no name: the sample is refused, the exemplars are left out
		if err := c.Take(&from, s, labels.FromStrings("a", "b")); err != nil {
			t.Fatal(err)
		}
	}
	if to.Refused.Total() != 1 || to.LeftOut.Total() != 5 {
		t.Fatalf("%d refused, %d left out", to.Refused.Total(), to.LeftOut.Total())
	}
}

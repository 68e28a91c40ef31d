package wire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
)

func bodyOf(t testing.TB, req *prompb.WriteRequest) []byte {
	t.Helper()
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// aSeries has the labels of name, value, name, value, and samples at the times.
func aSeries(times []int64, pairs ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{}
	for i := 0; i < len(pairs); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	for i, at := range times {
		ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: at, Value: float64(i)})
	}
	return ts
}

func copyAll(t testing.TB, from *Batch, lim Limits, change func(labels.Labels) labels.Labels) *Batch {
	t.Helper()
	to := &Batch{}
	c := NewCopy(lim, to)
	var sb labels.ScratchBuilder
	for _, s := range from.Series {
		if err := c.Take(from, s, change(from.Labels(s, &sb))); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestACopyIsWhatHadCome compares a copy of what was taken loosely with the batch
// that the same series make when they come by themselves, and their refusals.
func TestACopyIsWhatHadCome(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	lim := Limits{Names: 4, NameLength: 10, ValueLength: 300, MinTime: 100, MaxTime: 900}
	for range 300 {
		req := &prompb.WriteRequest{}
		for range r.IntN(6) {
			ts := aSeries(nil, "__name__", "up")
			for range r.IntN(5) {
				ts.Labels = append(ts.Labels, prompb.Label{Name: strings.Repeat("x", 1+r.IntN(11)), Value: strings.Repeat("ü", r.IntN(180))})
			}
			for range r.IntN(3) {
				at := r.Int64N(1000)
				h := prompb.Histogram{Count: &prompb.Histogram_CountInt{CountInt: 2}, Sum: float64(at), Schema: int32(r.IntN(6)), ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 2}, ZeroThreshold: 0.1, Timestamp: at}
				ts.Histograms = append(ts.Histograms, h)
				ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{Labels: []prompb.Label{{Name: "id", Value: "7"}}, Value: 1, Timestamp: at})
			}
			for range r.IntN(5) {
				ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: r.Int64N(1000), Value: r.Float64()})
			}
			req.Timeseries = append(req.Timeseries, ts)
		}
		body := bodyOf(t, req)
		var want, loose Batch
		if err := errors.Join(WalkV1(body, lim, &want), WalkV1(body, lim.Loose(), &loose)); err != nil {
			t.Fatal(err)
		}
		got := copyAll(t, &loose, lim, func(ls labels.Labels) labels.Labels { return ls })
		if !bytes.Equal(got.Frames, want.Frames) || got.Samples != want.Samples || got.Histograms != want.Histograms || got.Exemplars != want.Exemplars || len(got.Series) != len(want.Series) {
			t.Fatalf("a copy of %v has %d samples in %d bytes, want %d in %d", req, got.Samples, len(got.Frames), want.Samples, len(want.Frames))
		}
		if got.Refused.Total()+loose.Refused.Total() != want.Refused.Total() {
			t.Fatalf("%v: refused %d and %d, want %d", req, loose.Refused.Total(), got.Refused.Total(), want.Refused.Total())
		}
	}
}

func TestACopyHasOtherLabels(t *testing.T) {
	lim := Limits{MinTime: 1}
	body := bodyOf(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		aSeries([]int64{5, 6}, "__name__", "a", "team", "x"), aSeries([]int64{7}, "job", "nameless"),
	}})
	var from, want Batch
	if err := WalkV1(body, lim.Loose(), &from); err != nil || from.Samples != 3 {
		t.Fatal(err, from.Samples)
	}
	if v := from.Label(from.Series[0], "team"); string(v) != "x" {
		t.Errorf("team is %q", v)
	}
	for _, name := range []string{"", "a", "tea", "teams", "zone"} {
		if v := from.Label(from.Series[0], name); v != nil {
			t.Errorf("%s is %q", name, v)
		}
	}
	got := copyAll(t, &from, lim, func(ls labels.Labels) labels.Labels {
		return labels.NewBuilder(ls).Set("__name__", "b").Del("team").Labels()
	})
	if err := WalkV1(bodyOf(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		aSeries([]int64{5, 6}, "__name__", "b"), aSeries([]int64{7}, "__name__", "b", "job", "nameless"),
	}}), lim, &want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Frames, want.Frames) {
		t.Errorf("%s, %s", got.Text(got.Series[0]), got.Text(got.Series[1]))
	}
	nameless := copyAll(t, &from, lim, func(ls labels.Labels) labels.Labels { return labels.NewBuilder(ls).Del("__name__").Labels() })
	if nameless.Samples != 0 || nameless.Refused.Total() != 3 {
		t.Errorf("%d samples without a name", nameless.Samples)
	}
	var large *TooLarge
	c := NewCopy(Limits{Samples: 1}, &Batch{})
	if err := c.Take(&from, from.Series[0], labels.FromStrings("__name__", "c")); !errors.As(err, &large) {
		t.Errorf("two samples where one is allowed: %v", err)
	}
}

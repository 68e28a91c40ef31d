package wire

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// descriptionsIn reads them from their frames: "type family|help|unit".
func descriptionsIn(t testing.TB, d *Descriptions) (out []string) {
	t.Helper()
	r := NewReader(d.Frames)
	for i := 0; r.Next(); i++ {
		m, ok := r.Metadata()
		if s := d.Series[i]; !ok || r.Samples() != 1 || s.Hash != r.Hash() || int(s.First) != i || string(d.Frames[s.Start:s.End]) != string(r.Frame()) {
			t.Fatalf("frame %d: %v, %+v", i, ok, s)
		}
		if unmarshal(t, r.Labels()).Get("__name__") != string(m.Family) || xxhash.Sum64(r.Labels()) != r.Hash() {
			t.Fatalf("frame %d is placed by %q", i, r.Labels())
		}
		out = append(out, fmt.Sprintf("%s %s|%s|%s", m.TypeName(), m.Family, m.Help, m.Unit))
	}
	if r.Err() != nil || len(out) != len(d.Series) {
		t.Fatalf("read %d of %d: %v", len(out), len(d.Series), r.Err())
	}
	return out
}

func TestMetadataOf10IsLaidOut(t *testing.T) {
	req := &prompb.WriteRequest{Metadata: []prompb.MetricMetadata{
		{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "a_total", Help: "Über.", Unit: "bytes"},
		{Type: prompb.MetricMetadata_HISTOGRAM, MetricFamilyName: "h_sum", Help: strings.Repeat("x", 300)},
		{MetricFamilyName: "nothing"}, // it says nothing
		{MetricFamilyName: "", Help: "of none"},
		{MetricFamilyName: "long", Help: strings.Repeat("x", maxHelp+1)},
		{MetricFamilyName: "bad", Help: "\xff"},
		{Type: 99, MetricFamilyName: "type"},
		{Type: prompb.MetricMetadata_STATESET, MetricFamilyName: "s"},
	}}
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	for range 2 {
		b.Reset()
		if err := WalkV1(raw, anyTime, &b); err != nil {
			t.Fatal(err)
		}
		want := []string{"counter a_total|Über.|bytes", "histogram h_sum|" + strings.Repeat("x", 300) + "|", "stateset s||"}
		if got := descriptionsIn(t, &b.Descriptions); !slices.Equal(got, want) {
			t.Fatalf("got %q", got)
		}
		if b.Metadata != 3 || b.RefusedMetadata != 4 || len(b.Frames) != 0 {
			t.Fatalf("%d described, %d refused", b.Metadata, b.RefusedMetadata)
		}
	}
}

func TestMetadataOf20IsThatOfTheFamily(t *testing.T) {
	for _, c := range []struct {
		name string
		kind writev2.Metadata_MetricType
		want string
	}{
		{"a_total", writev2.Metadata_METRIC_TYPE_COUNTER, "counter a_total|help|unit"},
		{"h_bucket", writev2.Metadata_METRIC_TYPE_HISTOGRAM, "histogram h|help|unit"},
		{"h_sum", writev2.Metadata_METRIC_TYPE_HISTOGRAM, "histogram h|help|unit"},
		{"h", writev2.Metadata_METRIC_TYPE_HISTOGRAM, "histogram h|help|unit"},
		{"g_gcount", writev2.Metadata_METRIC_TYPE_GAUGEHISTOGRAM, "gaugehistogram g|help|unit"},
		{"s_count", writev2.Metadata_METRIC_TYPE_SUMMARY, "summary s|help|unit"},
		{"open_count", writev2.Metadata_METRIC_TYPE_GAUGE, "gauge open_count|help|unit"},
		{"_sum", writev2.Metadata_METRIC_TYPE_SUMMARY, "summary _sum|help|unit"},
	} {
		for _, untidy := range []bool{false, true} {
			ts := series(one(1, 1), "__name__", c.name, "a", "b")
			if untidy {
				slices.Reverse(ts.Labels)
			}
			req := requestV2(ts)
			n := uint32(len(req.Symbols))
			req.Symbols = append(req.Symbols, "help", "unit")
			req.Timeseries[0].Metadata = writev2.Metadata{Type: c.kind, HelpRef: n, UnitRef: n + 1}
			var b Batch
			if err := WalkV2(marshal(t, req), anyTime, &b); err != nil {
				t.Fatal(err)
			}
			if got := descriptionsIn(t, &b.Descriptions); !slices.Equal(got, []string{c.want}) || b.Samples != 1 {
				t.Fatalf("%s: got %q", c.name, got)
			}
		}
	}
}

func TestOnlyWhatIsNotKnownIsDescribed(t *testing.T) {
	req := requestV2(series(one(1, 1), "__name__", "a", "i", "1"), series(one(1, 1), "__name__", "a", "i", "2"), series(one(1, 1), "__name__", "b"))
	for i := range req.Timeseries {
		req.Timeseries[i].Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE}
	}
	known := map[string]bool{}
	lim := anyTime
	lim.Describe = func(m Metadata) bool {
		defer func() { known[string(m.Family)] = true }()
		return !known[string(m.Family)]
	}
	raw := marshal(t, req)
	var b Batch
	for _, want := range []int{2, 0} {
		b.Reset()
		if err := WalkV2(raw, lim, &b); err != nil {
			t.Fatal(err)
		}
		if b.Metadata != 3 || len(b.Descriptions.Series) != want {
			t.Fatalf("%d of %d are laid out, not %d", len(b.Descriptions.Series), b.Metadata, want)
		}
	}
}

func FuzzMetadata(f *testing.F) {
	var d Descriptions
	d.add(Metadata{1, []byte("a"), []byte("help"), []byte("unit")})
	f.Add(d.Frames)
	f.Fuzz(func(t *testing.T, raw []byte) {
		for r := NewReader(raw); r.Next(); {
			m, ok := r.Metadata()
			if ok && (len(m.Family) == 0 || m.TypeName() == "") {
				t.Fatalf("%+v", m)
			}
			for {
				if _, _, _, ok := r.Exemplar(); !ok {
					break
				}
			}
		}
	})
}

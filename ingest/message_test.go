package ingest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// inV2 says in remote write 2.0 what a request says in 1.0.
func inV2(t testing.TB, req *prompb.WriteRequest) []byte {
	t.Helper()
	table := writev2.NewSymbolTable()
	out := &writev2.Request{}
	for _, ts := range req.Timeseries {
		var v2 writev2.TimeSeries
		for _, l := range ts.Labels {
			v2.LabelsRefs = append(v2.LabelsRefs, table.Symbolize(l.Name), table.Symbolize(l.Value))
		}
		for _, s := range ts.Samples {
			v2.Samples = append(v2.Samples, writev2.Sample{Value: s.Value, Timestamp: s.Timestamp, StartTimestamp: s.Timestamp - 1000})
		}
		for _, h := range ts.Histograms {
			v2.Histograms = append(v2.Histograms, writev2.FromIntHistogram(0, h.Timestamp, h.ToIntHistogram()))
		}
		out.Timeseries = append(out.Timeseries, v2)
	}
	out.Symbols = table.Symbols()
	raw, err := out.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// asV2 are the headers of remote write 2.0.
func asV2(r *http.Request) {
	r.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
	r.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
}

func (n *node) postV2(raw []byte, change ...func(*http.Request)) *httptest.ResponseRecorder {
	return n.postRaw(snappy.Encode(nil, raw), append([]func(*http.Request){asV2}, change...)...)
}

// writtenOf are the three headers of an answer: samples, histograms, exemplars.
func writtenOf(w *httptest.ResponseRecorder) string {
	var all []string
	for _, what := range []string{"Samples", "Histograms", "Exemplars"} {
		all = append(all, strings.Join(w.Header().Values("X-Prometheus-Remote-Write-"+what+"-Written"), ","))
	}
	return strings.Join(all, " ")
}

func TestAnswersOfRemoteWrite2SayWhatIsWritten(t *testing.T) {
	n := single(t, nil, func(tn *Tenant) { tn.Limits = Limits{SeriesPerRequest: 50} })
	n.storage.judge = func(ls labels.Labels) peerpb.Outcome {
		if ls.Get("instance") == "host-0001" {
			return peerpb.Outcome_SERIES_LIMIT
		}
		return peerpb.Outcome_STORED
	}
	mixed := samplesOf(10, now(), 1)
	mixed.Timeseries[5].Samples[0].Timestamp = 5
	mixed.Timeseries[7].Samples, mixed.Timeseries[7].Histograms = nil, []prompb.Histogram{{}}
	damaged := &writev2.Request{Symbols: []string{"x"}}
	noTable, _ := damaged.Marshal()
	v1, _ := samplesOf(1, now(), 1).Marshal()
	for _, c := range []struct {
		name    string
		raw     []byte
		change  func(*http.Request)
		status  int
		text    string
		written string
	}{
		{name: "good", raw: inV2(t, samplesOf(1, now(), 1)), status: 204, written: "1 0 0"},
		{name: "empty", status: 204, written: "0 0 0"},
		{name: "parameters in another way", raw: inV2(t, samplesOf(1, now(), 1)), change: header("Content-Type", `application/x-protobuf; charset=utf-8; proto="io.prometheus.write.v2.Request"`), status: 204, written: "1 0 0"},
		{name: "no version", raw: inV2(t, samplesOf(1, now(), 1)), change: header("X-Prometheus-Remote-Write-Version", ""), status: 204, written: "1 0 0"},
		{name: "some refused", raw: inV2(t, mixed), status: 400, text: "3 of 10 samples refused for good, 7 stored", written: "7 0 0"},
		{name: "too large", raw: inV2(t, samplesOf(51, now(), 1)), status: 413, written: "0 0 0"},
		{name: "damaged table", raw: noTable, status: 400, text: "malformed body: the first symbol is not the empty string at byte 1", written: "0 0 0"},
		{name: "1.0 inside", raw: v1, status: 400, text: "field 1 of prometheus.WriteRequest at byte 0", written: "0 0 0"},
		{name: "another encoding", raw: v1, change: header("Content-Encoding", "zstd"), status: 415, text: "want snappy with remote write 2.0", written: "0 0 0"},
		{name: "another version", raw: v1, change: header("X-Prometheus-Remote-Write-Version", "3.0.0"), status: 415, text: "want 2.0.0", written: "0 0 0"},
		{name: "an answer to 1.0", raw: v1, change: func(r *http.Request) {
			r.Header.Set("Content-Type", "application/x-protobuf")
			r.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
		}, status: 204, written: "  "},
	} {
		if c.change == nil {
			c.change = func(*http.Request) {}
		}
		w := n.postV2(c.raw, c.change)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) || writtenOf(w) != c.written {
			t.Errorf("%s: %d %q, written %q; want %d %q, %q", c.name, w.Code, w.Body, writtenOf(w), c.status, c.text, c.written)
		}
	}
}

// A sender that is told to send again is told, too, what it need not.
func TestAnAnswerWithoutAQuorumSaysWhatIsWritten(t *testing.T) {
	b := newBed(t, 2, func(c *Config) { c.QuorumTimeout = 300 * time.Millisecond })
	b.show(10, tableOf(t, 64, 2, 1, 1, 5)) // each slot is of one node
	b.nodes[0].mustPost(samplesOf(40, now(), 1), http.StatusNoContent)
	want := b.nodes[0].storage.count(tenantID)
	hung := make(chan struct{})
	b.nodes[1].storage.set(func(s *promStorage) { s.gate = func(string) error { <-hung; return nil } })
	defer close(hung)
	w := b.nodes[0].postV2(inV2(t, samplesOf(40, now()+1, 2)))
	if got := writtenOf(w); w.Code != http.StatusServiceUnavailable || want == 0 || want == 40 || got != fmt.Sprintf("%d 0 0", want) {
		t.Errorf("%d %q, written %q, want %d", w.Code, w.Body, got, want)
	}
}

// TestBothFormsMeetInTheSameSeries: what one sender wrote in 1.0 another goes on
// with in 2.0.
func TestBothFormsMeetInTheSameSeries(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 2, 2, 5))
	at := now()
	b.nodes[0].mustPost(realistic(0, 500, at), http.StatusNoContent)
	if w := b.nodes[1].postV2(inV2(t, realistic(0, 500, at+1))); w.Code != http.StatusNoContent || writtenOf(w) != "500 0 0" {
		t.Fatalf("%d %s, written %q", w.Code, w.Body, writtenOf(w))
	}
	series := 0
	for _, n := range b.nodes {
		for ls, points := range n.storage.content(tenantID) {
			series++
			if len(points) != 2 {
				t.Fatalf("%s: %s has %v", n.name, ls, points)
			}
		}
	}
	if series != 1000 {
		t.Errorf("%d series on all nodes, want each of 500 on two", series)
	}
}

// A body of 2.0 may become much more than it is; that is admitted as it grows.
func TestWhatReferencesBecomeIsAdmitted(t *testing.T) {
	n := single(t, func(c *Config) { c.MaxDecodedBytes, c.InflightBytes = 8<<20, 8<<20 }, nil)
	req := samplesOf(100, now(), 1)
	for i := range req.Timeseries {
		req.Timeseries[i].Labels = append(req.Timeseries[i].Labels, prompb.Label{Name: "z", Value: strings.Repeat("long", 5000)})
	}
	if w := n.postV2(inV2(t, req)); w.Code != http.StatusNoContent || writtenOf(w) != "100 0 0" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for len(req.Timeseries) < 1000 {
		req.Timeseries = append(req.Timeseries, req.Timeseries...)
	}
	if w := n.postV2(inV2(t, req)); w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "what the body stands for") {
		t.Errorf("32 MB of labels in 8 MB: %d %s", w.Code, w.Body)
	}
	if inside, _ := n.ing.admission.decoded.held(); inside != 0 {
		t.Error("something is still admitted")
	}
}

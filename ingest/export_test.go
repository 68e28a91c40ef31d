package ingest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// gauges is a request of n data points of one gauge each at a time, in milliseconds.
func gauges(at int64, names ...string) pmetric.Metrics {
	md := pmetric.NewMetrics()
	ms := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	for _, name := range names {
		m := ms.AppendEmpty()
		m.SetName(name)
		p := m.SetEmptyGauge().DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.Timestamp(at * 1e6))
		p.SetDoubleValue(1)
	}
	return md
}

func inOTLP(t testing.TB, md pmetric.Metrics) []byte {
	t.Helper()
	b, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func inJSON(t testing.TB, md pmetric.Metrics) []byte {
	t.Helper()
	b, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (n *node) export(body []byte, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/otlp/v1/metrics", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/x-protobuf")
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	n.ing.ServeOTLP(w, r, tenantID)
	return w
}

// told is what an answer says to a client that knows OTLP.
type told struct {
	rejected int64
	text     string
}

func tell(t *testing.T, w *httptest.ResponseRecorder) told {
	t.Helper()
	switch media := w.Header().Get("Content-Type"); {
	case media == "application/x-protobuf" && w.Code == http.StatusOK:
		r := pmetricotlp.NewExportResponse()
		if err := r.UnmarshalProto(w.Body.Bytes()); err != nil {
			t.Fatal(err)
		}
		return told{r.PartialSuccess().RejectedDataPoints(), r.PartialSuccess().ErrorMessage()}
	case media == "application/x-protobuf":
		var s spb.Status
		if err := proto.Unmarshal(w.Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		return told{0, s.GetMessage()}
	case media == "application/json" && w.Code == http.StatusOK:
		r := pmetricotlp.NewExportResponse()
		if err := r.UnmarshalJSON(w.Body.Bytes()); err != nil {
			t.Fatal(err)
		}
		return told{r.PartialSuccess().RejectedDataPoints(), r.PartialSuccess().ErrorMessage()}
	case media == "application/json":
		var s struct{ Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		return told{0, s.Message}
	default:
		return told{0, w.Body.String()}
	}
}

func TestOTLPAnswersAreThoseOfItsSpecification(t *testing.T) {
	n := single(t, func(c *Config) { c.MaxRequestBytes, c.MaxDecodedBytes = 1<<16, 1<<20 }, func(tn *Tenant) {
		tn.Limits = Limits{SeriesPerRequest: 50}
	})
	good, old := gauges(now(), "a", "b"), gauges(1, "a", "b")
	mixed := gauges(now(), "a", "b", "c")
	gauges(1, "d").ResourceMetrics().MoveAndAppendTo(mixed.ResourceMetrics())
	many := gauges(now(), strings.Split(strings.Repeat("a ", 50)+"a", " ")...)
	as := func(headers ...string) []func(*http.Request) {
		var all []func(*http.Request)
		for i := 0; i < len(headers); i += 2 {
			all = append(all, header(headers[i], headers[i+1]))
		}
		return all
	}
	isJSON := as("Content-Type", "application/json; charset=utf-8")
	cases := []struct {
		name     string
		body     []byte
		change   []func(*http.Request)
		status   int
		rejected int64
		text     string
	}{
		{name: "good", body: inOTLP(t, good), status: 200},
		{name: "good JSON", body: inJSON(t, good), change: isJSON, status: 200},
		{name: "empty", status: 200},
		{name: "gzip", body: gzipOf(t, inOTLP(t, good)), change: as("Content-Encoding", "gzip"), status: 200},
		{name: "zstd", body: zstdOf(t, inOTLP(t, good)), change: as("Content-Encoding", "zstd"), status: 200},
		{name: "identity", body: inOTLP(t, good), change: as("Content-Encoding", "identity"), status: 200},
		{name: "length not told", body: inOTLP(t, good), change: []func(*http.Request){func(r *http.Request) { r.ContentLength = -1 }}, status: 200},
		{name: "some too old", body: inOTLP(t, mixed), status: 200, rejected: 1, text: "1 of 4 data points rejected; samples by reason:\nolder than out_of_order_window: 1, {__name__=\"d\"}"},
		{name: "some too old, JSON", body: inJSON(t, mixed), change: isJSON, status: 200, rejected: 1, text: "1 of 4 data points rejected"},
		{name: "all too old", body: inOTLP(t, old), status: 400, text: "2 of 2 data points rejected"},
		{name: "all too old, JSON", body: inJSON(t, old), change: isJSON, status: 400, text: "2 of 2 data points rejected"},
		{name: "series", body: inOTLP(t, many), status: 413, text: "more than 50 series"},
		{name: "too large", body: make([]byte, 1<<16+1), status: 413, text: "request body"},
		{name: "takes much memory", body: bytes.Repeat([]byte{0x0a, 0}, 10_000), status: 413, text: "what the body stands for"},
		{name: "zeros in gzip", body: gzipOf(t, make([]byte, 2<<20)), change: as("Content-Encoding", "gzip"), status: 413, text: "decoded body"},
		{name: "no message", body: []byte("hello"), status: 400, text: "malformed body"},
		{name: "no JSON", body: []byte("{"), change: isJSON, status: 400, text: "malformed body"},
		{name: "no gzip", body: []byte("hello"), change: as("Content-Encoding", "gzip"), status: 400, text: "malformed body"},
		{name: "type", body: inOTLP(t, good), change: as("Content-Type", "text/plain"), status: 415, text: "want application/x-protobuf or application/json"},
		{name: "no type", body: inOTLP(t, good), change: as("Content-Type", ""), status: 415, text: "content type"},
		{name: "encoding", body: inOTLP(t, good), change: as("Content-Encoding", "snappy"), status: 415, text: "want gzip, zstd or none"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := n.export(c.body, c.change...)
			got := tell(t, w)
			if w.Code != c.status || got.rejected != c.rejected || !strings.Contains(got.text, c.text) || (got.text == "") != (c.text == "") {
				t.Errorf("%d %+v, want %d %d %q", w.Code, got, c.status, c.rejected, c.text)
			}
		})
	}
	if w := n.export(inJSON(t, good), isJSON...); w.Body.String() != "{}" {
		t.Errorf("%q: the field of a partial success is to be left out where there is none", w.Body)
	}
	if got := n.storage.content(tenantID); len(got) != 3 {
		t.Errorf("%d series are stored: %v", len(got), got)
	}
}

// What replicas refuse is counted by data points as well.
func TestDataPointsThatReplicasRefuseAreCounted(t *testing.T) {
	n := single(t, nil, nil)
	n.storage.judge = func(ls labels.Labels) peerpb.Outcome {
		if le := ls.Get("le"); le == "1" || le == "+Inf" {
			return peerpb.Outcome_SERIES_LIMIT
		}
		return peerpb.Outcome_STORED
	}
	md := gauges(now(), "a")
	h := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().AppendEmpty()
	h.SetName("h")
	h.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := h.Histogram().DataPoints().AppendEmpty()
	p.SetTimestamp(pcommon.Timestamp(now() * 1e6))
	p.ExplicitBounds().FromRaw([]float64{1})
	p.BucketCounts().FromRaw([]uint64{1, 2})
	w := n.export(inOTLP(t, md))
	if got := tell(t, w); w.Code != 200 || got.rejected != 1 || !strings.Contains(got.text, "active_series is reached: 2, {") {
		t.Errorf("%d %+v", w.Code, got)
	}
}

// What may pass is to be sent again, says the answer: the whole of it.
func TestOTLPSendersAreAskedToSendAgain(t *testing.T) {
	b := newBed(t, 2, nil)
	n := b.nodes[0]
	if w := n.export(inOTLP(t, gauges(now(), "a"))); w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(tell(t, w).text, "not ready") {
		t.Errorf("without a view: %d %v", w.Code, tell(t, w))
	}
	b.show(10, tableOf(t, 64, 2, 2, 2, 5))
	b.nodes[1].storage.judge = func(labels.Labels) peerpb.Outcome { return peerpb.Outcome_FAILED }
	if w := n.export(inOTLP(t, gauges(now(), "a"))); w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(tell(t, w).text, "send again") {
		t.Errorf("without a quorum: %d %v", w.Code, tell(t, w))
	}
}

// A sender of OTLP does not say that it sends something again: what it sent
// before is read back, and not kept twice.
func TestOTLPIsTakenForARepeat(t *testing.T) {
	n := single(t, nil, nil)
	for range 3 {
		if w := n.export(inOTLP(t, gauges(now(), "a"))); w.Code != 200 {
			t.Fatalf("%d %v", w.Code, tell(t, w))
		}
	}
	n.storage.set(func(s *promStorage) {
		if s.shares != 3 || s.repeats != 3 {
			t.Errorf("%d of %d shares are repeats", s.repeats, s.shares)
		}
	})
}

func TestOTLPWarningsAreCounted(t *testing.T) {
	n := single(t, nil, nil)
	reg := prometheus.NewRegistry()
	reg.MustRegister(n.ing.metrics.otlpWarnings)
	md := gauges(now(), "a")
	attributes := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints().At(0).Attributes()
	attributes.PutStr("a.b", "1")
	attributes.PutStr("a-b", "2")
	if w := n.export(inOTLP(t, md)); w.Code != 200 || tell(t, w) != (told{}) {
		t.Errorf("%d %+v", w.Code, tell(t, w))
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP muster_ingest_otlp_warnings_total What was stored otherwise than an OTLP sender may think, by category.
# TYPE muster_ingest_otlp_warnings_total counter
muster_ingest_otlp_warnings_total{category="label_name_collision"} 1
`)); err != nil {
		t.Error(err)
	}
}

package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/proto/peerpb"

	"github.com/prometheus/prometheus/model/labels"
)

// single is one node that holds every slot alone.
func single(t testing.TB, change func(*Config), tenant func(*Tenant)) *node {
	t.Helper()
	b := newBed(t, 1, change)
	tn := Tenant{Incarnation: 1, Ring: 1, Routed: 1, OutOfOrderWindow: time.Hour, FutureWindow: 10 * time.Minute}
	if tenant != nil {
		tenant(&tn)
	}
	b.nodes[0].ing.SetView(b.view(b.nodes[0], 10, tableOf(t, 64, 1, 1, 1, 5), map[string]Tenant{tenantID: tn}))
	return b.nodes[0]
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		if value == "" {
			r.Header.Del(name)
		} else {
			r.Header.Set(name, value)
		}
	}
}

func TestAnswersFollowTheContract(t *testing.T) {
	n := single(t, func(c *Config) { c.MaxRequestBytes, c.MaxDecodedBytes = 1<<20, 4<<20 }, func(tn *Tenant) {
		tn.Limits = Limits{SeriesPerRequest: 50, SamplesPerRequest: 60, LabelValueLength: 100}
	})
	good := encode(t, samplesOf(10, now(), 1))
	raw, _ := samplesOf(10, now(), 1).Marshal()
	many := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: []prompb.Label{{Name: "__name__", Value: "up"}}}}}
	for i := range 61 {
		many.Timeseries[0].Samples = append(many.Timeseries[0].Samples, prompb.Sample{Timestamp: now() + int64(i)})
	}
	metadata, _ := (&prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{MetricFamilyName: "up"}}}).Marshal()
	histogram := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels: []prompb.Label{{Name: "__name__", Value: "up"}}, Histograms: []prompb.Histogram{{Timestamp: now()}},
	}}}
	badHistogram := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels: []prompb.Label{{Name: "__name__", Value: "up"}}, Histograms: []prompb.Histogram{{Timestamp: now(), Schema: 99}, {Timestamp: now()}},
	}}}
	cases := []struct {
		name   string
		body   []byte
		change []func(*http.Request)
		status int
		text   string
	}{
		{name: "good", body: good, status: 204},
		{name: "empty", body: snappy.Encode(nil, nil), status: 204},
		{name: "metadata alone", body: snappy.Encode(nil, metadata), status: 204},
		{name: "no content type", body: good, change: []func(*http.Request){header("Content-Type", "")}, status: 204},
		{name: "message named", body: good, change: []func(*http.Request){header("Content-Type", "application/x-protobuf;proto=prometheus.WriteRequest")}, status: 204},
		{name: "no encoding, snappy", body: good, change: []func(*http.Request){header("Content-Encoding", "")}, status: 204},
		{name: "no encoding, plain", body: raw, change: []func(*http.Request){header("Content-Encoding", "")}, status: 204},
		{name: "identity", body: raw, change: []func(*http.Request){header("Content-Encoding", "identity")}, status: 204},
		{name: "gzip", body: gzipOf(t, raw), change: []func(*http.Request){header("Content-Encoding", "gzip")}, status: 204},
		{name: "zstd", body: zstdOf(t, raw), change: []func(*http.Request){header("Content-Encoding", "zstd")}, status: 204},
		{name: "in capitals, with spaces", body: zstdOf(t, raw), change: []func(*http.Request){header("Content-Encoding", " ZStd ")}, status: 204},
		{name: "length not told", body: good, change: []func(*http.Request){func(r *http.Request) { r.ContentLength = -1 }}, status: 204},
		{name: "series", body: encode(t, samplesOf(51, now(), 1)), status: 413, text: "more than 50 series"},
		{name: "samples", body: encode(t, many), status: 413, text: "more than 60 samples"},
		{name: "body", body: make([]byte, 1<<20+1), status: 413, text: "request body"},
		{name: "body of unknown length", body: make([]byte, 1<<20+1), change: []func(*http.Request){func(r *http.Request) { r.ContentLength = -1 }}, status: 413, text: "request body"},
		{name: "size before type", body: make([]byte, 1<<20+1), change: []func(*http.Request){header("Content-Type", "text/plain")}, status: 413},
		{name: "claims 100 MB", body: []byte{0x80, 0x80, 0x80, 0x30, 1, 2}, status: 413, text: "decoded body"},
		{name: "zeros in gzip", body: gzipOf(t, make([]byte, 5<<20)), change: []func(*http.Request){header("Content-Encoding", "gzip")}, status: 413},
		{name: "zeros in zstd", body: zstdOf(t, make([]byte, 5<<20)), change: []func(*http.Request){header("Content-Encoding", "zstd")}, status: 413},
		{name: "type", body: good, change: []func(*http.Request){header("Content-Type", "text/plain")}, status: 415, text: "content type"},
		{name: "2.0, says the type; 1.0, says the version", body: good, change: []func(*http.Request){header("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")}, status: 415, text: "want 2.0.0"},
		{name: "message", body: good, change: []func(*http.Request){header("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v3.Request")}, status: 415, text: "want prometheus.WriteRequest or io.prometheus.write.v2.Request"},
		{name: "encoding", body: good, change: []func(*http.Request){header("Content-Encoding", "br")}, status: 415, text: "content encoding \"br\": want snappy, zstd, gzip or identity"},
		{name: "two encodings", body: good, change: []func(*http.Request){func(r *http.Request) { r.Header.Add("Content-Encoding", "gzip") }}, status: 415, text: "snappy, gzip"},
		{name: "version", body: good, change: []func(*http.Request){header("X-Prometheus-Remote-Write-Version", "2.0.0")}, status: 415, text: "version"},
		{name: "type before framing", body: []byte("x"), change: []func(*http.Request){header("Content-Type", "text/plain")}, status: 415},
		{name: "not snappy", body: []byte("hello"), status: 400, text: "malformed body"},
		{name: "not gzip", body: []byte("hello"), change: []func(*http.Request){header("Content-Encoding", "gzip")}, status: 400},
		{name: "not zstd", body: []byte("hello"), change: []func(*http.Request){header("Content-Encoding", "zstd")}, status: 400},
		{name: "not protobuf", body: snappy.Encode(nil, []byte("hello")), status: 400, text: "malformed body"},
		{name: "too old", body: encode(t, samplesOf(1, now()-2*time.Hour.Milliseconds(), 1)), status: 400, text: "older than out_of_order_window: 1, {__name__=\"requests_total\""},
		{name: "too new", body: encode(t, samplesOf(1, now()+time.Hour.Milliseconds(), 1)), status: 400, text: "further ahead than future_window: 1, "},
		{name: "histogram", body: encode(t, histogram), status: 204},
		{name: "bad histogram", body: encode(t, badHistogram), status: 400, text: "1 of 2 samples refused for good, 1 stored\nhistogram is not valid: 1, {__name__=\"up\"}: histogram has an invalid schema"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := n.postRaw(c.body, c.change...)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, c.status, c.text)
			}
		})
	}
	if n.storage.count(tenantID) == 0 {
		t.Error("nothing is stored")
	}
}

func gzipOf(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdOf(t testing.TB, raw []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(raw, nil)
}

// A body that does not say how it is compressed becomes no more bytes than one
// that does.
func TestABodyOfUnknownEncodingIsBoundedToo(t *testing.T) {
	n := single(t, func(c *Config) { c.MaxDecodedBytes = 1 << 10 }, nil)
	body := encode(t, samplesOf(100, now(), 1))
	for want, change := range map[int]func(*http.Request){
		http.StatusRequestEntityTooLarge: header("Content-Encoding", "snappy"),
		http.StatusBadRequest:            header("Content-Encoding", ""), // and so it is not taken for snappy
	} {
		if w := n.postRaw(body, change); w.Code != want {
			t.Errorf("%d %q, want %d", w.Code, w.Body, want)
		}
	}
	if got := n.storage.count(tenantID); got != 0 {
		t.Errorf("%d samples of a body that is too large are stored", got)
	}
}

func TestAgeIsJudgedByTheClustersClock(t *testing.T) {
	b := newBed(t, 1, nil)
	n := b.nodes[0]
	v := b.view(n, 10, tableOf(t, 64, 1, 1, 1, 5), nil)
	v.ClockOffset = func() time.Duration { return 24 * time.Hour } // this node's clock is a day behind
	n.ing.SetView(v)
	n.mustPost(samplesOf(1, now(), 1), http.StatusBadRequest)
	n.mustPost(samplesOf(1, now()+24*time.Hour.Milliseconds(), 1), http.StatusNoContent)
}

func TestEveryReasonIsCountedOnce(t *testing.T) {
	n := single(t, nil, nil)
	n.storage.judge = func(ls labels.Labels) peerpb.Outcome {
		if ls.Get("instance") < "host-0003" {
			return peerpb.Outcome_SERIES_LIMIT
		}
		return peerpb.Outcome_STORED
	}
	req := samplesOf(10, now(), 1)
	req.Timeseries[9].Samples[0].Timestamp = 5
	req.Timeseries[8].Labels[1].Name = ""
	body := n.mustPost(req, http.StatusBadRequest)
	for _, want := range []string{
		"5 of 10 samples refused for good, 5 stored\n", "\nempty label name: 1, ", "\nolder than out_of_order_window: 1, ",
		"\nseries would be new and active_series is reached: 3, {__name__=\"requests_total\", instance=\"host-0000\"",
	} {
		if !strings.Contains("\n"+body, want) {
			t.Errorf("%q lacks %q", body, want)
		}
	}
	if got := n.storage.count(tenantID); got != 5 {
		t.Errorf("stored %d", got)
	}
}

func TestANodeThatIsNotReadyTakesNothing(t *testing.T) {
	b := newBed(t, 1, nil)
	n := b.nodes[0]
	if w := n.post(samplesOf(1, now(), 1)); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("without a view: %d", w.Code)
	}
	v := b.view(n, 10, tableOf(t, 64, 1, 1, 1, 5), nil)
	why := "clock is 40 s off"
	v.NotReady = func() string { return why }
	n.ing.SetView(v)
	if w := n.post(samplesOf(1, now(), 1)); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "40 s off") {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
	why = ""
	if w := n.post(samplesOf(1, now(), 1)); strings.Contains(w.Body.String(), "not ready: ") {
		t.Errorf("ready again: %d %s", w.Code, w.Body)
	}
}

// TestAViewThatIsBehindRefusesNothingForGood: the door was passed by a newer
// state than the write path has seen yet. A sender that hears 403 drops what it
// has.
func TestAViewThatIsBehindRefusesNothingForGood(t *testing.T) {
	b := newBed(t, 1, nil)
	n := b.nodes[0]
	table := tableOf(t, 64, 1, 1, 1, 5)
	n.ing.SetView(b.view(n, 10, table, map[string]Tenant{}))
	if w := n.post(samplesOf(1, now(), 1)); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("an unknown tenant behind the door: %d %s, want 503", w.Code, w.Body)
	}
	time.AfterFunc(50*time.Millisecond, func() { n.ing.SetView(b.view(n, 11, table, nil)) })
	n.mustPost(samplesOf(1, now(), 1), http.StatusNoContent)
}

func TestASuspendedTenantIsRefused(t *testing.T) {
	n := single(t, nil, func(tn *Tenant) { tn.Suspended = true })
	n.mustPost(samplesOf(1, now(), 1), http.StatusForbidden)
}

// ensurer is an Ensurer by a function.
type ensurer func(ctx context.Context, tenant string) error

func (f ensurer) Ensure(ctx context.Context, tenant string) error { return f(ctx, tenant) }

func TestAnUnknownTenantIsCreatedOnce(t *testing.T) {
	b := newBed(t, 1, nil)
	n := b.nodes[0]
	table := tableOf(t, 64, 1, 1, 1, 5)
	v := b.view(n, 10, table, map[string]Tenant{})
	auto := *v
	auto.AutoCreate, auto.Revision = true, 11
	n.ing.SetView(&auto)
	var mu sync.Mutex
	asked := 0
	n.ing.ensure = ensurer(func(context.Context, string) error {
		mu.Lock()
		defer mu.Unlock()
		if asked++; asked == 1 {
			return errors.New("no leader")
		}
		if asked == 2 {
			return fmt.Errorf("deleted yesterday: %w", ErrTenantRefused)
		}
		// The view comes a moment after the commit.
		time.AfterFunc(50*time.Millisecond, func() { n.ing.SetView(b.view(n, 12, table, nil)) })
		return nil
	})
	n.mustPost(samplesOf(1, now(), 1), http.StatusServiceUnavailable)
	n.mustPost(samplesOf(1, now(), 1), http.StatusForbidden)
	var work sync.WaitGroup
	for i := range 10 {
		work.Go(func() {
			if w := n.post(samplesOf(1, now()+int64(i), 1)); w.Code != http.StatusNoContent {
				t.Errorf("answered %d: %s", w.Code, w.Body)
			}
		})
	}
	work.Wait()
	if asked != 3 {
		t.Errorf("asked %d times", asked)
	}
}

func TestRequestsWaitForRoomAndThenAreSentAway(t *testing.T) {
	n := single(t, func(c *Config) {
		c.MaxDecodedBytes, c.InflightBytes, c.AdmissionWait = 16<<10, 16<<10, 20*time.Millisecond
	}, nil)
	hung, entered := make(chan struct{}), make(chan struct{}, 1)
	n.storage.set(func(s *promStorage) {
		s.gate = func(string) error { entered <- struct{}{}; <-hung; return nil }
	})
	first := make(chan int)
	go func() { first <- n.post(samplesOf(100, now(), 1)).Code }()
	<-entered
	w := n.post(samplesOf(100, now(), 1))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "overloaded") || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	close(hung)
	if code := <-first; code != http.StatusNoContent {
		t.Errorf("the first is answered %d", code)
	}
	n.storage.set(func(s *promStorage) { s.gate = nil })
	n.mustPost(samplesOf(100, now(), 1), http.StatusNoContent)
}

func TestMetricsTellWhatBecameOfSamples(t *testing.T) {
	b := newBed(t, 1, nil)
	n := b.nodes[0]
	reg := prometheus.NewPedanticRegistry()
	ing := New(Config{}, n.storage, n, nil, nil, reg)
	defer ing.Close()
	n.ing, ing = ing, n.ing
	n.ing.SetView(b.view(n, 10, tableOf(t, 64, 1, 1, 1, 5), nil))
	req := samplesOf(10, now(), 1)
	req.Timeseries[0].Samples[0].Timestamp = 1
	n.mustPost(req, http.StatusBadRequest)
	if w := httptest.NewRecorder(); true {
		n.ing.ServeWrite(w, httptest.NewRequest(http.MethodPost, "/", nil), "made-up")
	}
	const want = `
# HELP muster_ingest_samples_acknowledged_total Samples that a quorum holds.
# TYPE muster_ingest_samples_acknowledged_total counter
muster_ingest_samples_acknowledged_total{tenant="team-a"} 9
# HELP muster_ingest_samples_refused_total Samples that can never be stored.
# TYPE muster_ingest_samples_refused_total counter
muster_ingest_samples_refused_total{reason="older than out_of_order_window",tenant="team-a"} 1
# HELP http_requests_total Writes answered.
# TYPE http_requests_total counter
http_requests_total{code="400",handler="receive",method="post",tenant="team-a"} 1
http_requests_total{code="503",handler="receive",method="post",tenant=""} 1
`
	names := []string{"muster_ingest_samples_acknowledged_total", "muster_ingest_samples_refused_total", "http_requests_total"}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	n.ing.SetView(b.view(n, 11, tableOf(t, 64, 1, 1, 1, 5), map[string]Tenant{}))
	n.ing.sweep()
	if got := testutil.CollectAndCount(n.ing.metrics.accepted); got != 0 {
		t.Errorf("a tenant that is no more has %d metrics", got)
	}
	ing.Close()
}

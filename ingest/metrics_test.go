package ingest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// TestThanosNamesMeanWhatTheySay: what the receive dashboards and alerts look at.
func TestThanosNamesMeanWhatTheySay(t *testing.T) {
	b := newBed(t, 3, func(c *Config) { c.QuorumTimeout = 2 * time.Second })
	n, reg := b.nodes[0], prometheus.NewPedanticRegistry()
	defer n.ing.Close() // the server's; the bed closes this one
	n.ing = New(n.ing.cfg, n.storage, n, nil, nil, reg)
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	held, entered := make(chan struct{}), make(chan struct{}, 3)
	for _, o := range b.nodes {
		o.storage.set(func(s *promStorage) {
			s.judge = func(ls labels.Labels) peerpb.Outcome {
				if ls.Get("instance") == "host-0002" {
					return peerpb.Outcome_SERIES_LIMIT
				}
				return peerpb.Outcome_STORED
			}
			s.gate = func(string) error { entered <- struct{}{}; <-held; return nil }
		})
	}
	answer := make(chan int)
	go func() { answer <- n.post(samplesOf(2, now(), 1)).Code }()
	for range b.nodes {
		<-entered
	}
	inflight := func(want int) string {
		return fmt.Sprintf("# HELP http_inflight_requests Writes of a tenant that are being served.\n# TYPE http_inflight_requests gauge\n"+
			"http_inflight_requests{handler=\"receive\",method=\"post\",tenant=\"team-a\"} %d\n", want)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(inflight(1)), "http_inflight_requests"); err != nil {
		t.Error(err)
	}
	close(held)
	if code := <-answer; code != http.StatusNoContent {
		t.Fatal(code)
	}
	for _, o := range b.nodes {
		o.storage.set(func(s *promStorage) { s.gate = nil })
	}
	n.mustPost(samplesOf(3, now()+1, 1), http.StatusBadRequest)
	eventually(t, "the peers have answered", func() bool {
		return testutil.ToFloat64(n.ing.metrics.forwards.WithLabelValues("success")) == 4
	})
	b.nodes[1].kill()
	b.nodes[2].kill()
	eventually(t, "the streams are down", func() bool {
		return n.post(samplesOf(1, now()+2, 1)).Code == http.StatusServiceUnavailable
	})
	const want = `
# HELP thanos_receive_head_series_limited_requests_total Writes of which some series were refused because active_series was reached.
# TYPE thanos_receive_head_series_limited_requests_total counter
thanos_receive_head_series_limited_requests_total{tenant="team-a"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(inflight(0)+want[1:]),
		"http_inflight_requests", "thanos_receive_head_series_limited_requests_total"); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]float64{
		`thanos_receive_write_samples{code="204",tenant="team-a"}`:                                                       2,
		`thanos_receive_write_samples{code="400",tenant="team-a"}`:                                                       3,
		`thanos_receive_write_timeseries{code="400",tenant="team-a"}`:                                                    3,
		`thanos_receive_replications_total{result="success"}`:                                                            2,
		`http_request_duration_seconds{code="400",handler="receive",method="post",tenant="team-a"}`:                      -1,
		`http_request_size_bytes{code="204",handler="receive",method="post",tenant="team-a"}`:                            -1,
		`http_requests_total{code="400",handler="receive",method="post",tenant="team-a"}`:                                1,
		`muster_ingest_samples_refused_total{reason="series would be new and active_series is reached",tenant="team-a"}`: 1,
	} {
		if got, ok := gathered(t, reg, name); !ok || (want >= 0 && got != want) {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	if got, _ := gathered(t, reg, `thanos_receive_replications_total{result="error"}`); got == 0 {
		t.Error("no write without a quorum is counted")
	}
	if got, _ := gathered(t, reg, `thanos_receive_forward_requests_total{result="error"}`); got == 0 {
		t.Error("no lost share is counted")
	}
}

// gathered is a metric by its name and labels, as they are written out: of a
// summary or histogram the sum.
func gathered(t *testing.T, reg prometheus.Gatherer, name string) (float64, bool) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			var pairs []string
			for _, l := range m.Label {
				pairs = append(pairs, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			if f.GetName()+"{"+strings.Join(pairs, ",")+"}" != name {
				continue
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetSummary().GetSampleSum() + m.GetHistogram().GetSampleSum(), true
		}
	}
	return 0, false
}

// TestTenantsDoNotMakeMetricsWithoutEnd: a hundred have a histogram of their own,
// and who is gone gives his place back.
func TestTenantsDoNotMakeMetricsWithoutEnd(t *testing.T) {
	m := newMetrics(nil)
	for i := range 3 * timedTenants {
		m.answered(fmt.Sprint(i), 204, account{known: true, bytes: 1, samples: 1, series: 1}, time.Second)
		m.answered(fmt.Sprint("made up ", i), 403, account{}, time.Second)
	}
	if n := testutil.CollectAndCount(m.seconds); n != timedTenants+2 {
		t.Errorf("%d histograms, want one for each of %d tenants and those of the others", n, timedTenants)
	}
	if n := testutil.CollectAndCount(m.requests); n != 3*timedTenants+1 {
		t.Errorf("%d counters", n)
	}
	m.sweep(func(tenant string) bool { return tenant == "299" })
	if n := testutil.CollectAndCount(m.seconds); n != 2 {
		t.Errorf("%d histograms after the tenants are gone", n)
	}
	m.answered("299", 204, account{known: true}, time.Second)
	if n := testutil.CollectAndCount(m.seconds); n != 3 {
		t.Errorf("%d histograms after one of those without has come again", n)
	}
}

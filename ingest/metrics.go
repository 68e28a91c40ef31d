package ingest

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
)

// metrics of the write path. Those that begin with thanos_ or http_ are what
// Thanos' dashboards and alerts for receivers look at.
type metrics struct {
	inflight  prometheus.Gauge
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	size      *prometheus.SummaryVec
	samples   *prometheus.SummaryVec
	series    *prometheus.SummaryVec
	accepted  *prometheus.CounterVec
	refused   *prometheus.CounterVec
	deferred  *prometheus.CounterVec
	limited   *prometheus.CounterVec
	served    *prometheus.GaugeVec
	relabel   *prometheus.CounterVec
	exemplars *prometheus.CounterVec
	leftOut   *prometheus.CounterVec
	metadata  *prometheus.CounterVec
	overRate  *prometheus.CounterVec

	otlpWarnings *prometheus.CounterVec

	sentShares     prometheus.Counter
	forwards       *prometheus.CounterVec
	replications   *prometheus.CounterVec
	refusedShares  *prometheus.CounterVec
	staleSeries    prometheus.Counter
	strangeSeries  prometheus.Counter
	reroutedSeries prometheus.Counter
	appealedSeries prometheus.Counter
	disownedSeries prometheus.Counter
	missedSamples  *prometheus.CounterVec
	waits          *prometheus.HistogramVec

	mu      sync.Mutex
	tenants map[string]bool // that have metrics of their own
	timed   map[string]bool // that have a histogram of their own
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "muster_ingest_inflight_requests", Help: "Writes that are being served.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "Writes answered.", ConstLabels: receiveHandler,
		}, []string{"code", "method", "tenant"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", ConstLabels: receiveHandler,
			Help:    "Time that writes took. Tenants beyond the first 100 of a node are counted together, without a name.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"code", "method", "tenant"}),
		size: prometheus.NewSummaryVec(prometheus.SummaryOpts{
			Name: "http_request_size_bytes", Help: "Bytes of writes as they came.", ConstLabels: receiveHandler,
		}, []string{"code", "method", "tenant"}),
		samples: prometheus.NewSummaryVec(prometheus.SummaryOpts{
			Name: "thanos_receive_write_samples", Help: "Samples of a write.",
		}, []string{"code", "tenant"}),
		series: prometheus.NewSummaryVec(prometheus.SummaryOpts{
			Name: "thanos_receive_write_timeseries", Help: "Series of a write.",
		}, []string{"code", "tenant"}),
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_samples_acknowledged_total", Help: "Samples that a quorum holds.",
		}, []string{"tenant"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_samples_refused_total", Help: "Samples that can never be stored.",
		}, []string{"tenant", "reason"}),
		deferred: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_samples_deferred_total", Help: "Samples whose senders were asked to send them again.",
		}, []string{"tenant"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_receive_head_series_limited_requests_total", Help: "Writes of which some series were refused because active_series was reached.",
		}, []string{"tenant"}),
		served: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "http_inflight_requests", Help: "Writes of a tenant that are being served.", ConstLabels: receiveHandler,
		}, []string{"method", "tenant"}),
		relabel: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_relabel_dropped_samples_total", Help: "Samples that their tenant's relabelling rules dropped.",
		}, []string{"tenant"}),
		overRate: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_requests_limited_total", Help: "Writes refused as a whole (429) because their tenant is over a limit of a second.",
		}, []string{"tenant", "limit"}),
		otlpWarnings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_otlp_warnings_total", Help: "What was stored otherwise than an OTLP sender may think, by category.",
		}, []string{"category"}),
		exemplars: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_exemplars_acknowledged_total", Help: "Exemplars that a quorum holds.",
		}, []string{"tenant"}),
		leftOut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_exemplars_refused_total", Help: "Exemplars that can never be stored; their samples are judged without them.",
		}, []string{"tenant", "reason"}),
		metadata: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_metadata_total", Help: "Descriptions of metric families that came with writes, by what became of them: known (a quorum has it), stored, failed (it comes again), refused (too long, or not UTF-8), ignored (a node of an older release is a member).",
		}, []string{"outcome"}),
		sentShares: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_ingest_shares_sent_total", Help: "Shares sent to peers.",
		}),
		forwards: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_receive_forward_requests_total", Help: "Shares answered by peers, by result.",
		}, []string{"result"}),
		replications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "thanos_receive_replications_total", Help: "Writes that did or did not reach their quorum.",
		}, []string{"result"}),
		refusedShares: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_shares_refused_total", Help: "Shares that this node's fence refused as a whole.",
		}, []string{"reason"}),
		staleSeries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_ingest_stale_series_total", Help: "Series that this node's fence refused in shares it took.",
		}),
		strangeSeries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_ingest_stale_unmoved_series_total", Help: "Those of the refused series whose slots had not moved since their sender looked: always 0 unless somebody routes wrongly.",
		}),
		reroutedSeries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_ingest_rerouted_series_total", Help: "Series routed again after a replica had seen a newer table.",
		}),
		appealedSeries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_ingest_appealed_series_total", Help: "Series sent again because one replica had stored them, another was at its limit of series, and the rest did not answer.",
		}),
		disownedSeries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_ingest_disowned_series_total", Help: "Series that most replicas refused as too many, and that one had stored: it was told not to count them.",
		}),
		missedSamples: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_ingest_peer_missed_samples_total", Help: "Samples that a peer missed at first, by what became of them: sent (it has them), stale (their slots have moved since), refused, dropped (it has to fetch them).",
		}, []string{"outcome"}),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "muster_ingest_waits_seconds", Help: "Time that shares waited for this node to see the revision they need, and stale series of a write for the table they are routed by again.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1},
		}, []string{"for"}),
		tenants: map[string]bool{}, timed: map[string]bool{},
	}
	if reg != nil {
		reg.MustRegister(m.inflight, m.requests, m.seconds, m.size, m.samples, m.series, m.accepted, m.refused, m.deferred, m.limited, m.served, m.relabel, m.overRate,
			m.exemplars, m.leftOut, m.metadata, m.sentShares, m.forwards, m.replications, m.refusedShares, m.staleSeries, m.strangeSeries, m.reroutedSeries, m.appealedSeries, m.disownedSeries, m.missedSamples, m.waits, m.otlpWarnings)
	}
	return m
}

var receiveHandler = prometheus.Labels{"handler": "receive"}

func (m *metrics) answered(tenant string, status int, a account, took time.Duration) {
	if !a.known {
		tenant = "" // anybody can make up names
	}
	timed := m.remember(tenant)
	code := strconv.Itoa(status)
	m.requests.WithLabelValues(code, "post", tenant).Inc()
	m.seconds.WithLabelValues(code, "post", timed).Observe(took.Seconds())
	if a.bytes > 0 {
		m.size.WithLabelValues(code, "post", tenant).Observe(float64(a.bytes))
		m.samples.WithLabelValues(code, tenant).Observe(float64(a.samples))
		m.series.WithLabelValues(code, tenant).Observe(float64(a.series))
	}
}

func (m *metrics) exceeded(err error) {
	if err == nil {
		return
	}
	var e *exceeded
	if errors.As(err, &e) {
		m.overRate.WithLabelValues(e.tenant, e.limit).Inc()
	}
}

// verdicts counts the samples of a write that was carried out.
func (m *metrics) verdicts(w *write) {
	sum := w.tally.sum()
	m.annexed(w, &sum)
	m.accepted.WithLabelValues(w.tenant).Add(float64(sum.stored))
	if sum.deferred > 0 {
		m.deferred.WithLabelValues(w.tenant).Add(float64(sum.deferred))
		m.replications.WithLabelValues("error").Inc()
	} else {
		m.replications.WithLabelValues("success").Inc()
	}
	if sum.refused[seriesLimit] > 0 {
		m.limited.WithLabelValues(w.tenant).Inc()
	}
	for class, n := range sum.refused {
		if n > 0 {
			m.refused.WithLabelValues(w.tenant, contentTexts[class]).Add(float64(n))
		}
	}
	m.refusedAtDoor(w.tenant, &w.batch.Refused)
}

func (m *metrics) refusedAtDoor(tenant string, refused *wire.Refusals) {
	refused.Each(func(r wire.Reason, n int, _ string) {
		m.refused.WithLabelValues(tenant, r.String()).Add(float64(n))
	})
}

// dropped counts the samples that a tenant's rules took away. Where it is called
// the tenant may have metrics by a request that came as another one.
func (m *metrics) dropped(tenant string, samples int) {
	m.remember(tenant)
	if samples > 0 {
		m.relabel.WithLabelValues(tenant).Add(float64(samples))
	}
}

// annexed counts exemplars and metadata of a write.
func (m *metrics) annexed(w *write, sum *summary) {
	b := w.batch
	if sum.exemplars > 0 {
		m.exemplars.WithLabelValues(w.tenant).Add(float64(sum.exemplars))
	}
	for class, n := range sum.refusedExemplars {
		if n > 0 {
			m.leftOut.WithLabelValues(w.tenant, exemplarTexts[class]).Add(float64(n))
		}
	}
	b.LeftOut.Each(func(r wire.Reason, n int, _ string) {
		m.leftOut.WithLabelValues(w.tenant, r.String()).Add(float64(n))
	})
	if b.IgnoredExemplars > 0 {
		m.leftOut.WithLabelValues(w.tenant, "a node of an older release is a member").Add(float64(b.IgnoredExemplars))
	}
}

// described counts what a request said of metric families.
func (m *metrics) described(b *wire.Batch) {
	count := func(outcome string, n int) {
		if n > 0 {
			m.metadata.WithLabelValues(outcome).Add(float64(n))
		}
	}
	count("known", b.Metadata-len(b.Descriptions.Series))
	count("refused", b.RefusedMetadata)
	count("ignored", b.IgnoredMetadata)
}

// exemplarTexts are the classes of ballot.content, for exemplars.
var exemplarTexts = [contents]string{
	"out of order", "labels of an exemplar are not valid, or longer than 128 characters", "", "its series is not held",
}

func (m *metrics) forwarded(a answer) {
	if a.err != nil || a.res.Status != peerpb.Status_DONE {
		m.forwards.WithLabelValues("error").Inc()
		return
	}
	m.forwards.WithLabelValues("success").Inc()
}

// waited notes how long something waited for this node to see a change.
func (m *metrics) waited(what string, since time.Time) {
	m.waits.WithLabelValues(what).Observe(time.Since(since).Seconds())
}

// caughtUp counts what became of a share that was sent again to a peer that had
// missed it, and that nobody waits for: a peer whose fence refuses it has not
// got it.
func (m *metrics) caughtUp(s *peerpb.Share, res *peerpb.ShareResult) {
	sent, stale, lost := int(s.Samples), 0, 0
	if res.Status == peerpb.Status_STALE {
		stale = sent
	}
	for _, o := range res.Outcomes {
		if o.Outcome == peerpb.Outcome_STALE_SERIES {
			stale++
		} else {
			lost++
		}
	}
	m.missedSamples.WithLabelValues("sent").Add(float64(max(sent-stale-lost, 0)))
	m.missedSamples.WithLabelValues("stale").Add(float64(stale))
	m.missedSamples.WithLabelValues("refused").Add(float64(lost))
}

func (m *metrics) refusedShare(reason string) { m.refusedShares.WithLabelValues(reason).Inc() }

// timedTenants is how many tenants have a histogram of their own: each takes more than
// ten times the room of a counter, and a node may have ten thousand of them.
const timedTenants = 100

// remember notes that the tenant has metrics, and says under which name its
// time is counted.
func (m *metrics) remember(tenant string) (timed string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tenants[tenant] = true
	if tenant == "" || (!m.timed[tenant] && len(m.timed) >= timedTenants) {
		return ""
	}
	m.timed[tenant] = true
	return tenant
}

// serving counts a request of a tenant until the function that it gives is called.
func (m *metrics) serving(tenant string) (end func()) {
	g := m.served.WithLabelValues("post", tenant)
	g.Inc()
	return g.Dec
}

// sweep forgets the metrics of tenants that are no more.
func (m *metrics) sweep(known func(string) bool) {
	m.mu.Lock()
	var gone []string
	for t := range m.tenants {
		if t != "" && !known(t) {
			gone = append(gone, t)
			delete(m.tenants, t)
			delete(m.timed, t)
		}
	}
	m.mu.Unlock()
	for _, t := range gone {
		of := prometheus.Labels{"tenant": t}
		for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
			m.requests, m.seconds, m.size, m.samples, m.series, m.accepted, m.refused, m.deferred, m.limited, m.served, m.relabel, m.overRate, m.exemplars, m.leftOut,
		} {
			v.DeletePartialMatch(of)
		}
	}
}

package tsdb

import "github.com/prometheus/client_golang/prometheus"

// metrics of all tenants together. One registry per tenant would cost more than
// an idle tenant does.
type metrics struct {
	reg            prometheus.Registerer
	own            []prometheus.Collector
	appended       [outcomes]prometheus.Counter
	exemplars      [outcomes]prometheus.Counter
	cuts           prometheus.Counter
	cutFailures    prometheus.Counter
	retainFailures prometheus.Counter
	syncFailures   prometheus.Counter
	openFailures   prometheus.Counter

	letGoSeries, letGoRuns, letGoFailures, letGoSeconds prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, d *DB) *metrics {
	m := &metrics{reg: reg}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		m.own = append(m.own, c)
		return c
	}
	gauge := func(name, help string, f func() float64) {
		m.own = append(m.own, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	appended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_tsdb_samples_total", Help: "Samples given to this store, by what became of them.",
	}, []string{"outcome"})
	m.own = append(m.own, appended)
	for o := range outcomes {
		m.appended[o] = appended.WithLabelValues(o.String())
	}
	exemplars := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_tsdb_exemplars_total", Help: "Exemplars given to this store, by what became of them.",
	}, []string{"outcome"})
	m.own = append(m.own, exemplars)
	for o := range outcomes {
		m.exemplars[o] = exemplars.WithLabelValues(o.String())
	}
	m.cuts = counter("muster_tsdb_cuts_total", "Windows cut from a head, those without samples included.")
	m.cutFailures = counter("muster_tsdb_cut_failures_total", "Cuts of a head into blocks that failed.")
	m.retainFailures = counter("muster_tsdb_retention_failures_total", "Deletions of old blocks that failed.")
	m.syncFailures = counter("muster_tsdb_sync_failures_total", "Rounds in which some log could not be synced.")
	m.openFailures = counter("muster_tsdb_open_failures_total", "Openings of a tenant that failed.")
	m.letGoSeries = counter("muster_tsdb_letgo_series_total", "Series compacted out of a head early because their slots moved away.")
	m.letGoRuns = counter("muster_tsdb_letgo_runs_total", "Times that a tenant's moved series were compacted out of its head.")
	m.letGoFailures = counter("muster_tsdb_letgo_failures_total", "Such times, or the search before, that failed.")
	m.letGoSeconds = counter("muster_tsdb_letgo_seconds_total", "Time that it took.")
	gauge("muster_tsdb_tenants", "Tenants that are served.", func() float64 { return float64(len(d.all())) })
	gauge("muster_tsdb_open_tenants", "Tenants that are open.", func() float64 { return float64(d.Stats().Open) })
	gauge("muster_tsdb_head_series", "Series in the heads of all tenants.", func() float64 { return float64(d.Stats().Series) })
	if reg != nil {
		reg.MustRegister(m.own...)
	}
	return m
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.own {
		m.reg.Unregister(c)
	}
}

func (m *metrics) count(out []Outcome)          { tallied(out, &m.appended) }
func (m *metrics) countExemplars(out []Outcome) { tallied(out, &m.exemplars) }

func tallied(out []Outcome, to *[outcomes]prometheus.Counter) {
	var n [outcomes]int
	for _, o := range out {
		if o < outcomes {
			n[o]++
		}
	}
	for o, n := range n {
		if n > 0 {
			to[o].Add(float64(n))
		}
	}
}

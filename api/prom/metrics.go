package prom

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	seconds    *prometheus.HistogramVec
	incomplete prometheus.Counter
	errors     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "muster_query_duration_seconds",
			Help:    "Time of a request to the query API.",
			Buckets: []float64{.005, .02, .1, .5, 2, 10, 60},
		}, []string{"endpoint"}),
		incomplete: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_query_incomplete_total",
			Help: "Queries whose answer was not complete.",
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_query_errors_total",
			Help: "Requests to the query API that were answered with an error, by its type.",
		}, []string{"endpoint", "type"}),
	}
	if reg != nil {
		reg.MustRegister(m.seconds, m.incomplete, m.errors)
	}
	return m
}

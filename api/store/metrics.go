package store

import "github.com/prometheus/client_golang/prometheus"

// metrics bear Thanos' names: its dashboards ask for them.
type metrics struct {
	series  prometheus.Histogram
	chunks  prometheus.Histogram
	pending prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		series: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "thanos_store_server_series_requested",
			Help:    "Series sent per Series call.",
			Buckets: prometheus.ExponentialBuckets(1, 10, 7),
		}),
		chunks: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "thanos_store_server_chunks_requested",
			Help:    "Chunks sent per Series call.",
			Buckets: prometheus.ExponentialBuckets(1, 10, 9),
		}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "thanos_store_server_pending_series_requests",
			Help: "Series calls that wait for a place.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.series, m.chunks, m.pending)
	}
	return m
}

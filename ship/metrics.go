package ship

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of shipping. Those named thanos_ mean what Thanos' shipper means.
type metrics struct {
	syncs, syncFailures, uploads, failures, corrupted *prometheus.CounterVec // thanos_shipper_…, by tenant

	bytes, found prometheus.Counter
	skipped      *prometheus.CounterVec
	pending      prometheus.Gauge
	ledger       prometheus.GaugeFunc
	lastSync     prometheus.Gauge
	duration     prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, l *Ledger) *metrics {
	f := promauto.With(reg)
	byTenant := func(name, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "thanos_shipper_" + name, Help: help}, []string{"tenant"})
	}
	m := &metrics{
		syncs:        byTenant("dir_syncs_total", "Scans of a tenant's blocks."),
		syncFailures: byTenant("dir_sync_failures_total", "Scans of a tenant's blocks in which something failed."),
		uploads:      byTenant("uploads_total", "Blocks uploaded."),
		failures:     byTenant("upload_failures_total", "Blocks that could not be uploaded or verified; they are tried again."),
		corrupted:    byTenant("corrupted_blocks_total", "Block directories whose meta.json could not be read, counted at each scan."),
		bytes:        f.NewCounter(prometheus.CounterOpts{Name: "muster_ship_upload_bytes_total", Help: "Bytes of the blocks uploaded."}),
		found:        f.NewCounter(prometheus.CounterOpts{Name: "muster_ship_found_total", Help: "Blocks that the bucket already had: verified and recorded, not uploaded."}),
		skipped:      f.NewCounterVec(prometheus.CounterOpts{Name: "muster_ship_skipped_total", Help: "Blocks that are not shipped, counted at each scan."}, []string{"reason"}),
		pending:      f.NewGauge(prometheus.GaugeOpts{Name: "muster_ship_pending_blocks", Help: "Finished blocks that were not yet safe in the bucket after the last scan."}),
		lastSync:     f.NewGauge(prometheus.GaugeOpts{Name: "muster_ship_last_success_timestamp_seconds", Help: "When the last scan without a failure ended."}),
		duration:     f.NewHistogram(prometheus.HistogramOpts{Name: "muster_ship_sync_duration_seconds", Help: "How long a scan with its uploads took.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 9)}),
	}
	if l != nil {
		m.ledger = f.NewGaugeFunc(prometheus.GaugeOpts{Name: "muster_ship_ledger_blocks", Help: "Blocks that the ledger knows to be safe."},
			func() float64 { return float64(l.Len()) })
	}
	return m
}

// forget drops the series of a tenant that is gone.
func (m *metrics) forget(tenant string) {
	for _, c := range []*prometheus.CounterVec{m.syncs, m.syncFailures, m.uploads, m.failures, m.corrupted} {
		c.DeleteLabelValues(tenant)
	}
}

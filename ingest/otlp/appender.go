package otlp

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/muster-metrics/muster/ingest/wire"
)

// appender is what Prometheus' converter appends to: it lays out each sample and
// keeps nothing of it. Samples that cannot be stored are counted and no error,
// for at one the converter would give up on the rest of the metric. An error is
// the end of the request, and is given again to whatever comes after it.
type appender struct {
	layout *wire.Layout
	batch  *wire.Batch
	points *Points
	family string // of the last sample
	err    error
}

// Append lays out one sample. The start timestamp is left out: the TSDB's chunks
// have no room for it.
func (a *appender) Append(_ storage.SeriesRef, ls labels.Labels, _, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AOptions) (storage.SeriesRef, error) {
	if a.err != nil {
		return 0, a.err
	}
	native := h != nil || fh != nil
	point := a.points.point(ls, native, &o)
	refused := a.batch.Refused.Total()
	if native {
		a.err = a.layout.Histogram(ls, t, h, fh)
	} else {
		a.err = a.layout.Float(ls, t, v)
	}
	switch {
	case a.err != nil:
		return 0, a.err
	case a.batch.Refused.Total() > refused:
		a.points.reject(point)
		return 0, nil
	}
	a.points.of = append(a.points.of, point)
	a.err = a.beside(ls, t, &o)
	return 0, a.err
}

// beside lays out what comes with a sample that can be stored. An exemplar that
// cannot be is no reason to reject its data point.
func (a *appender) beside(ls labels.Labels, t int64, o *storage.AOptions) error {
	if len(o.Exemplars) > 0 {
		laid := a.batch.Exemplars
		if err := a.layout.Exemplars(ls, t, o.Exemplars); err != nil {
			return err
		}
		for range a.batch.Exemplars - laid {
			a.points.of = append(a.points.of, none)
		}
	}
	if o.MetricFamilyName == a.family {
		return nil
	}
	a.family = o.MetricFamilyName
	return a.layout.Describe(a.family, string(o.Metadata.Type), o.Metadata.Help, o.Metadata.Unit)
}

// Commit does nothing: what is laid out is on its way.
func (*appender) Commit() error { return nil }

// Rollback does nothing: the batch of a request that fails is thrown away.
func (*appender) Rollback() error { return nil }

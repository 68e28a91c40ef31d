package otlp

import (
	"context"
	"fmt"
	"sync"

	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/muster-metrics/muster/ingest/wire"
)

// settings are Prometheus' defaults, written down: another release of it must
// not rename anybody's series.
var settings = prometheusremotewrite.Settings{
	AddMetricSuffixes:                    true,
	LabelNameUnderscoreSanitization:      true,
	LabelNamePreserveMultipleUnderscores: true,
}

var converters = sync.Pool{New: func() any { return prometheusremotewrite.NewPrometheusConverter(nil) }}

// Lay lays out the data points of a body, decompressed, into b, which must be
// empty. It fails as a whole with wire.ErrFraming or wire.TooLarge, or with the
// context's error, and b is then of no use; what is wrong with single data points
// is told by b.Refused and by the Points. warnings count what the converter
// stored otherwise than the sender may think, by category.
func Lay(ctx context.Context, body []byte, isJSON bool, lim wire.Limits, b *wire.Batch) (_ *Points, warnings map[string]int, _ error) {
	md, err := decode(body, isJSON)
	if err != nil {
		return nil, nil, err
	}
	p := &Points{Total: md.DataPointCount()}
	a := &appender{layout: wire.NewLayout(lim, b), batch: b, points: p}
	if err := newSifter(lim, a.layout, b, p).sift(md); err != nil {
		return nil, nil, err
	}
	c := converters.Get().(*prometheusremotewrite.PrometheusConverter)
	c.Reset(a)
	defer func() {
		c.Reset(nil)
		converters.Put(c)
	}()
	notes, err := c.FromMetrics(ctx, md, settings)
	switch {
	case a.err != nil:
		return nil, nil, a.err
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case err != nil: // the sifter does not know it
		return nil, nil, fmt.Errorf("%w: %.500s", wire.ErrFraming, err.Error())
	}
	for category, n := range prometheusremotewrite.CountWarningsByCategory(notes) {
		if warnings == nil {
			warnings = map[string]int{}
		}
		warnings[string(category)] = n
	}
	return p, warnings, nil
}

// decode reads a body that has been measured.
func decode(body []byte, isJSON bool) (pmetric.Metrics, error) {
	req := pmetricotlp.NewExportRequest()
	read := req.UnmarshalProto
	if isJSON {
		read = req.UnmarshalJSON
	}
	if err := read(body); err != nil {
		return pmetric.Metrics{}, fmt.Errorf("%w: %w", wire.ErrFraming, err)
	}
	return req.Metrics(), nil
}

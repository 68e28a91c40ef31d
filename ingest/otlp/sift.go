package otlp

import (
	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/muster-metrics/muster/ingest/wire"
)

// maxAttributes is the most attributes that are looked at in one set. The
// converter joins the values of those that become one label, so that many of
// them cost more than their bytes.
const maxAttributes = 512

// sifter takes out of a request what the converter would give up on, and counts
// it as refused. Times are judged here too: between the oldest and the newest of
// a resource the converter makes a sample of target_info every few minutes, and
// one data point without a time would make it millions.
type sifter struct {
	lim    wire.Limits
	layout *wire.Layout
	batch  *wire.Batch
	points *Points
	names  otlptranslator.MetricNamer
	labels otlptranslator.LabelNamer
	err    error // a limit of the request
}

func newSifter(lim wire.Limits, l *wire.Layout, b *wire.Batch, p *Points) *sifter {
	return &sifter{
		lim: lim, layout: l, batch: b, points: p,
		names: otlptranslator.MetricNamer{WithMetricSuffixes: settings.AddMetricSuffixes},
		labels: otlptranslator.LabelNamer{
			UnderscoreLabelSanitization: settings.LabelNameUnderscoreSanitization, //nolint:staticcheck // the converter has it so
			PreserveMultipleUnderscores: settings.LabelNamePreserveMultipleUnderscores,
		},
	}
}

// sift changes md. Its error means that the request goes beyond a limit.
func (s *sifter) sift(md pmetric.Metrics) error {
	resources := md.ResourceMetrics()
	for i := range resources.Len() {
		s.resource(resources.At(i).Resource().Attributes())
		scopes := resources.At(i).ScopeMetrics()
		for j := range scopes.Len() {
			scopes.At(j).Metrics().RemoveIf(func(m pmetric.Metric) bool { return s.metric(m) == 0 })
		}
	}
	return s.err
}

// identifying attributes of a resource become job and instance.
var identifying = map[string]bool{"service.name": true, "service.namespace": true, "service.instance.id": true}

// resource leaves only what identifies a resource whose other attributes cannot
// be labels: it then has no target_info.
func (s *sifter) resource(attributes pcommon.Map) {
	reason, ok := s.attributes(attributes)
	if ok {
		return
	}
	s.refuse(reason, 1, targetInfo, attributes)
	attributes.RemoveIf(func(name string, _ pcommon.Value) bool { return !identifying[name] })
}

// metric gives the number of data points that are left.
func (s *sifter) metric(m pmetric.Metric) int {
	every, ok := s.whole(m)
	drop := func(p dataPoint, samples int) bool {
		reason, good := every, ok
		if good {
			reason, good = s.point(p)
		}
		if !good {
			s.refuse(reason, samples, m.Name(), p.Attributes())
			s.points.sifted++
		}
		return !good
	}
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		points := m.Gauge().DataPoints()
		points.RemoveIf(func(p pmetric.NumberDataPoint) bool {
			s.batch.IgnoredExemplars += p.Exemplars().Len() // Prometheus has them of other kinds only
			return drop(p, 1)
		})
		return points.Len()
	case pmetric.MetricTypeSum:
		points := m.Sum().DataPoints()
		points.RemoveIf(func(p pmetric.NumberDataPoint) bool {
			s.exemplars(p.Exemplars())
			return drop(p, 1)
		})
		return points.Len()
	case pmetric.MetricTypeHistogram:
		points := m.Histogram().DataPoints()
		points.RemoveIf(func(p pmetric.HistogramDataPoint) bool {
			s.exemplars(p.Exemplars())
			samples := 2 + min(p.ExplicitBounds().Len(), p.BucketCounts().Len())
			if p.HasSum() {
				samples++
			}
			return drop(p, samples)
		})
		return points.Len()
	case pmetric.MetricTypeExponentialHistogram:
		points := m.ExponentialHistogram().DataPoints()
		points.RemoveIf(func(p pmetric.ExponentialHistogramDataPoint) bool {
			s.exemplars(p.Exemplars())
			return drop(p, 1)
		})
		return points.Len()
	case pmetric.MetricTypeSummary:
		points := m.Summary().DataPoints()
		points.RemoveIf(func(p pmetric.SummaryDataPoint) bool { return drop(p, 2+p.QuantileValues().Len()) })
		return points.Len()
	default: // no data points that anybody knows of
		return 0
	}
}

// exemplars takes out those without a value, at which the converter would give up.
func (s *sifter) exemplars(list pmetric.ExemplarSlice) {
	list.RemoveIf(func(e pmetric.Exemplar) bool {
		bad := e.ValueType() == pmetric.ExemplarValueTypeEmpty
		if bad {
			s.batch.IgnoredExemplars++
		}
		return bad
	})
}

// dataPoint is what all kinds of data points have.
type dataPoint interface {
	Attributes() pcommon.Map
	Timestamp() pcommon.Timestamp
}

// whole says what is wrong with all data points of a metric.
func (s *sifter) whole(m pmetric.Metric) (wire.Reason, bool) {
	temporality := pmetric.AggregationTemporalityCumulative
	switch m.Type() {
	case pmetric.MetricTypeSum:
		temporality = m.Sum().AggregationTemporality()
	case pmetric.MetricTypeHistogram:
		temporality = m.Histogram().AggregationTemporality()
	case pmetric.MetricTypeExponentialHistogram:
		temporality = m.ExponentialHistogram().AggregationTemporality()
	}
	if temporality != pmetric.AggregationTemporalityCumulative {
		return wire.NotCumulative, false
	}
	if !speakable(m.Name()) {
		if _, err := s.names.Build(prometheusremotewrite.TranslatorMetricFromOtelMetric(m)); err != nil {
			return wire.NoMetricName, false
		}
	}
	return 0, true
}

// point says what is wrong with one data point.
func (s *sifter) point(p dataPoint) (wire.Reason, bool) {
	switch t := int64(p.Timestamp()) / 1e6; {
	case t < s.lim.MinTime:
		return wire.TooOld, false
	case s.lim.MaxTime != 0 && t > s.lim.MaxTime:
		return wire.TooNew, false
	}
	if e, ok := p.(pmetric.ExponentialHistogramDataPoint); ok && e.Scale() < histogram.ExponentialSchemaMin {
		return wire.ScaleTooCoarse, false
	}
	return s.attributes(p.Attributes())
}

func (s *sifter) attributes(attributes pcommon.Map) (wire.Reason, bool) {
	if attributes.Len() > maxAttributes {
		return wire.TooManyLabels, false
	}
	size := 0
	for name, value := range attributes.All() {
		if size += len(name) + sizeOf(value); size > wire.MaxLabelBytes {
			return wire.LabelsTooLong, false
		}
		if speakable(name) {
			continue
		}
		if _, err := s.labels.Build(name); err != nil {
			return wire.AttributeName, false
		}
	}
	return 0, true
}

// sizeOf is the bytes of the text that a value becomes, or about as many.
func sizeOf(v pcommon.Value) int {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return len(v.Str())
	case pcommon.ValueTypeBytes:
		return 2 * v.Bytes().Len()
	case pcommon.ValueTypeMap, pcommon.ValueTypeSlice:
		return len(v.AsString())
	default:
		return 8
	}
}

// speakable says whether a name has a letter or digit that stays one: then it
// can be a metric's or a label's.
func speakable(name string) bool {
	for i := range len(name) {
		if c := name[i] | 0x20; c >= 'a' && c <= 'z' || c >= '0' && c <= '9' && name[i] == c {
			return true
		}
	}
	return false
}

func (s *sifter) refuse(reason wire.Reason, samples int, name string, attributes pcommon.Map) {
	err := s.layout.Refuse(reason, samples, func() string {
		pairs := []string{"__name__", name}
		for k, v := range attributes.All() {
			if pairs = append(pairs, k, v.AsString()); len(pairs) > 20 {
				break
			}
		}
		return wire.Show(pairs...)
	})
	if s.err == nil {
		s.err = err
	}
}

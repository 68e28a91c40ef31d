package otlp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// A data point that cannot be stored costs itself alone, and is counted with all
// its samples.
func TestOneBadDataPointCostsItselfAlone(t *testing.T) {
	cumulative, delta := pmetric.AggregationTemporalityCumulative, pmetric.AggregationTemporalityDelta
	for reason, c := range map[string]struct {
		bad              func(ms pmetric.MetricSlice)
		points, refusals int
	}{
		"temporality is not cumulative": {func(ms pmetric.MetricSlice) {
			counter(ms, "bad", delta, 1, 2)
			counter(ms, "bad", pmetric.AggregationTemporalityUnspecified, 1)
		}, 3, 3},
		"older than out_of_order_window": {func(ms pmetric.MetricSlice) {
			gauge(ms, "bad", 0, 1)
			classic(ms, "bad", 2).DataPoints().At(0).SetTimestamp(stamp(at - 3_600_001))
		}, 2, 7},
		"further ahead than future_window": {func(ms pmetric.MetricSlice) {
			quantiles(ms, "bad", 2).DataPoints().At(1).SetTimestamp(stamp(at + 3_600_001))
		}, 1, 4},
		"exponential histogram has a scale below -4": {func(ms pmetric.MetricSlice) { exponentialOf(ms, "bad", -5) }, 1, 1},
		"histogram is not valid":                     {func(ms pmetric.MetricSlice) { exponentialOf(ms, "bad", 3).SetCount(2) }, 1, 1},
		"no metric name": {func(ms pmetric.MetricSlice) {
			gauge(ms, "", at, 1)
			gauge(ms, "...", at, 1)
		}, 2, 2},
		"attribute name has no letter or digit": {func(ms pmetric.MetricSlice) {
			gauge(ms, "bad", at, 1, "", "x")
			gauge(ms, "bad", at, 1, "..", "x")
			gauge(ms, "fine", at, 1, "é", "x") // becomes key_, says Prometheus
		}, 2, 2},
		"label is not UTF-8":                {func(ms pmetric.MetricSlice) { gauge(ms, "bad", at, 1, "a", "\xff") }, 1, 1},
		"labels longer than 1 MiB together": {func(ms pmetric.MetricSlice) { gauge(ms, "bad", at, 1, "a", strings.Repeat("x", 1<<20)) }, 1, 1},
		"more labels than label_names_per_series": {func(ms pmetric.MetricSlice) {
			p := gauge(ms, "bad", at, 1)
			for i := range maxAttributes + 1 {
				p.Attributes().PutInt(fmt.Sprint("a", i), 1)
			}
		}, 1, 1},
	} {
		t.Run(reason, func(t *testing.T) {
			md, ms := scopeOf("service.name", "shop", "host.arch", "arm64")
			gauge(ms, "before", at, 1)
			c.bad(ms)
			counter(ms, "after", cumulative, 1)
			l := mustLay(t, md)
			if l.reasons[reason] != c.refusals || len(l.reasons) != 1 || l.points.Rejected() != c.points {
				t.Errorf("%d data points rejected, samples %v; want %d, %d", l.points.Rejected(), l.reasons, c.points, c.refusals)
			}
			for _, name := range []string{"before", "after_bytes_total", "target_info"} {
				if !slices.ContainsFunc(l.samples, func(s string) bool { return strings.Contains(s, `__name__="`+name+`"`) }) {
					t.Errorf("%s is lost", name)
				}
			}
			if want := md.DataPointCount(); l.points.Total != want {
				t.Errorf("%d data points, sent %d", l.points.Total, want)
			}
		})
	}
}

func TestExponentialHistogramsWaitForOlderMembers(t *testing.T) {
	md, ms := scopeOf("service.name", "shop")
	gauge(ms, "a", at, 1)
	exponentialOf(ms, "size", 3)
	lim := taken
	lim.FloatsOnly = true
	l, err := lay(t, encoded(t, md, false), false, lim)
	if err != nil || len(l.samples) != 1 || l.points.Rejected() != 1 {
		t.Errorf("%q, %d rejected, %v", l.samples, l.points.Rejected(), err)
	}
}

// Between a data point without a time and one of today Prometheus would make
// millions of samples of target_info.
func TestADataPointWithoutATimeMakesNoFlood(t *testing.T) {
	md, ms := scopeOf("service.name", "shop", "host.arch", "arm64")
	gauge(ms, "a", 0, 1)
	gauge(ms, "b", at, 1)
	named(ms, "c", "").SetEmptyGauge().DataPoints().AppendEmpty().SetTimestamp(pcommon.Timestamp(1<<64 - 1))
	if l := mustLay(t, md); len(l.samples) != 2 || l.points.Rejected() != 2 {
		t.Errorf("%d samples, %d data points rejected", len(l.samples), l.points.Rejected())
	}
}

// A resource that cannot be described still has data points.
func TestABadResourceCostsItsDescriptionAlone(t *testing.T) {
	md, ms := scopeOf("service.name", "shop", "..", "x")
	gauge(ms, "a", at, 1)
	l := mustLay(t, md)
	want := []string{`{__name__="a", job="shop"} @0 3ff0000000000000`}
	if !slices.Equal(l.samples, want) || l.points.Rejected() != 0 || l.reasons["attribute name has no letter or digit"] != 1 {
		t.Errorf("%q, %d rejected, %v", l.samples, l.points.Rejected(), l.reasons)
	}
}

// What cannot be kept of exemplars costs no data point.
func TestBadExemplarsCostThemselvesAlone(t *testing.T) {
	md, ms := scopeOf("service.name", "shop")
	list := counter(ms, "io", pmetric.AggregationTemporalityCumulative, 1).DataPoints().At(0).Exemplars()
	exemplify(list)
	list.AppendEmpty().SetIntValue(1)          // of its data point's time
	list.AppendEmpty().SetTimestamp(stamp(at)) // of no value
	old, long := list.AppendEmpty(), list.AppendEmpty()
	old.SetIntValue(1)
	old.SetTimestamp(stamp(at - 3_600_001))
	long.SetIntValue(1)
	long.SetTimestamp(stamp(at))
	long.FilteredAttributes().PutStr("a", strings.Repeat("x", 200)) // the converter leaves them out
	gauge(ms, "a", at, 1).Exemplars().AppendEmpty().SetIntValue(1)  // Prometheus knows none of gauges
	l := mustLay(t, md)
	if len(l.samples) != 2 || len(l.exemplars) != 4 || l.batch.IgnoredExemplars != 2 || l.batch.LeftOut.Total() != 1 || l.points.Rejected() != 0 {
		t.Errorf("%q %q, ignored %d, left out %d, rejected %d", l.samples, l.exemplars, l.batch.IgnoredExemplars, l.batch.LeftOut.Total(), l.points.Rejected())
	}
	lim := taken
	lim.SamplesOnly = true
	if l, err := lay(t, encoded(t, md, false), false, lim); err != nil || len(l.samples) != 2 || len(l.exemplars)+len(l.families) != 0 {
		t.Errorf("%q %q %v", l.samples, l.exemplars, err)
	}
}

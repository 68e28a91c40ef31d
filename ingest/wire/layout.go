package wire

import (
	"math"
	"slices"
	"unsafe"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// Layout lays out series that come decoded and one sample at a time, as a
// converter from another protocol gives them. They are judged like those of an
// untidy body, and equal series end as equal bytes.
//
// An error of its methods means that the request goes beyond a limit as a whole:
// the batch is then of no use. What is wrong with a sample is told by the
// batch's Refused alone.
type Layout struct{ w walker }

// NewLayout lays out into b, which must be empty.
func NewLayout(lim Limits, b *Batch) *Layout {
	return &Layout{walker{b: b, lim: unlimited(lim)}}
}

// Float takes one sample of a series. t is in Unix milliseconds.
func (l *Layout) Float(ls labels.Labels, t int64, v float64) error {
	if err := l.w.begin(); err != nil {
		return err
	}
	b := l.w.b
	l.collect(ls)
	b.points = append(b.points, point{t, math.Float64bits(v)})
	b.received++
	l.w.judge()
	return l.w.end()
}

// Histogram takes one native histogram of a series, reduced where it is too fine;
// exactly one of h and fh is not nil. Layout keeps neither, and may change them.
func (l *Layout) Histogram(ls labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) error {
	if err := l.w.begin(); err != nil {
		return err
	}
	b := l.w.b
	l.collect(ls)
	b.received++
	n := native{t: t}
	if b.fault = sound(h, fh); b.fault == nil {
		b.entries = appendHistogram(b.entries, t, h, fh)
	}
	n.to, n.bad = len(b.entries), b.fault != nil
	b.natives = append(b.natives, n)
	l.w.judge()
	return l.w.end()
}

// Exemplars takes exemplars of a series, whose labels are judged anew; one without
// a time has that of the sample it came with, t.
func (l *Layout) Exemplars(ls labels.Labels, t int64, list []exemplar.Exemplar) error {
	b := l.w.b
	if l.w.lim.SamplesOnly {
		b.IgnoredExemplars += len(list)
		return nil
	}
	l.collect(ls)
	for _, e := range list {
		b.tags = b.tags[:0]
		e.Labels.Range(func(p labels.Label) { b.tag(label{bytesOf(p.Name), bytesOf(p.Value)}) })
		x := example{t: t, from: len(b.entries), bad: !b.tidyTags()}
		if e.HasTs {
			x.t = e.Ts
		}
		if !x.bad {
			b.entries = appendExemplar(b.entries, point{x.t, math.Float64bits(e.Value)}, b.tags)
		}
		x.to = len(b.entries)
		b.examples = append(b.examples, x)
	}
	l.w.judge()
	return l.w.end()
}

// Describe takes what is said of a metric family. kind is Prometheus' word for
// its type.
func (l *Layout) Describe(family, kind, help, unit string) error {
	b := l.w.b
	if l.w.lim.SamplesOnly {
		b.IgnoredMetadata++
		return nil
	}
	m := Metadata{Family: bytesOf(family), Help: bytesOf(help), Unit: bytesOf(unit)}
	if n := slices.Index(metricTypes[:], kind); n > 0 {
		m.Type = uint8(n)
	}
	return l.w.describe(m)
}

// Refuse counts n samples that cannot be laid out; show is asked for their
// series when they are the first of that reason.
func (l *Layout) Refuse(reason Reason, n int, show func() string) error {
	l.w.b.received += n
	l.w.b.Refused.add(reason, n, show)
	return l.w.end()
}

// collect aliases the strings of the labels until the next series. They are work
// also where they are refused: a few bytes of a body can stand for many labels.
func (l *Layout) collect(ls labels.Labels) {
	b := l.w.b
	b.clearSeries()
	ls.Range(func(p labels.Label) {
		l.w.work += len(p.Name) + len(p.Value)
		if len(b.labels) <= maxLabels {
			b.labels = append(b.labels, label{bytesOf(p.Name), bytesOf(p.Value)})
		}
	})
}

// Show shows a series to a person by its labels, a name and a value each, as
// Text does.
func Show(pairs ...string) string {
	var t text
	for ; len(pairs) > 1; pairs = pairs[2:] {
		if !t.label(bytesOf(pairs[0]), bytesOf(pairs[1])) {
			break
		}
	}
	return t.String()
}

// bytesOf is the string's bytes, not to be written to.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

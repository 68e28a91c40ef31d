package prom

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// chunk is a chunk as a store sent it; its bytes are this query's own.
type chunk struct {
	mint, maxt int64
	encoding   chunkenc.Encoding
	data       []byte
}

// replica is a series as one store has it, or as several do after their merge.
type replica struct {
	labels labels.Labels
	chunks []chunk
	// period bounds the samples that it shows, both ends inclusive.
	period period
}

type period struct{ mint, maxt int64 }

func (r *replica) Labels() labels.Labels { return r.labels }

// Iterator merges the series' chunks, which may overlap: each time once.
func (r *replica) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return newMerged(r.chunks, r.period)
}

// mergeReplicas joins what stores have of one series.
func mergeReplicas(all ...storage.Series) storage.Series {
	if len(all) == 1 {
		return all[0]
	}
	out := &replica{labels: all[0].Labels(), period: all[0].(*replica).period}
	for _, s := range all {
		out.chunks = append(out.chunks, s.(*replica).chunks...)
	}
	return out
}

// lanes sorts chunks into rows without overlap. Chunks of equal bytes, which
// replicas have where nothing came late, are kept once and never decoded twice.
func lanes(all []chunk) [][]chunk {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b chunk) int {
		return cmp.Or(cmp.Compare(a.mint, b.mint), cmp.Compare(a.maxt, b.maxt),
			cmp.Compare(a.encoding, b.encoding), bytes.Compare(a.data, b.data))
	})
	all = slices.CompactFunc(all, func(a, b chunk) bool {
		return a.mint == b.mint && a.maxt == b.maxt && a.encoding == b.encoding && bytes.Equal(a.data, b.data)
	})
	var rows [][]chunk
next:
	for _, c := range all {
		for i, row := range rows {
			if row[len(row)-1].maxt < c.mint {
				rows[i] = append(row, c)
				continue next
			}
		}
		rows = append(rows, []chunk{c})
	}
	return rows
}

// lane walks chunks that do not overlap.
type lane struct {
	chunks []chunk
	it     chunkenc.Iterator // of chunks[0]; nil: not opened
	kind   chunkenc.ValueType
	t      int64
	moved  bool // the sample before it in its chunk was not shown, or there is none
	err    error

	fh *histogram.FloatHistogram // for comparisons
}

// next moves to the next sample at t or later.
func (l *lane) next(t int64) {
	for l.err == nil && len(l.chunks) > 0 {
		if l.it == nil {
			if l.chunks[0].maxt < t {
				l.chunks = l.chunks[1:]
				continue
			}
			c, err := chunkenc.FromData(l.chunks[0].encoding, l.chunks[0].data)
			if err != nil {
				l.err = err
				break
			}
			l.it, l.moved = c.Iterator(nil), true
		} else {
			l.moved = false
		}
		for l.kind = l.it.Next(); l.kind != chunkenc.ValNone; l.kind = l.it.Next() {
			if l.t = l.it.AtT(); l.t >= t {
				return
			}
			l.moved = true
		}
		l.err = l.it.Err()
		l.it, l.chunks = nil, l.chunks[1:]
	}
	l.kind = chunkenc.ValNone
}

// The classes of a sample, the least first.
const (
	classStale = iota
	classFloat
	classHistogram
	classFloatHistogram
)

func (l *lane) class() int {
	switch l.kind {
	case chunkenc.ValFloat:
		if _, v := l.it.At(); value.IsStaleNaN(v) {
			return classStale
		}
		return classFloat
	default:
		_, l.fh = l.it.AtFloatHistogram(l.fh)
		if value.IsStaleNaN(l.fh.Sum) {
			return classStale
		}
		if l.kind == chunkenc.ValHistogram {
			return classHistogram
		}
		return classFloatHistogram
	}
}

// beats says whether l's sample is shown rather than o's, of the same time:
// the greater value, by its bits, and any value before a stale marker.
func (l *lane) beats(o *lane) bool {
	a, b := l.class(), o.class()
	if a != b {
		return a > b
	}
	switch a {
	case classStale:
		return false
	case classFloat:
		_, v := l.it.At()
		_, w := o.it.At()
		return math.Float64bits(v) > math.Float64bits(w)
	default:
		return compareHistograms(l.fh, o.fh) > 0
	}
}

func compareHistograms(a, b *histogram.FloatHistogram) int {
	bits := func(x, y float64) int { return cmp.Compare(math.Float64bits(x), math.Float64bits(y)) }
	if c := cmp.Or(bits(a.Count, b.Count), bits(a.Sum, b.Sum), cmp.Compare(a.Schema, b.Schema),
		bits(a.ZeroCount, b.ZeroCount), bits(a.ZeroThreshold, b.ZeroThreshold)); c != 0 {
		return c
	}
	span := func(x, y histogram.Span) int {
		return cmp.Or(cmp.Compare(x.Offset, y.Offset), cmp.Compare(x.Length, y.Length))
	}
	return cmp.Or(
		slices.CompareFunc(a.PositiveSpans, b.PositiveSpans, span),
		slices.CompareFunc(a.PositiveBuckets, b.PositiveBuckets, bits),
		slices.CompareFunc(a.NegativeSpans, b.NegativeSpans, span),
		slices.CompareFunc(a.NegativeBuckets, b.NegativeBuckets, bits),
		slices.CompareFunc(a.CustomValues, b.CustomValues, bits),
	)
}

// merged is an iterator over chunks of several stores: each time once.
type merged struct {
	lanes  []*lane
	period period
	at     *lane // nil: before the first sample, or after the last
	joined bool  // the sample follows the one before it in the same chunk
	ended  bool
}

func newMerged(chunks []chunk, p period) *merged {
	m := &merged{period: p}
	for _, row := range lanes(chunks) {
		m.lanes = append(m.lanes, &lane{chunks: row, t: math.MinInt64})
	}
	return m
}

func (m *merged) Next() chunkenc.ValueType {
	if m.at == nil {
		return m.Seek(m.period.mint)
	}
	if m.at.t == math.MaxInt64 {
		return m.end()
	}
	return m.move(m.at.t + 1)
}

// millis is a time. The name keeps go vet from taking Seek for io.Seeker's.
type millis = int64

func (m *merged) Seek(t millis) chunkenc.ValueType {
	t = max(t, m.period.mint)
	if m.at != nil && m.at.t >= t {
		return m.at.kind
	}
	return m.move(t)
}

// move goes to the first time at t or later.
func (m *merged) move(t int64) chunkenc.ValueType {
	if m.ended {
		return chunkenc.ValNone
	}
	before := m.at
	m.at = nil
	for _, l := range m.lanes {
		if l.it == nil || l.t < t {
			l.next(t)
		}
		if l.err != nil {
			return m.end()
		}
		if l.kind == chunkenc.ValNone {
			continue
		}
		if m.at == nil || l.t < m.at.t || l.t == m.at.t && l.beats(m.at) {
			m.at = l
		}
	}
	if m.at == nil || m.at.t > m.period.maxt {
		return m.end()
	}
	m.joined = before == m.at && !m.at.moved
	return m.at.kind
}

func (m *merged) end() chunkenc.ValueType {
	m.at, m.ended = nil, true
	return chunkenc.ValNone
}

func (m *merged) At() (int64, float64) { return m.at.it.At() }

// AtHistogram forgets what a chunk knows of counter resets where the sample
// before came from another one.
func (m *merged) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := m.at.it.AtHistogram(h)
	if !m.joined && h.CounterResetHint != histogram.GaugeType {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	return t, h
}

func (m *merged) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, fh := m.at.it.AtFloatHistogram(fh)
	if !m.joined && fh.CounterResetHint != histogram.GaugeType {
		fh.CounterResetHint = histogram.UnknownCounterReset
	}
	return t, fh
}

func (m *merged) AtT() int64  { return m.at.t }
func (m *merged) AtST() int64 { return m.at.it.AtST() }

func (m *merged) Err() error {
	for _, l := range m.lanes {
		if l.err != nil {
			return l.err
		}
	}
	return nil
}

package prom

import (
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// floats makes a chunk.
func floats(t require.TestingT, all ...sample) chunk {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, s := range all {
		app.Append(0, s.t, s.v)
	}
	return chunk{all[0].t, all[len(all)-1].t, chunkenc.EncXOR, c.Bytes()}
}

var always = period{math.MinInt64, math.MaxInt64}

func drain(t require.TestingT, m *merged) []sample {
	var out []sample
	for m.Next() != chunkenc.ValNone {
		ts, v := m.At()
		out = append(out, sample{ts, v})
	}
	require.NoError(t, m.Err())
	require.Equal(t, chunkenc.ValNone, m.Next(), "the end is the end")
	return out
}

var values = []float64{-1, 0, 1, 2, math.Inf(1), math.Float64frombits(value.StaleNaN), math.Float64frombits(value.NormalNaN)}

// wins is the rule in words: a value before a stale marker, then the greater bits.
func wins(a, b float64) bool {
	if sa, sb := value.IsStaleNaN(a), value.IsStaleNaN(b); sa != sb {
		return sb
	}
	return math.Float64bits(a) > math.Float64bits(b)
}

// TestMergedIsAMap holds the iterator against a map from time to the best value,
// for random chunks of random stores, read by Next and by Seek.
func TestMergedIsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		best := map[int64]float64{}
		var chunks []chunk
		for range rapid.IntRange(0, 6).Draw(rt, "chunks") {
			times := rapid.SliceOfNDistinct(rapid.Int64Range(0, 40), 1, 12, rapid.ID[int64]).Draw(rt, "times")
			slices.Sort(times)
			var all []sample
			for _, ts := range times {
				s := sample{ts, rapid.SampledFrom(values).Draw(rt, "value")}
				all = append(all, s)
				if v, ok := best[ts]; !ok || wins(s.v, v) {
					best[ts] = s.v
				}
			}
			c := floats(rt, all...)
			chunks = append(chunks, c)
			if rapid.Bool().Draw(rt, "twice") {
				chunks = append(chunks, c)
			}
		}
		p := period{rapid.Int64Range(-1, 41).Draw(rt, "mint"), rapid.Int64Range(-1, 41).Draw(rt, "maxt")}
		var want []sample
		for _, ts := range slices.Sorted(maps.Keys(best)) {
			if p.mint <= ts && ts <= p.maxt {
				want = append(want, sample{ts, best[ts]})
			}
		}
		same(rt, want, drain(rt, newMerged(chunks, p)))

		// A walk of Next and Seek sees what one over the list sees.
		m, at := newMerged(chunks, p), -1
		for range 12 {
			var kind chunkenc.ValueType
			if rapid.Bool().Draw(rt, "next") {
				at++
				kind = m.Next()
			} else {
				to := rapid.Int64Range(-1, 42).Draw(rt, "to")
				for at = max(at, 0); at < len(want) && want[at].t < to; {
					at++
				}
				kind = m.Seek(to)
			}
			if at >= len(want) {
				require.Equal(rt, chunkenc.ValNone, kind)
				return
			}
			require.Equal(rt, chunkenc.ValFloat, kind)
			ts, v := m.At()
			same(rt, []sample{want[at]}, []sample{{ts, v}})
		}
	})
}

// same compares by bits: NaNs differ from themselves.
func same(t require.TestingT, want, got []sample) {
	bits := func(in []sample) (out [][2]uint64) {
		for _, s := range in {
			out = append(out, [2]uint64{uint64(s.t), math.Float64bits(s.v)})
		}
		return out
	}
	require.Equal(t, bits(want), bits(got))
}

func TestEqualChunksAreReadOnce(t *testing.T) {
	a := floats(t, sample{1, 1}, sample{2, 2})
	b := floats(t, sample{3, 3})
	longer := floats(t, sample{1, 1}, sample{2, 2}, sample{3, 3})
	require.Len(t, lanes([]chunk{a, b, a, b, a}), 1)
	require.Len(t, lanes([]chunk{a, b, longer}), 2)
}

func histograms(t require.TestingT, counter bool, at ...int64) chunk {
	c := chunkenc.NewHistogramChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, ts := range at {
		h := tsdbutil.GenerateTestHistogram(ts)
		if !counter {
			h = tsdbutil.GenerateTestGaugeHistogram(ts)
		}
		_, _, app, err = app.AppendHistogram(nil, 0, ts, h, false)
		require.NoError(t, err)
	}
	return chunk{at[0], at[len(at)-1], chunkenc.EncHistogram, c.Bytes()}
}

func TestHistogramsMerge(t *testing.T) {
	m := newMerged([]chunk{
		histograms(t, true, 10, 20, 30),
		histograms(t, true, 20, 30, 40),
		floats(t, sample{20, math.Inf(1)}, sample{50, 1}),
	}, always)
	var kinds []chunkenc.ValueType
	var hints []histogram.CounterResetHint
	for k := m.Next(); k != chunkenc.ValNone; k = m.Next() {
		kinds = append(kinds, k)
		if k == chunkenc.ValHistogram {
			ts, h := m.AtHistogram(nil)
			require.Equal(t, tsdbutil.GenerateTestHistogram(ts).Count, h.Count)
			_, fh := m.AtFloatHistogram(nil)
			require.Equal(t, float64(h.Count), fh.Count)
			hints = append(hints, h.CounterResetHint)
		}
	}
	require.NoError(t, m.Err())
	h := chunkenc.ValHistogram
	require.Equal(t, []chunkenc.ValueType{h, h, h, h, chunkenc.ValFloat}, kinds)
	require.Equal(t, []histogram.CounterResetHint{
		histogram.UnknownCounterReset, histogram.NotCounterReset, histogram.NotCounterReset, histogram.UnknownCounterReset,
	}, hints, "what another chunk knew of resets does not hold here")
}

func TestDifferentHistogramsOfOneTimeHaveOneWinner(t *testing.T) {
	small, large := histograms(t, true, 1), histograms(t, true, 1)
	c := chunkenc.NewHistogramChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	_, _, _, err = app.AppendHistogram(nil, 0, 1, tsdbutil.GenerateTestHistogram(9), false)
	require.NoError(t, err)
	large.data = c.Bytes()
	for _, order := range [][]chunk{{small, large}, {large, small}} {
		m := newMerged(order, always)
		require.Equal(t, chunkenc.ValHistogram, m.Next())
		_, h := m.AtHistogram(nil)
		require.Equal(t, tsdbutil.GenerateTestHistogram(9).Count, h.Count)
		require.Equal(t, chunkenc.ValNone, m.Next())
	}
}

func TestABrokenChunkIsAnError(t *testing.T) {
	c := floats(t, sample{1, 1}, sample{2, 2}, sample{3, 3})
	c.data = c.data[:len(c.data)-2]
	m := newMerged([]chunk{c}, always)
	for m.Next() != chunkenc.ValNone {
	}
	require.Error(t, m.Err())
}

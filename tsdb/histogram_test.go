package tsdb

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

var staleNaN = math.Float64frombits(value.StaleNaN)

// heldReadings reads one series back, as the chunks have it.
func heldReadings(t testing.TB, db *DB, name string) map[int64]reading {
	t.Helper()
	q, err := db.ChunkQuerier(acme, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	return readingsOf(t, q, name)
}

func readingsOf(t testing.TB, q storage.ChunkQuerier, name string) map[int64]reading {
	t.Helper()
	defer q.Close()
	set := storage.NewSeriesSetFromChunkSeriesSet(
		q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, name)))
	all := map[int64]reading{}
	for set.Next() {
		it := set.At().Iterator(nil)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			all[it.AtT()] = readingAt(it, kind)
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return all
}

func expectReadings(t testing.TB, db *DB, name string, want map[int64]reading) {
	t.Helper()
	sameReadings(t, name, heldReadings(t, db, name), want)
}

func sameReadings(t testing.TB, name string, got, want map[int64]reading) {
	t.Helper()
	for at, w := range want {
		g, ok := got[at]
		if !ok || !g.same(w) || g.stale() != w.stale() || !w.stale() && ((g.h == nil) != (w.h == nil) || (g.fh == nil) != (w.fh == nil)) {
			t.Errorf("%s at %d is %+v, want %+v", name, at, g, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s has %d samples, want %d", name, len(got), len(want))
	}
}

func ints(n int) *histogram.Histogram { return tsdbutil.GenerateTestHistogram(int64(n)) }
func flts(n int) *histogram.FloatHistogram {
	return tsdbutil.GenerateTestFloatHistogram(int64(n))
}

// sparse has one bucket of many: next to others it comes back with empty ones.
func sparse(bucket int32, count int64) *histogram.Histogram {
	return &histogram.Histogram{
		Count: uint64(count), Sum: float64(count), ZeroThreshold: 1e-128, Schema: 3,
		PositiveSpans: []histogram.Span{{Offset: bucket, Length: 1}}, PositiveBuckets: []int64{count},
	}
}

// mixed is a series of a share with float samples or histograms.
type mixed struct {
	series
	histograms []histogramSample
}

// histogramSample has one of both, or neither: then it is no histogram.
type histogramSample struct {
	t  int64
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

func histogramsOf(name string, all ...histogramSample) mixed {
	return mixed{series{labels: metric(name)}, all}
}

func floatsOf(name string, all ...sample) mixed {
	return mixed{series: series{metric(name), all}}
}

// mixedShare is a Share that has histograms too.
type mixedShare struct {
	*share
	all []mixed
}

func (s *mixedShare) Histogram() (int64, *histogram.Histogram, *histogram.FloatHistogram, bool) {
	if s.given == len(s.all[s.at].histograms) {
		return 0, nil, nil, false
	}
	one := s.all[s.at].histograms[s.given]
	s.given++
	if one.h != nil {
		one.h = one.h.Copy() // whoever takes it keeps it
	}
	if one.fh != nil {
		one.fh = one.fh.Copy()
	}
	return one.t, one.h, one.fh, true
}

func put(t testing.TB, db *DB, repeat bool, all ...mixed) []Outcome {
	t.Helper()
	var plain []series
	n := 0
	for _, one := range all {
		plain = append(plain, one.series)
		n += len(one.samples) + len(one.histograms)
	}
	out := make([]Outcome, n)
	for i := range out {
		out[i] = 99
	}
	if _, err := db.Append(t.Context(), acme, &mixedShare{shareOf(plain...), all}, repeat, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func mustPut(t testing.TB, db *DB, all ...mixed) {
	t.Helper()
	out := put(t, db, false, all...)
	expect(t, out, repeatOutcome(Stored, len(out))...)
}

func TestHistogramsOfEveryKindAreHeld(t *testing.T) {
	db := openDB(t)
	at := start.UnixMilli()
	custom, customFloat := tsdbutil.GenerateTestCustomBucketsHistogram(3), tsdbutil.GenerateTestCustomBucketsFloatHistogram(3)
	gauge := tsdbutil.GenerateTestGaugeHistogram(5)
	want := map[string]map[int64]reading{
		"ints":    {at: {h: ints(1)}, at + 1000: {h: ints(2)}},
		"floats":  {at: {fh: flts(1)}, at + 1000: {fh: flts(2)}},
		"custom":  {at: {h: custom}, at + 1000: {fh: customFloat}},
		"gauge":   {at: {h: gauge}},
		"stale":   {at: {h: ints(1)}, at + 1000: {h: &histogram.Histogram{Sum: staleNaN}}, at + 2000: {h: ints(2)}},
		"mixed":   {at: {v: 1}, at + 1000: {h: ints(1)}, at + 2000: {fh: flts(1)}, at + 3000: {v: 2}},
		"growing": {at: {h: sparse(0, 3)}, at + 1000: {h: sparse(5, 4)}, at + 2000: {h: sparse(2, 9)}},
	}
	mustPut(t, db,
		histogramsOf("ints", histogramSample{t: at, h: ints(1)}, histogramSample{t: at + 1000, h: ints(2)}),
		histogramsOf("floats", histogramSample{t: at, fh: flts(1)}, histogramSample{t: at + 1000, fh: flts(2)}),
		histogramsOf("custom", histogramSample{t: at, h: custom}, histogramSample{t: at + 1000, fh: customFloat}),
		histogramsOf("gauge", histogramSample{t: at, h: gauge}),
		histogramsOf("stale", histogramSample{t: at, h: ints(1)}, histogramSample{t: at + 1000, h: &histogram.Histogram{Sum: staleNaN}}, histogramSample{t: at + 2000, h: ints(2)}),
		floatsOf("mixed", sample{at, 1}),
		histogramsOf("mixed", histogramSample{t: at + 1000, h: ints(1)}, histogramSample{t: at + 2000, fh: flts(1)}),
		floatsOf("mixed", sample{at + 3000, 2}),
		histogramsOf("growing", histogramSample{t: at, h: sparse(0, 3)}, histogramSample{t: at + 1000, h: sparse(5, 4)}, histogramSample{t: at + 2000, h: sparse(2, 9)}),
	)
	for name, values := range want {
		expectReadings(t, db, name, values)
	}
	for at, v := range heldReadings(t, db, "gauge") {
		if v.h.CounterResetHint != histogram.GaugeType {
			t.Errorf("the gauge at %d is one of %v", at, v.h.CounterResetHint)
		}
	}
	// The log has it too.
	dir := db.cfg.Dir
	closeDB(t, db)
	db = reopenDB(t, Config{Dir: dir, MinFree: -1})
	for name, values := range want {
		expectReadings(t, db, name, values)
	}
}

func TestWhatIsNoHistogramIsSaidSampleBySample(t *testing.T) {
	db := openDB(t)
	at := start.UnixMilli()
	less := ints(1)
	less.Count--
	finer := ints(1)
	finer.Schema = 9
	bounds := tsdbutil.GenerateTestCustomBucketsHistogram(1)
	bounds.CustomValues = bounds.CustomValues[:1]
	negative := flts(1)
	negative.PositiveBuckets[0] = -1
	got := put(t, db, false,
		histogramsOf("h", histogramSample{t: at, h: less}, histogramSample{t: at, h: ints(1)}, histogramSample{t: at + 1, h: finer},
			histogramSample{t: at + 1, h: bounds}, histogramSample{t: at + 2}, histogramSample{t: at + 2, fh: negative}, histogramSample{t: at + 3, h: ints(2)}),
		histogramsOf("none", histogramSample{t: at, h: less}))
	expect(t, got, BadHistogram, Stored, BadHistogram, BadHistogram, BadHistogram, BadHistogram, Stored, BadHistogram)
	expectReadings(t, db, "h", map[int64]reading{at: {h: ints(1)}, at + 3: {h: ints(2)}})
	if n := engineOf(t, db).db.Head().NumSeries(); n != 1 {
		t.Errorf("%d series: a bad histogram makes none", n)
	}
}

// Repeats are found although the TSDB has given the first ones empty buckets, or
// a stale marker another kind; and nothing of them gets into the write-behind log.
func TestRepeatedHistogramsAreFound(t *testing.T) {
	db := openDB(t)
	at := start.UnixMilli()
	all := []mixed{
		histogramsOf("h", histogramSample{t: at, h: sparse(0, 3)}, histogramSample{t: at + 1000, h: sparse(5, 4)}, histogramSample{t: at + 2000, h: sparse(2, 9)}),
		floatsOf("h", sample{at + 3000, staleNaN}),
		histogramsOf("f", histogramSample{t: at, fh: flts(1)}, histogramSample{t: at + 1000, fh: flts(2)}),
		floatsOf("f", sample{at + 2000, staleNaN}),
		histogramsOf("custom", histogramSample{t: at, h: tsdbutil.GenerateTestCustomBucketsHistogram(1)}),
	}
	mustPut(t, db, all...)
	for range 3 {
		for _, repeat := range []bool{false, true} {
			expect(t, put(t, db, repeat, all...), repeatOutcome(Stored, 8)...)
		}
	}
	if engineOf(t, db).windowed.Load() {
		t.Error("repeats have opened the out-of-order window")
	}
	// Others than these are said to be others.
	expect(t, put(t, db, true,
		histogramsOf("h", histogramSample{t: at, h: sparse(0, 4)}, histogramSample{t: at + 1000, fh: sparse(5, 4).ToFloat(nil)}),
		floatsOf("h", sample{at + 2000, 1}),
		floatsOf("h", sample{at + 3000, 1}),
		histogramsOf("f", histogramSample{t: at, fh: flts(3)}),
		histogramsOf("custom", histogramSample{t: at, h: tsdbutil.GenerateTestCustomBucketsHistogram(2)}),
	), repeatOutcome(Conflict, 6)...)
	expectReadings(t, db, "h", map[int64]reading{
		at: {h: sparse(0, 3)}, at + 1000: {h: sparse(5, 4)}, at + 2000: {h: sparse(2, 9)}, at + 3000: {v: staleNaN},
	})
}

func TestHistogramsOutOfOrderInOneShareAreHeld(t *testing.T) {
	db := openDB(t)
	at := start.UnixMilli()
	mustPut(t, db, histogramsOf("h", histogramSample{t: at + 5000, h: ints(5)}))
	got := put(t, db, false,
		histogramsOf("h", histogramSample{t: at + 9000, h: ints(9)}, histogramSample{t: at + 1000, h: ints(1)}, histogramSample{t: at + 9000, h: ints(9)}, histogramSample{t: at + 9000, h: ints(8)}),
		floatsOf("h", sample{at + 2000, 2}, sample{at + 7000, 7}),
		histogramsOf("h", histogramSample{t: at + 3000, fh: flts(3)}))
	expect(t, got, Stored, Stored, Stored, Conflict, Stored, Stored, Stored)
	want := map[int64]reading{
		at + 1000: {h: ints(1)}, at + 2000: {v: 2}, at + 3000: {fh: flts(3)}, at + 5000: {h: ints(5)}, at + 7000: {v: 7}, at + 9000: {h: ints(9)},
	}
	expectReadings(t, db, "h", want)
	expect(t, put(t, db, true,
		histogramsOf("h", histogramSample{t: at + 1000, h: ints(1)}, histogramSample{t: at + 3000, fh: flts(3)}), floatsOf("h", sample{at + 2000, 2}),
	), repeatOutcome(Stored, 3)...)
	expectReadings(t, db, "h", want)
}

// The TSDB itself loses what follows a stale marker in one appender, or the
// marker, where the series' last sample is a histogram.
func TestWhatFollowsTheStaleMarkerOfAHistogramIsHeld(t *testing.T) {
	at := start.UnixMilli()
	for name, follow := range map[string][]mixed{
		"float":      {floatsOf("h", sample{at + 1000, staleNaN}, sample{at + 2000, 2})},
		"histogram":  {floatsOf("h", sample{at + 1000, staleNaN}), histogramsOf("h", histogramSample{t: at + 2000, h: ints(2)})},
		"and so on":  {floatsOf("h", sample{at + 1000, staleNaN}, sample{at + 2000, 2}, sample{at + 3000, staleNaN}, sample{at + 4000, 4}, sample{at + 5000, staleNaN})},
		"backwards":  {floatsOf("h", sample{at + 2000, 2}, sample{at + 1000, staleNaN})},
		"kind after": {histogramsOf("h", histogramSample{t: at + 500, fh: flts(1)}), floatsOf("h", sample{at + 1000, staleNaN}, sample{at + 2000, 3})},
	} {
		t.Run(name, func(t *testing.T) {
			db := openDB(t)
			want := map[int64]reading{at: {h: ints(1)}}
			n := 0
			for _, s := range follow {
				for _, one := range s.samples {
					want[one.t] = reading{v: one.v}
					n++
				}
				for _, one := range s.histograms {
					want[one.t] = reading{h: one.h, fh: one.fh}
					n++
				}
			}
			mustPut(t, db, histogramsOf("h", histogramSample{t: at, h: ints(1)}))
			expect(t, put(t, db, false, follow...), repeatOutcome(Stored, n)...)
			expectReadings(t, db, "h", want)
			expect(t, put(t, db, true, follow...), repeatOutcome(Stored, n)...)
			expectReadings(t, db, "h", want)
		})
	}
}

// This is why: a trap of the TSDB, which a newer one may have closed.
func TestTheTSDBDropsWhatFollowsTheStaleMarkerOfAHistogram(t *testing.T) {
	db := openDB(t)
	at := start.UnixMilli()
	mustPut(t, db, histogramsOf("h", histogramSample{t: at, h: ints(1)}))
	nils := naively(t, engineOf(t, db).db, storage.AOptions{}, series{metric("h"), []sample{{at + 1000, staleNaN}, {at + 2000, 2}}})
	if got := len(heldReadings(t, db, "h")); nils != 2 || got == 3 {
		t.Errorf("%d taken, %d held: the TSDB does not need the extra commit any more", nils, got)
	}
}

func TestHistogramsAreInTheBlock(t *testing.T) {
	c := newClock(start)
	db := openDB(t, withClock(c, time.Hour))
	at := start.UnixMilli()
	want := map[int64]reading{}
	for k := range 40 {
		one := histogramSample{t: at + int64(k)*60_000, h: sparse(int32(k%7), int64(k+1))}
		mustPut(t, db, histogramsOf("h", one))
		want[one.t] = reading{h: one.h}
	}
	late := histogramSample{t: at + 35*60_000 + 1, fh: flts(7)}
	mustPut(t, db, histogramsOf("h", late))
	want[late.t] = reading{fh: late.fh}
	expectReadings(t, db, "h", want)
	if err := db.Cut(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if n := len(blocksOf(t, db)); n < 2 { // one of those in order, one of the late
		t.Errorf("%d blocks", n)
	}
	expectReadings(t, db, "h", want)
	// What the blocks hold is found there by a repeat.
	expect(t, put(t, db, true, histogramsOf("h", late, histogramSample{t: at, h: sparse(0, 1)})), Stored, Stored)
}

// Who leaves gives its histograms away whole, those that it had let go before, too.
func TestHistogramsAreLetGoAndGivenAway(t *testing.T) {
	c := newClock(start)
	db := openDB(t, withClock(c, 2*time.Hour))
	at := start.UnixMilli()
	want := map[string]map[int64]reading{
		"h":      {at: {h: sparse(0, 3)}, at + 1000: {h: sparse(5, 4)}, at + 2000: {v: staleNaN}, at + 3000: {v: 3}},
		"custom": {at: {h: tsdbutil.GenerateTestCustomBucketsHistogram(1)}, at - 5000: {fh: flts(5)}},
	}
	mustPut(t, db,
		histogramsOf("h", histogramSample{t: at, h: sparse(0, 3)}, histogramSample{t: at + 1000, h: sparse(5, 4)}), floatsOf("h", sample{at + 2000, staleNaN}, sample{at + 3000, 3}),
		histogramsOf("custom", histogramSample{t: at, h: want["custom"][at].h}, histogramSample{t: at - 5000, fh: flts(5)}))
	letGo(t, db, these(floatsOf("h").series), LetGone{1, 1})
	for name, readings := range want {
		expectReadings(t, db, name, readings)
	}
	blocks, err := db.Empty(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	a := openAdopted(t, t.TempDir(), c)
	for _, b := range blocks {
		if err := give(a, b, unspoiled); err != nil {
			t.Fatal(err)
		}
	}
	if missing, err := a.Seal(leaver, sealOf(blocks)); err != nil || len(missing) > 0 {
		t.Fatalf("missing %v, error %v", missing, err)
	}
	for name, readings := range want {
		q, err := a.ChunkQuerier(leaver, acme, math.MinInt64, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		sameReadings(t, name, readingsOf(t, q, name), readings)
	}
}

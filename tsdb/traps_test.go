package tsdb

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// rawDB is the engine alone, with our options.
func rawDB(t testing.TB) *promtsdb.DB {
	t.Helper()
	cfg := Config{}.withDefaults()
	db, err := promtsdb.Open(t.TempDir(), nil, nil, engineOptions(&cfg), nil)
	if err != nil {
		t.Fatal(err)
	}
	db.DisableCompactions()
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func samplesIn(t testing.TB, db *promtsdb.DB) (n int) {
	t.Helper()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			n++
		}
	}
	return n
}

// The traps, as the TSDB sets them. If one of these fails, the TSDB has become
// kinder, and a step of append may go.
func TestTheEngineDropsInSilence(t *testing.T) {
	base := start.UnixMilli()
	t.Run("out of order within one appender", func(t *testing.T) {
		db := rawDB(t)
		nils := naively(t, db, storage.AOptions{}, series{metric("up"), []sample{{base + 2, 2}, {base + 1, 1}}})
		if nils != 2 || samplesIn(t, db) != 1 {
			t.Fatalf("%d appended, %d held", nils, samplesIn(t, db))
		}
	})
	t.Run("another value at one time within one appender", func(t *testing.T) {
		db := rawDB(t)
		nils := naively(t, db, storage.AOptions{}, series{metric("up"), []sample{{base, 1}}}, series{metric("up"), []sample{{base, 2}}})
		if nils != 2 || samplesIn(t, db) != 1 {
			t.Fatalf("%d appended, %d held", nils, samplesIn(t, db))
		}
	})
	t.Run("two appenders race", func(t *testing.T) {
		db := rawDB(t)
		one, two := db.AppenderV2(t.Context()), db.AppenderV2(t.Context())
		_, err1 := one.Append(0, viewLabels(metric("up")), 0, base+1, 1, nil, nil, storage.AOptions{})
		_, err2 := two.Append(0, viewLabels(metric("up")), 0, base+2, 2, nil, nil, storage.AOptions{})
		if err := errors.Join(err1, err2, two.Commit(), one.Commit()); err != nil || samplesIn(t, db) != 1 {
			t.Fatalf("error %v, %d held", err, samplesIn(t, db))
		}
	})
	t.Run("a wrong reference writes into the wrong series", func(t *testing.T) {
		db := rawDB(t)
		app := db.AppenderV2(t.Context())
		ref, _ := app.Append(0, viewLabels(metric("up")), 0, base, 1, nil, nil, storage.AOptions{})
		_, err := app.Append(ref, viewLabels(metric("down")), 0, base+1, 1, nil, nil, storage.AOptions{})
		if err := errors.Join(err, app.Commit()); err != nil || db.Head().NumSeries() != 1 {
			t.Fatalf("error %v, %d series", err, db.Head().NumSeries())
		}
	})
}

func TestOutOfOrderWithinOneShare(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base + 3, 3}, {base + 1, 1}, {base + 2, 2}, {base + 4, 4}}})
	expectHeld(t, db, `{__name__="up"}`, sample{base + 1, 1}, sample{base + 2, 2}, sample{base + 3, 3}, sample{base + 4, 4})
}

func TestDescendingShareOfOneSeries(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	one := series{labels: metric("up")}
	for i := int64(5000); i > 0; i-- {
		one.samples = append(one.samples, sample{base + i, float64(i)})
	}
	mustStore(t, db, one)
	slices.Reverse(one.samples)
	expectHeld(t, db, `{__name__="up"}`, one.samples...)
}

func TestSameSeriesTwiceInAShare(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	expect(t, write(t, db, false,
		series{metric("up"), []sample{{base, 1}, {base + 2, 3}}},
		series{metric("other"), []sample{{base, 1}}},
		series{metric("up"), []sample{{base + 1, 2}, {base + 2, 3}, {base + 3, 4}}},
		series{metric("up"), []sample{{base + 3, 5}}},
	), Stored, Stored, Stored, Stored, Stored, Stored, Conflict)
	expectHeld(t, db, `{__name__="up"}`, sample{base, 1}, sample{base + 1, 2}, sample{base + 2, 3}, sample{base + 3, 4})
	expectHeld(t, db, `{__name__="other"}`, sample{base, 1})
}

func TestHashesAreNotTrusted(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	s := shareOf(
		series{metric("up"), []sample{{base + 2, 3}}},
		series{metric("other"), []sample{{base, 1}}},
		series{metric("up"), []sample{{base + 1, 2}, {base + 2, 4}}},
	)
	s.hashes = []uint64{1, 1, 2}
	for range 2 {
		out := make([]Outcome, 4)
		if _, err := db.Append(t.Context(), acme, s, true, out); err != nil {
			t.Fatal(err)
		}
		expect(t, out, Stored, Stored, Stored, Conflict)
	}
	expectHeld(t, db, `{__name__="up"}`, sample{base + 1, 2}, sample{base + 2, 3})
	if n := db.Series(acme); n != 2 {
		t.Fatalf("%d series", n)
	}
}

func TestRacingWriters(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	const writers, rounds = 8, 40
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for r := range rounds {
				at := base + int64(r*writers+w)
				s := shareOf(series{metric("up"), []sample{{at, float64(at)}}})
				out := make([]Outcome, 1)
				if _, err := db.Append(t.Context(), acme, s, false, out); err != nil || out[0] != Stored {
					t.Errorf("outcome %v, error %v", out[0], err)
				}
			}
		})
	}
	wait.Wait()
	got := held(t, db, acme)[`{__name__="up"}`]
	if len(got) != writers*rounds {
		t.Fatalf("%d of %d stored samples are held", len(got), writers*rounds)
	}
}

func TestDuplicateTimestamps(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}}})
	expect(t, write(t, db, false, series{metric("up"), []sample{{base, 1}}}), Stored)
	expect(t, write(t, db, false, series{metric("up"), []sample{{base, 2}}}), Conflict)
	expect(t, write(t, db, true, series{metric("up"), []sample{{base, 2}}}), Conflict)
	expectHeld(t, db, `{__name__="up"}`, sample{base, 1})
}

func TestOlderIdenticalSampleIsStored(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}, {base + 1, 2}, {base + 2, 3}}})
	for _, repeat := range []bool{false, true} {
		expect(t, write(t, db, repeat, series{metric("up"), []sample{{base, 1}, {base + 1, 2}}}), Stored, Stored)
	}
	if engineOf(t, db).windowed.Load() {
		t.Fatal("identical samples have opened the out-of-order window")
	}
	expectHeld(t, db, `{__name__="up"}`, sample{base, 1}, sample{base + 1, 2}, sample{base + 2, 3})
}

func TestOlderOtherValueOnARepeatIsConflict(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}, {base + 1, 2}}})
	expect(t, write(t, db, true, series{metric("up"), []sample{{base, 9}}}), Conflict)
	// A first attempt is kept beside the other value: 2xx promises a value there.
	expect(t, write(t, db, false, series{metric("up"), []sample{{base, 9}}}), Stored)
	if n := len(held(t, db, acme)[`{__name__="up"}`]); n != 2 {
		t.Fatalf("%d samples", n)
	}
}

func TestOlderAbsentSampleGoesThroughTheWindow(t *testing.T) {
	for _, repeat := range []bool{false, true} {
		db, base := openDB(t), start.UnixMilli()
		mustStore(t, db, series{metric("up"), []sample{{base, 1}}})
		if _, err := os.Stat(filepath.Join(db.Path(acme), wblName)); !os.IsNotExist(err) {
			t.Fatalf("a write-behind log before the first out-of-order sample: %v", err)
		}
		expect(t, write(t, db, repeat, series{metric("up"), []sample{{base - 60_000, 0}}}), Stored)
		expect(t, write(t, db, repeat, series{metric("up"), []sample{{base - 90_000, -1}}}), Stored)
		// Older than half a window: out of bounds without the out-of-order window.
		expect(t, write(t, db, repeat, series{metric("new"), []sample{{base - 65*60_000, 5}}}), Hole)
		expectHeld(t, db, `{__name__="up"}`, sample{base - 90_000, -1}, sample{base - 60_000, 0}, sample{base, 1})
	}
}

func TestWindowFollowsTheSettings(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}}})
	old := series{metric("up"), []sample{{base - 100*60_000, 0}}}
	expect(t, write(t, db, false, old), Hole)
	db.SetTenants([]Settings{{Key: acme, OutOfOrderWindow: 2 * time.Hour}}, nil)
	expect(t, write(t, db, false, old), Stored)
	expectHeld(t, db, `{__name__="up"}`, sample{base - 100*60_000, 0}, sample{base, 1})
}

// stuck is a share that holds an append up until it is let go.
type stuck struct {
	*share
	began, goOn chan struct{}
	once        sync.Once
}

func (s *stuck) Sample() (int64, float64, bool) {
	s.once.Do(func() { close(s.began); <-s.goOn })
	return s.share.Sample()
}

// Settings come from the cluster's log, which must not wait for a disk.
func TestSettingsDoNotWaitForAppends(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}}})
	mustStore(t, db, series{metric("up"), []sample{{base - 1, 1}}}) // the window is open
	s := &stuck{share: shareOf(series{metric("up"), []sample{{base + 1, 1}}}), began: make(chan struct{}), goOn: make(chan struct{})}
	var under sync.WaitGroup
	under.Go(func() {
		out := []Outcome{99}
		if _, err := db.Append(t.Context(), acme, s, false, out); err != nil || out[0] != Stored {
			t.Errorf("outcome %v, error %v", out[0], err)
		}
	})
	<-s.began
	set := make(chan struct{})
	under.Go(func() {
		db.SetTenants([]Settings{{Key: acme, OutOfOrderWindow: 2 * time.Hour}}, nil)
		close(set)
	})
	select {
	case <-set:
	case <-time.After(5 * time.Second):
		t.Error("settings wait for an append that hangs")
	}
	close(s.goOn)
	under.Wait()
	mustStore(t, db, series{metric("up"), []sample{{base - 100*60_000, 0}}})
}

func TestTooOldIsAHoleUnlessHeld(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	day := (24 * time.Hour).Milliseconds()
	mustStore(t, db, series{metric("up"), []sample{{base - day, 1}, {base, 2}}})
	for _, repeat := range []bool{false, true} {
		expect(t, write(t, db, repeat, series{metric("up"), []sample{
			{base - day - 1, 0}, {base - day, 1}, {base - day, 7}, {base - 1, 4},
		}}), Hole, Stored, Conflict, Stored)
	}
	expectHeld(t, db, `{__name__="up"}`, sample{base - day, 1}, sample{base - 1, 4}, sample{base, 2})
}

func TestRepeatsDoNotBloat(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	var all []series
	for i := range 50 {
		one := series{labels: metric("up", "i", string(rune('A'+i)))}
		for k := range int64(20) {
			one.samples = append(one.samples, sample{base + k*15_000, float64(k)})
		}
		all = append(all, one)
	}
	mustStore(t, db, all...)
	// One sample is missing; the first repeat brings it.
	late := series{metric("up", "i", "A"), []sample{{base + 1, 1}}}
	expect(t, write(t, db, true, append(all, late)...), repeatOutcome(Stored, 1001)...)
	size := logSize(t, db, wblName)
	for range 20 {
		expect(t, write(t, db, true, append(all, late)...), repeatOutcome(Stored, 1001)...)
	}
	if grown := logSize(t, db, wblName); grown != size {
		t.Fatalf("write-behind log grew from %d to %d bytes", size, grown)
	}
	if n := len(held(t, db, acme)[`{__name__="up", i="A"}`]); n != 21 {
		t.Fatalf("%d samples", n)
	}
	// What the out-of-order head holds shows in the blocks cut from it.
	if err := db.Cut(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	var ooo uint64
	for _, b := range engineOf(t, db).db.Blocks() {
		if m := b.Meta(); m.Compaction.FromOutOfOrder() {
			ooo += m.Stats.NumSamples
		}
	}
	if ooo != 1 {
		t.Fatalf("%d out-of-order samples, not the one that was absent", ooo)
	}
}

func logSize(t testing.TB, db *DB, name string) (n int64) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(db.Path(acme), name))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

func TestNaNsKeepTheirBits(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	odd := math.Float64frombits(0xfff8_0000_0000_1234)
	stale := math.Float64frombits(value.StaleNaN)
	want := []sample{{base, odd}, {base + 1, stale}, {base + 2, math.NaN()}, {base + 3, math.Copysign(0, -1)}, {base + 4, math.Inf(-1)}}
	mustStore(t, db, series{metric("up"), want})
	for _, repeat := range []bool{false, true} {
		expect(t, write(t, db, repeat, series{metric("up"), want}), repeatOutcome(Stored, len(want))...)
	}
	expect(t, write(t, db, true, series{metric("up"), []sample{{base + 1, math.NaN()}}}), Conflict)
	expectHeld(t, db, `{__name__="up"}`, want...)
}

func TestFarApartSamplesInAFreshTenant(t *testing.T) {
	for _, at := range []int64{0, 1, start.UnixMilli() - 400*24*3600_000, start.UnixMilli()} {
		db := openDB(t)
		mustStore(t, db, series{metric("a"), []sample{{at, 1}}}, series{metric("b"), []sample{{at, 2}}}, series{metric("a"), []sample{{at + 5, 3}}})
		expectHeld(t, db, `{__name__="a"}`, sample{at, 1}, sample{at + 5, 3})
	}
}

func TestBadLabelsNeverReachTheEngine(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	one := []sample{{base, 1}}
	long := appendPair(nil, model.MetricNameLabel, string(make([]byte, 300)))
	bad := [][]byte{
		nil,
		{0},
		{5, 'a'},
		{255},
		{255, 1, 0, 0, 'a', 1, 'b'},
		long[:200],
		appendPair(nil, "", "v"), appendPair(nil, "n", ""), appendPair(nil, "n", "\xff"),
		appendPair(appendPair(nil, "b", "1"), "a", "1"), appendPair(appendPair(nil, "a", "1"), "a", "1"),
	}
	for _, raw := range bad {
		expect(t, write(t, db, false, series{metric("good"), one}, series{raw, one}, series{raw, []sample{{base + 1, 2}}}), Stored, BadLabels, BadLabels)
	}
	if n := engineOf(t, db).db.Head().NumSeries(); n != 1 {
		t.Fatalf("%d series", n)
	}
}

func TestShareAndOutcomesOfOtherLength(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	s := shareOf(series{metric("up"), []sample{{base, 1}, {base + 1, 2}}})
	for n, want := range [][]Outcome{{}, {Stored}, {Stored, Stored}, {Stored, Stored, Failed}} {
		out := make([]Outcome, n)
		if _, err := db.Append(t.Context(), acme, s, false, out); err != nil {
			t.Fatal(err)
		}
		expect(t, out, want...)
	}
}

// The outcomes hold whatever the order: each sample said to be stored is there,
// with its value or, where two were written to one time, one of them.
func TestWhateverIsStoredIsHeld(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	random := rand.New(rand.NewPCG(1, 2))
	type place struct {
		name string
		t    int64
	}
	stored := map[place]map[float64]bool{}
	for range 300 {
		var all []series
		var names []string
		for range 1 + random.IntN(6) {
			name := string(rune('a' + random.IntN(4)))
			one := series{labels: metric(name)}
			for range random.IntN(5) {
				one.samples = append(one.samples, sample{base + random.Int64N(400)*1000, float64(random.IntN(3))})
			}
			all, names = append(all, one), append(names, name)
		}
		out := write(t, db, random.IntN(2) == 0, all...)
		for i, one := range all {
			for _, s := range one.samples {
				at := place{names[i], s.t}
				switch out[0] {
				case Stored:
					if stored[at] == nil {
						stored[at] = map[float64]bool{}
					}
					stored[at][s.v] = true
				case Conflict:
					if stored[at] == nil {
						t.Fatalf("conflict with nothing at %v", at)
					}
				default:
					t.Fatalf("outcome %v", out[0])
				}
				out = out[1:]
			}
		}
		if random.IntN(60) == 0 {
			if err := db.Cut(t.Context(), acme); err != nil {
				t.Fatal(err)
			}
		}
	}
	found := 0
	for name, samples := range held(t, db, acme) {
		for _, s := range samples {
			at := place{name[len(`{__name__="`):][:1], s.t}
			if !stored[at][s.v] {
				t.Fatalf("%v holds %v, which was never stored", at, s.v)
			}
			found++
		}
	}
	if found != len(stored) {
		t.Fatalf("%d of %d stored samples are held", found, len(stored))
	}
}

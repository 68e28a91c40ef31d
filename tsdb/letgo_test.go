package tsdb

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// hosts are n series of one sample each; host is the name of one of them.
func hosts(n int, at int64, v float64) []series {
	all := make([]series, n)
	for i := range all {
		all[i] = series{metric("up", "i", fmt.Sprint(i)), []sample{{at, v}}}
	}
	return all
}

func host(i int) string { return fmt.Sprintf(`{__name__="up", i="%d"}`, i) }

// these are the hashes of some series.
func these(all ...series) func(uint64) bool {
	set := map[uint64]bool{}
	for _, s := range all {
		set[xxhash.Sum64(s.labels)] = true
	}
	return func(h uint64) bool { return set[h] }
}

func everything(uint64) bool { return true }

func letGo(t testing.TB, db *DB, gone func(uint64) bool, want LetGone) {
	t.Helper()
	got, err := db.LetGo(t.Context(), acme, 0, gone)
	if err != nil || got != want {
		t.Fatalf("let go %+v, error %v; want %+v", got, err, want)
	}
}

// sameHeld wants what was held before, each sample once.
func sameHeld(t testing.TB, db *DB, want map[string][]sample) {
	t.Helper()
	got := held(t, db, acme)
	if len(got) != len(want) {
		t.Fatalf("%d series are held, not %d", len(got), len(want))
	}
	for name, samples := range want {
		if !slices.Equal(got[name], samples) {
			t.Fatalf("%s holds %v, not %v", name, got[name], samples)
		}
	}
}

func TestWhatIsLetGoIsReadAsBefore(t *testing.T) {
	c := newClock(start)
	cfg := Config{Dir: t.TempDir(), MinFree: -1, Now: c.now, BlockDuration: time.Minute}
	db := reopenDB(t, cfg)
	base := start.UnixMilli()
	// Two windows, the second of them not over yet, and late samples.
	for k := range int64(9) {
		mustStore(t, db, hosts(100, base+k*10_000, float64(k))...)
	}
	mustStore(t, db, hosts(60, base+5_000, 50)...)
	want := held(t, db, acme)
	if got, err := db.LetGo(t.Context(), acme, 40, these(hosts(40, 0, 0)...)); err != nil || got != (LetGone{Found: 40}) || db.Series(acme) != 100 {
		t.Fatalf("no more than wanted, and let go %+v, error %v", got, err)
	}
	letGo(t, db, these(hosts(40, 0, 0)...), LetGone{40, 40})
	if n := db.Series(acme); n != 60 {
		t.Fatalf("%d series in the head", n)
	}
	sameHeld(t, db, want)
	selected := 0
	for _, b := range blocksOf(t, db) {
		if b.Compaction.FromSelectedSeries() {
			selected++
		}
	}
	if selected != 2 {
		t.Fatalf("%d blocks of selected series for two windows", selected)
	}
	// The blocks end in the future: the next start must not take that for where
	// the head was cut, and discard the others' log.
	for range 2 {
		closeDB(t, db)
		db = reopenDB(t, cfg)
		sameHeld(t, db, want)
		if n := db.Series(acme); n != 60 {
			t.Fatalf("%d series in the head after a start", n)
		}
	}
	// A normal cut takes the others.
	c.advance(5 * time.Minute)
	db.cutDue(t.Context())
	if n := db.Series(acme); n != 0 {
		t.Fatalf("%d series in the head after the cut", n)
	}
	sameHeld(t, db, want)
	closeDB(t, db)
	db = reopenDB(t, cfg)
	sameHeld(t, db, want)
	// Retention takes the blocks as any others.
	c.advance(time.Hour)
	db.SetTenants([]Settings{{Key: acme, Retention: time.Minute}}, nil)
	db.retainAll(t.Context())
	if blocks := blocksOf(t, db); len(blocks) != 0 {
		t.Fatalf("left are %+v", blocks)
	}
}

// A slot comes back, or a sender repeats: the references that are remembered name
// series that are gone, and others are made after them.
func TestWritesAfterLettingGoGoToTheirSeries(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	mustStore(t, db, hosts(50, base, 1)...)
	letGo(t, db, these(hosts(25, 0, 0)...), LetGone{25, 25})
	mustStore(t, db, series{metric("new"), []sample{{base, 7}}}) // takes the next reference
	mustStore(t, db, hosts(50, base+10, 2)...)
	// What is in the block already may be sent again.
	expect(t, write(t, db, true, hosts(50, base, 1)...), repeatOutcome(Stored, 50)...)
	check := func() {
		t.Helper()
		for i := range 50 {
			expectHeld(t, db, host(i), sample{base, 1}, sample{base + 10, 2})
		}
		expectHeld(t, db, `{__name__="new"}`, sample{base, 7})
	}
	check()
	if n := db.Series(acme); n != 51 {
		t.Fatalf("%d series in the head", n)
	}
	// And gone again, with what came since.
	letGo(t, db, these(hosts(25, 0, 0)...), LetGone{25, 25})
	check()
	if err := db.Cut(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	check()
}

// References are given anew after a start; nothing may be taken for what an old
// one stood for.
func TestReferencesOfWhatWasLetGoAreNotTakenUpAfterAStart(t *testing.T) {
	c := newClock(start)
	cfg := Config{Dir: t.TempDir(), MinFree: -1, Now: c.now, BlockDuration: time.Minute}
	db := reopenDB(t, cfg)
	base := start.UnixMilli()
	want := map[string][]sample{}
	for round := range int64(4) {
		at := base + round*20_000
		for k := range int64(150) { // more than a chunk: some are in mapped files
			all := []series{{metric("up", "round", fmt.Sprint(round)), []sample{{at + k*100, float64(k)}}}}
			mustStore(t, db, all...)
			want[fmt.Sprintf(`{__name__="up", round="%d"}`, round)] = append(want[fmt.Sprintf(`{__name__="up", round="%d"}`, round)], all[0].samples[0])
		}
		engineOf(t, db).db.ForceHeadMMap()
		letGo(t, db, everything, LetGone{1, 1})
		closeDB(t, db)
		db = reopenDB(t, cfg)
		sameHeld(t, db, want)
	}
	c.advance(10 * time.Minute)
	db.cutDue(t.Context())
	for range 2 {
		closeDB(t, db)
		db = reopenDB(t, cfg)
		sameHeld(t, db, want)
	}
}

// No sample between the look at a series and its drop may be lost: writers never
// stop, and all series are let go again and again.
func TestNothingIsLostToLettingGoInTheMiddleOfWrites(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	const writers, rounds, each = 3, 400, 40
	var wait sync.WaitGroup
	done := make(chan struct{})
	for w := range writers {
		wait.Go(func() {
			all := make([]series, each)
			for n := range int64(rounds) {
				for i := range all {
					all[i] = series{metric("up", "i", fmt.Sprint(i), "w", fmt.Sprint(w)), []sample{{base + n*100, float64(n)}}}
				}
				if n%7 == 3 { // some are late
					all[0].samples[0].t -= 250
				}
				s := shareOf(all...)
				out := make([]Outcome, each)
				if _, err := db.Append(t.Context(), acme, s, false, out); err != nil {
					t.Error(err)
					return
				}
				expectEach(t, out, Stored)
			}
		})
	}
	go func() { wait.Wait(); close(done) }()
	let, odd := 0, false
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
		}
		odd = !odd
		got, err := db.LetGo(t.Context(), acme, 0, func(h uint64) bool { return odd || h%2 == 0 })
		if err != nil {
			t.Error(err)
		}
		let += got.Series
	}
	if let == 0 {
		t.Fatal("nothing was let go")
	}
	all := held(t, db, acme)
	for w := range writers {
		for i := range each {
			got := all[fmt.Sprintf(`{__name__="up", i="%d", w="%d"}`, i, w)]
			if len(got) != rounds {
				t.Fatalf("writer %d: %d samples of %d are held of series %d", w, len(got), rounds, i)
			}
			if !slices.IsSortedFunc(got, func(a, b sample) int { return int(a.t - b.t) }) {
				t.Fatalf("writer %d: series %d is not in order", w, i)
			}
		}
	}
}

// A window that was cut in the middle goes on where it ended, whatever block of
// what was let go ends later.
func TestLettingGoDoesNotMoveWhereTheHeadWasCut(t *testing.T) {
	c := newClock(start)
	db := openDB(t, withClock(c, time.Minute))
	base := start.UnixMilli()
	mustStore(t, db, hosts(2, base, 1)...)
	if err := db.Cut(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	mustStore(t, db, hosts(2, base+10_000, 2)...)
	letGo(t, db, these(hosts(1, 0, 0)...), LetGone{1, 1})
	if end := engineOf(t, db).blocksEnd(); end != base+1 {
		t.Fatalf("the head was cut at %d, not %d", end, base+1)
	}
	c.advance(time.Hour)
	db.cutDue(t.Context())
	var cut []int64
	for _, b := range blocksOf(t, db) {
		if !b.Compaction.FromSelectedSeries() {
			cut = append(cut, b.MinTime, b.MaxTime)
		}
	}
	if want := []int64{base, base + 1, base + 1, base + 60_000}; !slices.Equal(cut, want) {
		t.Fatalf("blocks are %v, not %v", cut, want)
	}
	for i := range 2 {
		expectHeld(t, db, host(i), sample{base, 1}, sample{base + 10_000, 2})
	}
}

// A head that has let everything go gives its log back at the usual time.
func TestLogOfAnEmptiedHeadIsTruncated(t *testing.T) {
	c := newClock(start)
	cfg := Config{Dir: t.TempDir(), MinFree: -1, Now: c.now, BlockDuration: time.Minute}
	db := reopenDB(t, cfg)
	base := start.UnixMilli()
	mustStore(t, db, hosts(50, base, 1)...)
	mustStore(t, db, hosts(50, base+10_000, 2)...)
	want := held(t, db, acme)
	letGo(t, db, everything, LetGone{50, 50})
	closeDB(t, db)
	db = reopenDB(t, cfg)
	head := engineOf(t, db).db.Head()
	if n := head.NumSeries(); n != 0 {
		t.Fatalf("%d series", n)
	}
	if head.MinTime() != base {
		t.Fatalf("the log begins at %d, not %d", head.MinTime(), base)
	}
	for range 4 { // the TSDB gives back two thirds of the segments each time
		c.advance(2 * time.Minute)
		db.cutDue(t.Context())
	}
	if head.MinTime() <= base+10_000 {
		t.Fatalf("the log begins at %d still", head.MinTime())
	}
	c.advance(time.Minute)
	if windows, err := engineOf(t, db).cutDue(t.Context()); err != nil || windows != 0 {
		t.Fatalf("%d windows of nothing cut, error %v", windows, err)
	}
	sameHeld(t, db, want)
}

func TestRepairedLogDeclaresGapBesideWhatWasLetGo(t *testing.T) {
	c := newClock(start)
	cfg := Config{Dir: t.TempDir(), MinFree: -1, Now: c.now}
	db := reopenDB(t, cfg)
	base := start.UnixMilli()
	mustStore(t, db, hosts(2, base, 1)...)
	letGo(t, db, these(hosts(1, 0, 0)...), LetGone{1, 1})
	segments, err := filepath.Glob(filepath.Join(db.Path(acme), walName, "0*"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments %v, error %v", segments, err)
	}
	closeDB(t, db)
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	b[8] ^= 0xff
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Hour) // the block ends an hour later still
	db = reopenDB(t, cfg)
	gaps := db.Status(acme).Gaps
	if len(gaps) != 1 || gaps[0].Mint > base || gaps[0].Maxt != c.now().UnixMilli() {
		t.Fatalf("gaps are %v, and the log is gone from %d on", gaps, base)
	}
}

// Some reader is always open, none of them for long: the TSDB alone would wait for
// ever for a moment without one.
func TestLetGoEndsUnderReaders(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	mustStore(t, db, hosts(50, base, 1)...)
	end := make(chan struct{})
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			for {
				q, err := db.ChunkQuerier(acme, math.MinInt64, math.MaxInt64)
				if err != nil {
					t.Error(err)
					return
				}
				if n := seriesIn(t, q); n != 50 {
					t.Errorf("%d series are read", n)
				}
				hold := time.NewTimer(100 * time.Millisecond)
				<-hold.C
				q.Close()
				select {
				case <-end:
					return
				default:
				}
			}
		})
	}
	eventually(t, "readers are open", func() bool {
		tn, _ := db.find(acme)
		tn.mu.Lock()
		defer tn.mu.Unlock()
		return tn.users >= 6
	})
	letGo(t, db, these(hosts(25, 0, 0)...), LetGone{25, 25})
	close(end)
	wait.Wait()
	if n := db.Series(acme); n != 25 {
		t.Fatalf("%d series in the head", n)
	}
}

func seriesIn(t testing.TB, q storage.ChunkQuerier) (n int) {
	set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "up"))
	for set.Next() {
		n++
	}
	if set.Err() != nil {
		t.Error(set.Err())
	}
	return n
}

// Without room for a block nothing is dropped, and the tenant goes on.
func TestFullDiskLetsNothingGo(t *testing.T) {
	disk := smallDisk(t, "192m")
	db := reopenDB(t, Config{Dir: filepath.Join(disk, "tsdb"), MinFree: -1})
	base := start.UnixMilli()
	mustStore(t, db, hosts(50, base, 1)...)
	want := held(t, db, acme)
	free := fill(t, disk, 2*blockSegment-1)
	if got, err := db.LetGo(t.Context(), acme, 0, everything); err == nil || got.Series != 0 {
		t.Fatalf("let go %+v, error %v", got, err)
	}
	free()
	// The room goes while the block is written: the TSDB finds none.
	free = fill(t, disk, 1<<20)
	e := engineOf(t, db)
	sel, err := e.selectSeries(t.Context(), everything)
	if err != nil {
		t.Fatal(err)
	}
	err = e.compactSelected(sel)
	if err == nil || err.Error()[:len(saysBlockFailed)] != saysBlockFailed {
		t.Fatalf("error %v", err)
	}
	if n := e.missing(sel.refs); n != 0 {
		t.Fatalf("%d series dropped", n)
	}
	sameHeld(t, db, want)
	free()
	mustStore(t, db, hosts(50, base+1, 2)...)
	letGo(t, db, everything, LetGone{50, 50})
}

package tsdb

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// withClock gives short blocks and a clock that the test sets.
func withClock(c *clock, d time.Duration) func(*Config) {
	return func(cfg *Config) { cfg.Now, cfg.BlockDuration = c.now, d }
}

func blocksOf(t testing.TB, db *DB) []promtsdb.BlockMeta {
	t.Helper()
	return engineOf(t, db).db.BlockMetas()
}

func TestWindowsAreCutByTheClock(t *testing.T) {
	for _, d := range []time.Duration{10 * time.Second, 2 * time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			c := newClock(start)
			db := openDB(t, withClock(c, d))
			base := start.UnixMilli() // a multiple of both durations
			ms := d.Milliseconds()
			mustStore(t, db, series{metric("up"), []sample{{base, 1}, {base + ms - 1, 2}}})
			// The tenant falls silent, and nothing but the clock moves on.
			c.advance(d + d/2 - time.Millisecond)
			db.cutDue(t.Context())
			if n := len(blocksOf(t, db)); n != 0 {
				t.Fatalf("%d blocks before the time", n)
			}
			c.advance(d/10 + time.Millisecond)
			db.cutDue(t.Context())
			blocks := blocksOf(t, db)
			if len(blocks) != 1 || blocks[0].MinTime != base || blocks[0].MaxTime != base+ms || blocks[0].Stats.NumSamples != 2 {
				t.Fatalf("blocks are %+v", blocks)
			}
			if n := db.Series(acme); n != 0 {
				t.Fatalf("%d series left in the head", n)
			}
			// Silence makes no empty blocks.
			for range 5 {
				c.advance(d)
				db.cutDue(t.Context())
			}
			if n := len(blocksOf(t, db)); n != 1 {
				t.Fatalf("%d blocks", n)
			}
			expectHeld(t, db, `{__name__="up"}`, sample{base, 1}, sample{base + ms - 1, 2})
			// And it comes back.
			now := c.now().UnixMilli()
			mustStore(t, db, series{metric("up"), []sample{{now, 3}}})
			expectHeld(t, db, `{__name__="up"}`, sample{base, 1}, sample{base + ms - 1, 2}, sample{now, 3})
		})
	}
}

func TestStaggerIsAtMostATenth(t *testing.T) {
	const d = 2 * time.Hour
	seen := map[int64]bool{}
	for i := range 200 {
		k := Key{Tenant: fmt.Sprint("t", i), Incarnation: 1}
		end := start.Add(d) // of window start/d
		window := start.UnixMilli() / d.Milliseconds()
		if w := dueWindow(k, end.Add(d/2-time.Millisecond), d); w >= window {
			t.Fatalf("%v is cut early", k)
		}
		if w := dueWindow(k, end.Add(d/2+d/10), d); w != window {
			t.Fatalf("%v is cut late", k)
		}
		at := time.Duration(0)
		for dueWindow(k, end.Add(d/2+at), d) < window {
			at += time.Minute
		}
		seen[int64(at)] = true
	}
	if len(seen) < 8 {
		t.Fatalf("only %d different staggers", len(seen))
	}
}

func TestOldWindowsAreCutOneByOne(t *testing.T) {
	c := newClock(start)
	db := openDB(t, withClock(c, 10*time.Second))
	base := start.Add(-time.Hour).UnixMilli()
	var want []sample
	for i := range int64(5) {
		want = append(want, sample{base + i*10_000 + 9_999, float64(i)})
	}
	mustStore(t, db, series{metric("up"), want})
	db.cutDue(t.Context())
	blocks := blocksOf(t, db)
	if len(blocks) != 5 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for i, b := range blocks {
		if from := base + int64(i)*10_000; b.MinTime != from || b.MaxTime != from+10_000 {
			t.Fatalf("block %d is [%d, %d)", i, b.MinTime, b.MaxTime)
		}
	}
	expectHeld(t, db, `{__name__="up"}`, want...)
}

func TestLateSamplesAfterACutAreHeldAndCut(t *testing.T) {
	c := newClock(start)
	db := openDB(t, withClock(c, 10*time.Second))
	base := start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base + 1, 1}, {base + 9_000, 2}}})
	c.advance(17 * time.Second)
	db.cutDue(t.Context())
	for _, repeat := range []bool{false, true, true} {
		expect(t, write(t, db, repeat, series{metric("up"), []sample{{base + 5_000, 9}}}, series{metric("new"), []sample{{base + 2, 1}}}), Stored, Stored)
	}
	want := []sample{{base + 1, 1}, {base + 5_000, 9}, {base + 9_000, 2}}
	expectHeld(t, db, `{__name__="up"}`, want...)
	c.advance(10 * time.Second)
	db.cutDue(t.Context())
	var ooo int
	for _, b := range blocksOf(t, db) {
		if b.Compaction.FromOutOfOrder() {
			ooo += int(b.Stats.NumSamples)
		}
	}
	if ooo != 2 {
		t.Fatalf("%d out-of-order samples in blocks", ooo)
	}
	expectHeld(t, db, `{__name__="up"}`, want...)
	expectHeld(t, db, `{__name__="new"}`, sample{base + 2, 1})
	if n := db.Series(acme); n != 0 {
		t.Fatalf("%d series left in the head", n)
	}
}

func TestForcedCutTakesTheFutureToo(t *testing.T) {
	c := newClock(start)
	db := openDB(t, withClock(c, time.Minute))
	base := start.UnixMilli()
	want := []sample{{base - 5*60_000, 1}, {base, 2}, {base + 90_000, 3}}
	mustStore(t, db, series{metric("up"), want})
	mustStore(t, db, series{metric("late"), []sample{{base - 60_000, 1}}})
	if err := db.Cut(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if n := db.Series(acme); n != 0 {
		t.Fatalf("%d series left in the head", n)
	}
	expectHeld(t, db, `{__name__="up"}`, want...)
	// The window that was broken off goes on, in a block beside the first.
	mustStore(t, db, series{metric("up"), []sample{{base + 91_000, 4}}})
	if err := db.Cut(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	expectHeld(t, db, `{__name__="up"}`, append(want, sample{base + 91_000, 4})...)
	expectNoOverlap(t, blocksOf(t, db))
	if err := db.Cut(t.Context(), acme); err != nil { // nothing left to cut
		t.Fatal(err)
	}
}

func expectNoOverlap(t testing.TB, blocks []promtsdb.BlockMeta) {
	t.Helper()
	var inOrder []promtsdb.BlockMeta
	for _, b := range blocks {
		if !b.Compaction.FromOutOfOrder() {
			inOrder = append(inOrder, b)
		}
	}
	if o := promtsdb.OverlappingBlocks(inOrder); len(o) != 0 {
		t.Fatalf("overlapping: %v", o)
	}
}

// A tenant that is late writes into the very window that is being cut. Without
// the fence the samples of that moment are dropped with the head's.
func TestNothingIsLostToACutInTheMiddleOfWrites(t *testing.T) {
	c := newClock(start)
	db := openDB(t, withClock(c, 10*time.Second))
	base := start.UnixMilli()
	const writers, rounds = 4, 600
	var wait sync.WaitGroup
	var left atomic.Int32
	left.Store(writers)
	for w := range writers {
		wait.Go(func() {
			all := make([]series, 30)
			defer left.Add(-1)
			for n := range int64(rounds) {
				for i := range all {
					all[i] = series{metric("up", "i", fmt.Sprint(i), "w", fmt.Sprint(w)), []sample{{base + n*40, float64(n)}}}
				}
				s := shareOf(all...)
				out := make([]Outcome, len(all))
				if _, err := db.Append(t.Context(), acme, s, false, out); err != nil {
					t.Error(err)
					return
				}
				expectEach(t, out, Stored)
			}
		})
	}
	// All samples lie in windows whose time has long come.
	c.advance(time.Hour)
	for round := 0; left.Load() > 0; round++ {
		if round%5 == 4 {
			if err := db.Cut(t.Context(), acme); err != nil {
				t.Error(err)
			}
			continue
		}
		db.cutDue(t.Context())
	}
	wait.Wait()
	all := held(t, db, acme)
	for w := range writers {
		for i := range 30 {
			got := all[fmt.Sprintf(`{__name__="up", i="%d", w="%d"}`, i, w)]
			if len(got) != rounds {
				t.Fatalf("writer %d: %d of %d stored samples of series %d are held", w, len(got), rounds, i)
			}
		}
	}
}

func expectEach(t testing.TB, got []Outcome, want Outcome) {
	t.Helper()
	for i, o := range got {
		if o != want {
			t.Errorf("outcome %d of %d is %v, not %v", i, len(got), o, want)
			return
		}
	}
}

// While the out-of-order head is cut, only what is out of order waits.
func TestOutOfOrderSamplesWaitForTheirCut(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}}})
	mustStore(t, db, series{metric("up"), []sample{{base - 5, 0}}})
	e := engineOf(t, db)
	done := make(chan struct{})
	e.setCutLate(done)
	expect(t, write(t, db, false, series{metric("up"), []sample{{base - 5, 0}, {base + 1, 2}}}), Stored, Stored)
	result := make(chan []Outcome)
	go func() { result <- write(t, db, false, series{metric("up"), []sample{{base - 3, 9}, {base + 2, 3}}}) }()
	eventually(t, "the write has begun", func() bool { return len(e.writing) == 1 })
	select {
	case out := <-result:
		t.Fatalf("did not wait: %v", out)
	default:
	}
	close(done)
	expect(t, <-result, Stored, Stored)
	e.setCutLate(nil)
	expectHeld(t, db, `{__name__="up"}`, sample{base - 5, 0}, sample{base - 3, 9}, sample{base, 1}, sample{base + 1, 2}, sample{base + 2, 3})
}

func TestCutSurvivesRestart(t *testing.T) {
	c := newClock(start)
	cfg := Config{Dir: t.TempDir(), MinFree: -1, Now: c.now, BlockDuration: 10 * time.Second}
	db := reopenDB(t, cfg)
	base := start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}, {base + 12_000, 2}}})
	mustStore(t, db, series{metric("up"), []sample{{base + 3_000, 5}}})
	c.advance(17 * time.Second)
	db.cutDue(t.Context())
	closeDB(t, db)
	db = reopenDB(t, cfg)
	expectHeld(t, db, `{__name__="up"}`, sample{base, 1}, sample{base + 3_000, 5}, sample{base + 12_000, 2})
	if got := db.Status(acme).MinTime; got != base {
		t.Fatalf("oldest sample at %d", got)
	}
}

// ledger says that the listed blocks are safe.
type ledger struct {
	mu   sync.Mutex
	safe map[ulid.ULID]bool
}

func (l *ledger) Safe(tenant string, incarnation uint64, block ulid.ULID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return tenant == acme.Tenant && incarnation == acme.Incarnation && l.safe[block]
}

func TestRetentionDeletesOnlyWhatIsSafe(t *testing.T) {
	for _, ship := range []bool{true, false} {
		t.Run(fmt.Sprint("ship=", ship), func(t *testing.T) {
			c := newClock(start)
			book := &ledger{safe: map[ulid.ULID]bool{}}
			db := openDB(t, withClock(c, 10*time.Second), func(cfg *Config) { cfg.Ship, cfg.Ledger = ship, book })
			base := start.UnixMilli()
			mustStore(t, db, series{metric("up"), []sample{{base, 1}, {base + 10_000, 2}, {base + 20_000, 3}}})
			c.advance(time.Minute)
			db.cutDue(t.Context())
			blocks := blocksOf(t, db)
			if len(blocks) != 3 {
				t.Fatalf("%d blocks", len(blocks))
			}
			c.advance(24 * time.Hour)
			db.retainAll(t.Context())
			if n := len(blocksOf(t, db)); n != 3 {
				t.Fatalf("retention 0 left %d blocks", n)
			}
			db.SetTenants([]Settings{{Key: acme, Retention: 24*time.Hour + 35*time.Second}}, nil)
			book.mu.Lock()
			book.safe[blocks[0].ULID], book.safe[blocks[2].ULID] = true, true
			book.mu.Unlock()
			db.retainAll(t.Context())
			left := blocksOf(t, db)
			want := map[bool]int{true: 2, false: 1}[ship] // the third is too young in any case
			if len(left) != want || left[len(left)-1].ULID != blocks[2].ULID {
				t.Fatalf("left are %+v", left)
			}
			dirs, _ := filepath.Glob(filepath.Join(db.Path(acme), "01*"))
			if len(dirs) != want {
				t.Fatalf("on the disk are %v", dirs)
			}
			// The tenant still works.
			now := c.now().UnixMilli()
			mustStore(t, db, series{metric("up"), []sample{{now, 4}}})
		})
	}
}

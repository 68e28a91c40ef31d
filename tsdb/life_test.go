package tsdb

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// abandon leaves a DB as a killed process would: no clean-stop marker. It is
// closed all the same, so that the test can open the directory again.
func abandon(t testing.TB, db *DB) {
	t.Helper()
	path := filepath.Join(db.cfg.Dir, runName)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGapAfterTheEndOfAMachine(t *testing.T) {
	c := newClock(start)
	cfg := Config{Dir: t.TempDir(), MinFree: -1, Now: c.now, BootID: "one"}
	db := reopenDB(t, cfg)
	mustStore(t, db, series{metric("up"), []sample{{c.now().UnixMilli(), 1}}})
	c.advance(time.Minute)
	db.syncAll()
	c.advance(7 * time.Second)
	abandon(t, db)

	// The same boot: the process ended, the page cache did not.
	db = reopenDB(t, cfg)
	if s := db.Status(acme); !s.Replayed || s.Opening == 0 || len(s.Gaps) != 0 || s.MinTime != start.UnixMilli() {
		t.Fatalf("status is %+v", s)
	}
	synced := c.now().UnixMilli() // opening has synced what was there
	c.advance(3 * time.Second)
	abandon(t, db)

	cfg.BootID = "two"
	c.advance(time.Hour)
	db = reopenDB(t, cfg)
	first := Interval{Mint: synced, Maxt: c.now().UnixMilli()}
	expectGaps(t, db, first)
	c.advance(time.Hour)
	closeDB(t, db)

	// A clean stop adds none, and forgets none.
	cfg.BootID = "three"
	c.advance(time.Hour)
	synced = c.now().UnixMilli()
	db = reopenDB(t, cfg)
	expectGaps(t, db, first)
	abandon(t, db)

	cfg.BootID = "four"
	c.advance(time.Hour)
	db = reopenDB(t, cfg)
	expectGaps(t, db, first, Interval{Mint: synced, Maxt: c.now().UnixMilli()})
	if err := db.FillGap(acme, first); err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)
	db = reopenDB(t, cfg)
	expectGaps(t, db, Interval{Mint: synced, Maxt: synced + time.Hour.Milliseconds()})
}

func expectGaps(t testing.TB, db *DB, want ...Interval) {
	t.Helper()
	got := db.Status(acme).Gaps
	if len(got) != len(want) {
		t.Fatalf("gaps are %v, not %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("gaps are %v, not %v", got, want)
		}
	}
}

func TestRepairedLogDeclaresGap(t *testing.T) {
	for _, log := range []string{walName, wblName} {
		t.Run(log, func(t *testing.T) {
			c := newClock(start)
			cfg := Config{Dir: t.TempDir(), MinFree: -1, Now: c.now}
			db := reopenDB(t, cfg)
			base := start.UnixMilli()
			mustStore(t, db, series{metric("up"), []sample{{base, 1}}})
			mustStore(t, db, series{metric("up"), []sample{{base - 1, 0}}})
			path := db.Path(acme)
			closeDB(t, db)
			segments, err := filepath.Glob(filepath.Join(path, log, "0*"))
			if err != nil || len(segments) == 0 {
				t.Fatalf("segments %v, error %v", segments, err)
			}
			b, err := os.ReadFile(segments[0])
			if err != nil {
				t.Fatal(err)
			}
			b[8] ^= 0xff // within the first record
			if err := os.WriteFile(segments[0], b, 0o600); err != nil {
				t.Fatal(err)
			}
			c.advance(time.Hour)
			db = reopenDB(t, cfg)
			gaps := db.Status(acme).Gaps
			if len(gaps) != 1 || gaps[0].Mint > base || gaps[0].Maxt != c.now().UnixMilli() {
				t.Fatalf("gaps are %v", gaps)
			}
			mustStore(t, db, series{metric("up"), []sample{{base + 10, 1}}})
		})
	}
}

func TestGapsStayFewAndHonest(t *testing.T) {
	var gaps []Interval
	for i := range int64(3 * maxGaps) {
		gaps = union(gaps, Interval{Mint: i * i * 10, Maxt: i*i*10 + 5})
	}
	if len(gaps) != maxGaps {
		t.Fatalf("%d gaps", len(gaps))
	}
	for i := range int64(3 * maxGaps) {
		covered := false
		for _, g := range gaps {
			covered = covered || g.Mint <= i*i*10 && i*i*10+5 <= g.Maxt
		}
		if !covered {
			t.Fatalf("gap %d was forgotten", i)
		}
	}
	cut := subtract([]Interval{{0, 10}, {20, 30}, {40, 50}}, Interval{5, 44})
	if len(cut) != 2 || cut[0] != (Interval{0, 4}) || cut[1] != (Interval{45, 50}) {
		t.Fatalf("left are %v", cut)
	}
}

func TestStateThatCannotBeReadIsNotOverwritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, gapsName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := New(Config{Dir: dir})
	if err := db.Open(t.Context()); err == nil {
		t.Error("opened over gaps that it cannot read")
	}
	closeDB(t, db)
}

func TestSyncReachesEverySegment(t *testing.T) {
	c := newClock(start)
	db := openDB(t, withClock(c, 10*time.Second))
	base := start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}}})
	mustStore(t, db, series{metric("up"), []sample{{base - 1, 1}}})
	db.syncAll()
	e := engineOf(t, db)
	if e.unsynced.Load() || len(e.synced) != 2 {
		t.Fatalf("synced up to %v", e.synced)
	}
	before := e.synced[walName]
	c.advance(time.Minute)
	db.cutDue(t.Context()) // begins a new segment
	mustStore(t, db, series{metric("up"), []sample{{c.now().UnixMilli(), 1}}})
	if !e.unsynced.Load() {
		t.Fatal("a write does not ask for a sync")
	}
	db.syncAll()
	if e.unsynced.Load() || e.synced[walName] <= before {
		t.Fatalf("synced up to %v, before %d", e.synced, before)
	}
	if db.life.lastSync() != c.now().UnixMilli() {
		t.Fatal("the last sync has not moved on")
	}
	// A log that cannot be synced holds the last sync back.
	mustStore(t, db, series{metric("up"), []sample{{c.now().UnixMilli() + 1, 1}}})
	last := db.life.lastSync()
	c.advance(time.Minute)
	hidden := db.Path(acme) + ".hidden"
	e.dir = filepath.Join(hidden, "\x00")
	db.syncAll()
	if db.life.lastSync() != last || !e.unsynced.Load() {
		t.Fatal("the last sync moved on without the log")
	}
	e.dir = db.Path(acme)
}

func TestOnlyCurrentIncarnationsAreServed(t *testing.T) {
	db := openDB(t)
	base := start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}}})
	next := Key{Tenant: acme.Tenant, Incarnation: acme.Incarnation + 1}
	stranger := Key{Tenant: "nobody", Incarnation: 1}
	for _, k := range []Key{next, stranger} {
		if _, err := db.Append(t.Context(), k, shareOf(), false, nil); !errors.Is(err, ErrUnknownTenant) {
			t.Fatalf("append to %v: %v", k, err)
		}
		if _, err := db.ChunkQuerier(k, 0, 1); !errors.Is(err, ErrUnknownTenant) {
			t.Fatalf("query of %v: %v", k, err)
		}
		if db.Status(k).Replayed {
			t.Fatalf("%v is said to be replayed", k)
		}
	}

	// The next incarnation takes over, empty; the last one's directory stays until
	// it is said to be gone, and goes then, but not under a reader.
	q, err := db.ChunkQuerier(acme, 0, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	db.SetTenants([]Settings{{Key: next}}, nil)
	db.SetTenants([]Settings{{Key: acme}}, nil) // a late word of the past
	if keys := db.Keys(); len(keys) != 1 || keys[0] != next {
		t.Fatalf("keys are %v", keys)
	}
	if got := held(t, db, next); len(got) != 0 {
		t.Fatalf("the next incarnation holds %v", got)
	}
	if _, err := os.Stat(db.Path(next)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a query made a directory: %v", err)
	}
	if _, err := db.Append(t.Context(), acme, shareOf(), false, nil); !errors.Is(err, ErrUnknownTenant) {
		t.Fatalf("append to the past: %v", err)
	}
	set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "up"))
	if !set.Next() {
		t.Fatalf("the reader lost its series: %v", set.Err())
	}
	db.SetTenants(nil, []Key{acme})
	db.SetTenants(nil, []Key{acme}) // once more does no harm
	if _, err := os.Stat(db.Path(acme)); err != nil {
		t.Fatalf("removed under its reader: %v", err)
	}
	for range 2 { // the second close is none
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the directory is removed", func() bool {
		entries, err := os.ReadDir(db.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries) == 1 && entries[0].Name() == runName
	})
	if s := db.Status(next); !s.Replayed || s.MinTime != math.MaxInt64 {
		t.Fatalf("status is %+v", s)
	}
}

func TestGoneTenantWaitsForItsReaders(t *testing.T) {
	db := openDB(t)
	mustStore(t, db, series{metric("up"), []sample{{start.UnixMilli(), 1}}})
	q, err := db.ChunkQuerier(acme, 0, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	e := engineOf(t, db)
	db.SetTenants(nil, []Key{acme})
	if e.db.Head().NumSeries() != 1 {
		t.Fatal("closed under its reader")
	}
	if _, err := os.Stat(db.Path(acme)); err != nil {
		t.Fatalf("removed under its reader: %v", err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the directory is removed", func() bool {
		_, err := os.Stat(db.Path(acme))
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestDirectoriesOnTheDisk(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MinFree: -1}
	db := reopenDB(t, cfg)
	mustStore(t, db, series{metric("up"), []sample{{start.UnixMilli(), 1}}})
	closeDB(t, db)
	if err := os.Mkdir(filepath.Join(cfg.Dir, removingPrefix+"x.1"), 0o700); err != nil {
		t.Fatal(err)
	}
	// Nobody names the tenant: it is not opened, and not touched.
	db = New(cfg)
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := db.Stats(); s.Open != 0 || len(s.Tenants) != 0 {
		t.Fatalf("stats are %+v", s)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, removingPrefix+"x.1")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("an interrupted removal was not finished")
	}
	// Named after Open: opened then, without being asked.
	db.SetTenants([]Settings{{Key: acme}}, nil)
	eventually(t, "replayed", func() bool { return db.Status(acme).Replayed })
	if s := db.Stats(); s.Open != 1 || s.Series != 1 || s.Tenants[0].Key != acme {
		t.Fatalf("stats are %+v", s)
	}
	first := db.Status(acme).Opening
	closeDB(t, db)
	if _, err := db.Append(t.Context(), acme, shareOf(), false, nil); !errors.Is(err, ErrNotReady) {
		t.Fatalf("append after close: %v", err)
	}
	db = reopenDB(t, cfg)
	if again := db.Status(acme).Opening; again == 0 || again == first {
		t.Fatalf("openings are %d and %d", first, again)
	}
	expectHeld(t, db, `{__name__="up"}`, sample{start.UnixMilli(), 1})
}

func TestKeysAreFileNames(t *testing.T) {
	for _, k := range []Key{{"a", 0}, {"a.b", 1}, {"A:b@c=d+e-f_g.7", math.MaxUint64}} {
		if got, ok := parseKey(k.String()); !ok || got != k {
			t.Errorf("%v comes back as %v, %v", k, got, ok)
		}
	}
	for _, name := range []string{"", "a", ".1", "a.", "a.x", "a.01", "a.-1", "../a.1", "a/b.1", ".a.1", "gaps.json", "a\x00.1"} {
		if k, ok := parseKey(name); ok {
			t.Errorf("%q is taken for %v", name, k)
		}
	}
	db := openDB(t)
	db.SetTenants([]Settings{{Key: Key{Tenant: "../x"}}}, []Key{{Tenant: "../y"}})
	if n := len(db.Keys()); n != 1 {
		t.Fatalf("%d keys", n)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, stop := newContext(t)
	db := openDB(t, func(c *Config) {
		c.SyncEvery, c.BlockDuration = time.Millisecond, time.Second
	})
	done := make(chan error, 1)
	go func() { done <- db.Run(ctx) }()
	now := time.Now().UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{now - 5000, 1}}})
	eventually(t, "the window is cut", func() bool { return len(blocksOf(t, db)) == 1 })
	eventually(t, "the log is synced", func() bool { return db.life.lastSync() >= now })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

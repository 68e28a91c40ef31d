package tsdb

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// marked is an exemplar of a test.
type marked struct {
	labels []byte
	t      int64
	v      float64
}

func trace(id string, t int64, v float64) marked {
	return marked{appendPair(nil, "trace_id", id), t, v}
}

// exemplars is a share of them: series by series.
type exemplars struct {
	series   [][]byte
	of       [][]marked
	at, next int
}

func exemplarsOf(series []byte, list ...marked) *exemplars {
	return (&exemplars{at: -1}).and(series, list...)
}

func (x *exemplars) and(series []byte, list ...marked) *exemplars {
	x.series, x.of = append(x.series, series), append(x.of, list)
	return x
}

func (x *exemplars) Next() bool     { x.at++; x.next = 0; return x.at < len(x.series) }
func (x *exemplars) Labels() []byte { return x.series[x.at] }
func (x *exemplars) Hash() uint64   { return xxhash.Sum64(x.Labels()) }
func (x *exemplars) Exemplar() ([]byte, int64, float64, bool) {
	if x.next == len(x.of[x.at]) {
		return nil, 0, 0, false
	}
	m := x.of[x.at][x.next]
	x.next++
	return m.labels, m.t, m.v, true
}

func mark(t testing.TB, db *DB, x *exemplars) []Outcome {
	t.Helper()
	n := 0
	for _, list := range x.of {
		n += len(list)
	}
	out := make([]Outcome, n)
	setAll(out, 99)
	if err := db.AppendExemplars(t.Context(), acme, x, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// heldExemplars are those of a metric, as text: "id@time=value".
func heldExemplars(t testing.TB, db *DB, metric string) string {
	t.Helper()
	found, err := db.Exemplars(t.Context(), acme, math.MinInt64, math.MaxInt64,
		[]*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, metric)})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, series := range found {
		for _, e := range series.Exemplars {
			text = append(text, fmt.Sprintf("%s@%d=%v", e.Labels.Get("trace_id"), e.Ts, e.Value))
		}
	}
	return strings.Join(text, " ")
}

func expectExemplars(t testing.TB, db *DB, metric, want string) {
	t.Helper()
	if got := heldExemplars(t, db, metric); got != want {
		t.Fatalf("%s has exemplars %q, not %q", metric, got, want)
	}
}

func TestExemplarsAreHeldAsTheirOutcomesSay(t *testing.T) {
	db := openDB(t)
	at := start.UnixMilli()
	m, n := metric("m"), metric("n")
	mustStore(t, db, series{m, []sample{{at, 1}}})
	long := marked{appendPair(nil, "trace_id", strings.Repeat("x", 130)), at, 1}
	none := marked{nil, at + 3, 7}
	got := mark(t, db, exemplarsOf(m, trace("b", at+2, 2), trace("a", at, 1), long).
		and(n, trace("c", at, 1)).
		and(metric("m"), none, marked{[]byte{0}, at + 4, 1}))
	// They may come in any order; one whose series nobody has makes none.
	expect(t, got, Stored, Stored, BadLabels, SeriesLimit, Stored, BadLabels)
	expectExemplars(t, db, "m", fmt.Sprintf("a@%d=1 b@%d=2 @%d=7", at, at+2, at+3))
	expectExemplars(t, db, "n", "")
}

func TestRepeatedExemplarsAreStoredOnce(t *testing.T) {
	db := openDB(t)
	at := start.UnixMilli()
	m := metric("m")
	mustStore(t, db, series{m, []sample{{at, 1}}})
	all := func() *exemplars { return exemplarsOf(m, trace("a", at, 1), trace("b", at+1, 2), trace("c", at+2, 3)) }
	for range 3 {
		expect(t, mark(t, db, all()), Stored, Stored, Stored)
	}
	// One that is older than the newest and not there is not held, and says so.
	expect(t, mark(t, db, exemplarsOf(m, trace("late", at-1, 1), trace("d", at+3, 4))), Conflict, Stored)
	expectExemplars(t, db, "m", fmt.Sprintf("a@%d=1 b@%d=2 c@%d=3 d@%d=4", at, at+1, at+2, at+3))
}

// With an open window the TSDB takes late exemplars, and drops one that has the
// time of another without a word.
func TestADroppedExemplarIsNotCalledStored(t *testing.T) {
	db := openDB(t)
	at := start.UnixMilli()
	m := metric("m")
	mustStore(t, db, series{m, []sample{{at, 1}}})
	mustStore(t, db, series{m, []sample{{at - 1000, 1}}}) // opens the window
	expect(t, mark(t, db, exemplarsOf(m, trace("a", at, 1), trace("b", at+10, 2))), Stored, Stored)
	expect(t, mark(t, db, exemplarsOf(m, trace("between", at+5, 2), trace("same", at, 9))), Stored, Conflict)
	expectExemplars(t, db, "m", fmt.Sprintf("a@%d=1 between@%d=2 b@%d=2", at, at+5, at+10))
}

func TestTheRingGrowsToTheLimitAndKeepsTheNewest(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MinFree: -1}
	db := reopenDB(t, cfg)
	limit := func(n int64) { db.SetTenants([]Settings{{Key: acme, Exemplars: n}}, nil) }
	limit(100)
	at := start.UnixMilli()
	m := metric("m")
	mustStore(t, db, series{m, []sample{{at, 1}}})
	if size := engineOf(t, db).exemplars.size; size != 0 {
		t.Fatalf("a tenant without exemplars has room for %d", size)
	}
	count := func() int { return len(strings.Fields(heldExemplars(t, db, "m"))) }
	for i := range int64(150) {
		expect(t, mark(t, db, exemplarsOf(m, trace("x", at+i, float64(i)))), Stored)
		if i == 0 && engineOf(t, db).exemplars.size != minRing {
			t.Fatalf("room for %d after the first", engineOf(t, db).exemplars.size)
		}
	}
	if n := count(); n != 100 {
		t.Fatalf("%d exemplars, not 100", n)
	}
	limit(10) // live, with the next write
	mustStore(t, db, series{m, []sample{{at + 1, 1}}})
	if n := count(); n != 10 || !strings.HasPrefix(heldExemplars(t, db, "m"), fmt.Sprintf("x@%d=", at+140)) {
		t.Fatalf("%d exemplars: %s", n, heldExemplars(t, db, "m"))
	}
}

func TestExemplarsOutliveARestart(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MinFree: -1}
	at := start.UnixMilli()
	m := metric("m")
	db := New(cfg)
	db.SetTenants([]Settings{{Key: acme}}, nil)
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustStore(t, db, series{m, []sample{{at, 1}}})
	var want []string
	for i := range int64(200) {
		expect(t, mark(t, db, exemplarsOf(m, trace("x", at+i, float64(i)))), Stored)
		want = append(want, fmt.Sprintf("x@%d=%v", at+i, i))
	}
	closeDB(t, db)

	db = reopenDB(t, cfg)
	eventually(t, "the tenant is open", func() bool { return db.Status(acme).Replayed })
	expectExemplars(t, db, "m", strings.Join(want, " "))
	// A repeat is known after the restart, too.
	expect(t, mark(t, db, exemplarsOf(m, trace("x", at+7, 7), trace("x", at+199, 199))), Stored, Stored)
	expectExemplars(t, db, "m", strings.Join(want, " "))

	// A ring whose size cannot be read costs the exemplars, and no sample.
	closeDB(t, db)
	if err := os.WriteFile(filepath.Join(cfg.Dir, acme.String(), ringName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	db = reopenDB(t, cfg)
	eventually(t, "the tenant is open", func() bool { return db.Status(acme).Replayed })
	expectHeld(t, db, `{__name__="m"}`, sample{at, 1})
	expectExemplars(t, db, "m", "")
	expect(t, mark(t, db, exemplarsOf(m, trace("y", at+300, 1))), Stored)
}

// The ring grows while others read, write and cut.
func TestTheRingGrowsUnderReadersAndCuts(t *testing.T) {
	db := openDB(t)
	at := start.UnixMilli()
	m := metric("m")
	mustStore(t, db, series{m, []sample{{at, 1}}})
	var others sync.WaitGroup
	defer others.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	others.Go(func() {
		for ctx.Err() == nil {
			heldExemplars(t, db, "m")
			held(t, db, acme)
		}
	})
	others.Go(func() {
		for ctx.Err() == nil {
			if err := db.Cut(ctx, acme); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	for i := range int64(300) {
		mustStore(t, db, series{m, []sample{{at + 1000 + i, 1}}})
		if i == 150 {
			mustStore(t, db, series{m, []sample{{at - 1000, 1}}}) // opens the window
		}
		expect(t, mark(t, db, exemplarsOf(m, trace("x", at+i, 1), trace("y", at+i, 2))), Stored, Stored)
	}
	stop()
	others.Wait()
	if n := len(strings.Fields(heldExemplars(t, db, "m"))); n != 600 {
		t.Fatalf("%d exemplars, not 600", n)
	}
}

// The TSDB keeps the identity of a series whose exemplars its log still has: that
// holds up neither a cut nor the letting go, and nothing is written twice for it.
func TestSeriesWithExemplarsAreCutAndLetGo(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MinFree: -1}
	db := reopenDB(t, cfg)
	at := start.UnixMilli()
	m, n := metric("m"), metric("n")
	mustStore(t, db, series{m, []sample{{at, 1}, {at + 1000, 2}}}, series{n, []sample{{at, 1}}})
	expect(t, mark(t, db, exemplarsOf(m, trace("a", at+1000, 1))), Stored)
	gone := xxhash.Sum64(m)
	for range 3 {
		if _, err := db.LetGo(t.Context(), acme, 0, func(h uint64) bool { return h == gone }); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int {
		blocks, err := BlocksIn(db.Path(acme))
		if err != nil {
			t.Fatal(err)
		}
		return len(blocks)
	}
	if got := count(); got != 1 {
		t.Fatalf("%d blocks after one series was let go", got)
	}
	expectHeld(t, db, `{__name__="m"}`, sample{at, 1}, sample{at + 1000, 2})
	expectExemplars(t, db, "m", fmt.Sprintf("a@%d=1", at+1000))
	for range 2 {
		if _, err := db.Empty(t.Context(), acme); err != nil {
			t.Fatal(err)
		}
	}
	if got := count(); got != 2 {
		t.Fatalf("%d blocks after all was cut", got)
	}
	expectHeld(t, db, `{__name__="m"}`, sample{at, 1}, sample{at + 1000, 2})
	// It takes samples and exemplars again, and a restart changes nothing.
	mustStore(t, db, series{m, []sample{{at + 2000, 3}}})
	expect(t, mark(t, db, exemplarsOf(m, trace("b", at+2000, 1))), Stored)
	closeDB(t, db)
	db = reopenDB(t, cfg)
	eventually(t, "the tenant is open", func() bool { return db.Status(acme).Replayed })
	expectHeld(t, db, `{__name__="m"}`, sample{at, 1}, sample{at + 1000, 2}, sample{at + 2000, 3})
	if got := heldExemplars(t, db, "m"); !strings.HasSuffix(got, fmt.Sprintf("b@%d=1", at+2000)) {
		t.Fatalf("exemplars %q", got)
	}
}

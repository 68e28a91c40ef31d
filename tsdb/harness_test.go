package tsdb

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if childDir() != "" {
		runChild()
		return
	}
	goleak.VerifyTestMain(m)
}

var (
	acme  = Key{Tenant: "acme", Incarnation: 7}
	start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

// clock is a wall clock that a test sets.
type clock struct{ ms atomic.Int64 }

func newClock(at time.Time) *clock {
	c := &clock{}
	c.ms.Store(at.UnixMilli())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// openDB opens a DB that serves acme, and closes it with the test.
func openDB(t testing.TB, change ...func(*Config)) *DB {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), MinFree: -1}
	for _, f := range change {
		f(&cfg)
	}
	return reopenDB(t, cfg)
}

func reopenDB(t testing.TB, cfg Config) *DB {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	db := New(cfg)
	db.SetTenants([]Settings{{Key: acme}}, nil)
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func closeDB(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

type sample struct {
	t int64
	v float64
}

// series is one entry of a test's share.
type series struct {
	labels  []byte
	samples []sample
}

// metric lays out {__name__=name, extra...}; extra names must ascend.
func metric(name string, extra ...string) []byte {
	b := appendPair(nil, model.MetricNameLabel, name)
	for i := 0; i < len(extra); i += 2 {
		b = appendPair(b, extra[i], extra[i+1])
	}
	return b
}

// share is a Share over series held in memory.
type share struct {
	all       []series
	hashes    []uint64
	at, given int
}

func shareOf(all ...series) *share {
	s := &share{all: all, at: -1}
	for _, one := range all {
		s.hashes = append(s.hashes, xxhash.Sum64(one.labels))
	}
	return s
}

func (s *share) Reset()         { s.at = -1 }
func (s *share) Next() bool     { s.at++; s.given = 0; return s.at < len(s.all) }
func (s *share) Labels() []byte { return s.all[s.at].labels }
func (s *share) Hash() uint64   { return s.hashes[s.at] }
func (s *share) Sample() (int64, float64, bool) {
	if s.given == len(s.all[s.at].samples) {
		return 0, 0, false
	}
	one := s.all[s.at].samples[s.given]
	s.given++
	return one.t, one.v, true
}

func (s *share) Histogram() (int64, *histogram.Histogram, *histogram.FloatHistogram, bool) {
	return 0, nil, nil, false
}

func (s *share) size() (n int) {
	for _, one := range s.all {
		n += len(one.samples)
	}
	return n
}

func write(t testing.TB, db *DB, repeat bool, all ...series) []Outcome {
	t.Helper()
	s := shareOf(all...)
	out := make([]Outcome, s.size())
	for i := range out {
		out[i] = 99
	}
	if _, err := db.Append(t.Context(), acme, s, repeat, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// mustStore writes, and fails the test unless all of it is Stored.
func mustStore(t testing.TB, db *DB, all ...series) {
	t.Helper()
	expect(t, write(t, db, false, all...), repeatOutcome(Stored, shareOf(all...).size())...)
}

func repeatOutcome(o Outcome, n int) []Outcome {
	out := make([]Outcome, n)
	for i := range out {
		out[i] = o
	}
	return out
}

func expect(t testing.TB, got []Outcome, want ...Outcome) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d outcomes, not %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("outcome %d of %d is %v, not %v", i, len(got), got[i], want[i])
		}
	}
}

// held reads everything back: series (as text) → samples, in order.
func held(t testing.TB, db *DB, key Key) map[string][]sample {
	t.Helper()
	q, err := db.ChunkQuerier(key, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+"))
	all := map[string][]sample{}
	for set.Next() {
		name := set.At().Labels().String()
		chunks := set.At().Iterator(nil)
		for chunks.Next() {
			it := chunks.At().Chunk.Iterator(nil)
			for it.Next() == chunkenc.ValFloat {
				at, v := it.At()
				all[name] = append(all[name], sample{at, v})
			}
		}
		if chunks.Err() != nil {
			t.Fatal(chunks.Err())
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return all
}

func expectHeld(t testing.TB, db *DB, name string, want ...sample) {
	t.Helper()
	got := held(t, db, acme)[name]
	same := len(got) == len(want)
	for i := 0; same && i < len(got); i++ {
		same = got[i].t == want[i].t && math.Float64bits(got[i].v) == math.Float64bits(want[i].v)
	}
	if !same && len(got)+len(want) > 100 {
		t.Fatalf("%s holds %d samples, and not the %d expected", name, len(got), len(want))
	}
	if !same {
		t.Fatalf("%s holds %v, not %v", name, got, want)
	}
}

// engineOf gives acme's open engine.
func engineOf(t testing.TB, db *DB) *engine {
	t.Helper()
	tenant, err := db.find(acme)
	if err != nil {
		t.Fatal(err)
	}
	e, err := tenant.acquire(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	tenant.release()
	return e
}

// eventually polls until ok, or fails the test after a generous deadline.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
		pause := time.NewTimer(5 * time.Millisecond)
		<-pause.C
	}
}

// naively appends as one would without knowing the traps: nil from the TSDB is
// taken for stored.
func naively(t testing.TB, db *promtsdb.DB, opts storage.AOptions, all ...series) (nils int) {
	t.Helper()
	app := db.AppenderV2(context.Background())
	for _, one := range all {
		for _, s := range one.samples {
			if _, err := app.Append(0, viewLabels(one.labels), 0, s.t, s.v, nil, nil, opts); err == nil {
				nils++
			}
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	return nils
}

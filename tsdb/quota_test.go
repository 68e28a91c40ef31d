package tsdb

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// quotaDB is a DB whose tenants have what quota says at the moment.
func quotaDB(t testing.TB, quota *Quota, change ...func(*Config)) *DB {
	t.Helper()
	return openDB(t, append(change, func(c *Config) { c.Quota = func(Key) Quota { return *quota } })...)
}

func whole(slots int) *Part { return NewPart(slots, func(int) bool { return true }) }

func countOutcomes(out []Outcome, o Outcome) (n int) {
	for _, got := range out {
		if got == o {
			n++
		}
	}
	return n
}

func TestASeriesTooManyIsRefusedAndTheOthersAreStored(t *testing.T) {
	q := Quota{Series: 10, Part: whole(64)}
	db := quotaDB(t, &q)
	at := start.UnixMilli()
	expect(t, write(t, db, false, hosts(14, at, 1)...), append(repeatOutcome(Stored, 10), repeatOutcome(SeriesLimit, 4)...)...)
	// Those that are there go on; of a new one each sample is refused.
	out := write(t, db, false, append(hosts(10, at+1, 2), series{metric("new"), []sample{{at, 1}, {at + 1, 2}, {at + 1, 2}}})...)
	expect(t, out, append(repeatOutcome(Stored, 10), SeriesLimit, SeriesLimit, SeriesLimit)...)
	if got := len(held(t, db, acme)); got != 10 {
		t.Fatalf("%d series are held, want 10", got)
	}
	q.Series = 11 // from the next share on
	expect(t, write(t, db, false, series{metric("new"), []sample{{at, 1}}}, series{metric("newer"), []sample{{at, 1}}}), Stored, SeriesLimit)
	q.Series = 5 // what is there stays and is written to
	expect(t, write(t, db, false, append(hosts(10, at+2, 3), series{metric("late"), []sample{{at, 1}}})...), append(repeatOutcome(Stored, 10), SeriesLimit)...)
	q.Series = 0
	mustStore(t, db, hosts(30, at+3, 4)...)
}

func TestWhatAnotherReplicaHoldsIsTakenBeyondTheLimit(t *testing.T) {
	q := Quota{Series: 100, Part: whole(64)}
	db := quotaDB(t, &q)
	share := shareOf(hosts(200, start.UnixMilli(), 1)...)
	for _, c := range []struct {
		repeat, held bool
		stored, born int
	}{{false, false, 100, 100}, {true, false, 100, 0}, {true, true, 150, 50}, {false, false, 150, 0}} {
		out := make([]Outcome, share.size())
		_, born, err := db.Write(t.Context(), acme, share, c.repeat, c.held, out)
		if got := countOutcomes(out, Stored); err != nil || got != c.stored || born != c.born {
			t.Fatalf("%+v: %d stored, %d born, %v", c, got, born, err)
		}
	}
}

func TestADisownedSeriesGivesItsRoomToAnother(t *testing.T) {
	q := Quota{Series: 10, Part: whole(64)}
	clk := newClock(start)
	db := quotaDB(t, &q, withClock(clk, 2*time.Hour))
	at := start.UnixMilli()
	mustStore(t, db, hosts(10, at, 1)...)
	extra := func(i int, at int64) series { return series{metric("extra", "i", fmt.Sprint(i)), []sample{{at, 1}}} }
	expect(t, write(t, db, false, extra(0, at)), SeriesLimit)
	for range 2 { // the second time nothing changes
		if err := db.Disown(t.Context(), acme, shareOf(hosts(3, at, 1)...)); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, write(t, db, false, extra(0, at), extra(1, at)), Stored, Stored)
	// Of the three that were disowned one finds room again.
	expect(t, write(t, db, false, hosts(10, at+1, 2)...), append([]Outcome{Stored, SeriesLimit, SeriesLimit}, repeatOutcome(Stored, 7)...)...)
	expect(t, write(t, db, false, extra(2, at)), SeriesLimit)
	expectHeld(t, db, host(1), sample{at, 1}) // what it has it keeps
	e := engineOf(t, db)
	if got, head := e.census.within(q.Part), e.db.Head().NumSeries(); got != 10 || head != 12 {
		t.Fatalf("%d counted of %d in the head, want 10 of 12", got, head)
	}
	clk.advance(8 * time.Hour)
	db.cutDue(t.Context())
	if got := e.census.within(q.Part); got != 0 || e.census.strangers.Load() != 0 {
		t.Fatalf("%d counted and %d disowned in an empty head", got, e.census.strangers.Load())
	}
}

func TestNoSeriesIsRefusedWhereNothingIsCounted(t *testing.T) {
	q := Quota{Series: 10}
	db := quotaDB(t, &q)
	mustStore(t, db, hosts(20, start.UnixMilli(), 1)...)
	q.Part = NewPart(64, func(int) bool { return false })
	mustStore(t, db, hosts(40, start.UnixMilli()+1, 1)...)
}

// TestAPartTellsOfTheWhole: each of five stores holds three fifths of the slots,
// and stops where it has three fifths of the series.
func TestAPartTellsOfTheWhole(t *testing.T) {
	const most = 3000
	q := Quota{Series: most, Part: NewPart(512, func(s int) bool { return s%5 < 3 })}
	db := quotaDB(t, &q)
	at, stored, refused, foreign := start.UnixMilli(), 0, 0, 0
	place := engineOf(t, db).census.place
	all := hosts(2*most, at, 1)
	out := write(t, db, false, all...)
	for i, hash := range shareOf(all...).hashes {
		slot := int(place(hash) & 511)
		switch {
		case slot%5 >= 3:
			foreign++ // not counted, and not refused
			if out[i] != Stored {
				t.Fatalf("series of slot %d, which tells nothing, is %v", slot, out[i])
			}
		case out[i] == Stored:
			stored++
		default:
			refused++
		}
	}
	want := int(math.Ceil(most * 308.0 / 512)) // slots with s%5 < 3
	if stored != want || refused == 0 || foreign == 0 {
		t.Fatalf("%d stored, want %d; %d refused, %d of other slots", stored, want, refused, foreign)
	}
	use := db.Uses()
	if len(use) != 1 || use[0].Key != acme || use[0].Most != most || math.Abs(use[0].Series-most) > 2 {
		t.Fatalf("use %+v", use)
	}
}

// TestSeriesAreCountedWhateverBecomesOfThem: appended, replayed, cut, let go.
func TestSeriesAreCountedWhateverBecomesOfThem(t *testing.T) {
	clk := newClock(start)
	all := whole(1024)
	q := Quota{Series: 1 << 40, Part: all}
	cfg := Config{Dir: t.TempDir(), MinFree: -1, Now: clk.now, BlockDuration: 2 * time.Hour, Quota: func(Key) Quota { return q }}
	db := reopenDB(t, cfg)
	same := func(when string, want uint64) {
		t.Helper()
		e := engineOf(t, db)
		if got, head := e.census.within(all), e.db.Head().NumSeries(); got != int64(head) || head != want {
			t.Fatalf("%s: %d series counted, %d in the head, want %d", when, got, head, want)
		}
	}
	mustStore(t, db, hosts(50, start.UnixMilli(), 1)...)
	same("after an append", 50)
	closeDB(t, db)
	db = reopenDB(t, cfg)
	q.Series = 10 // a log is replayed whatever the limit
	same("after a replay", 50)
	mustStore(t, db, hosts(50, start.UnixMilli()+1, 1)...)
	q.Series = 1 << 40
	mustStore(t, db, series{metric("gone"), []sample{{start.UnixMilli() + 2, 1}}})
	letGo(t, db, these(series{labels: metric("gone")}), LetGone{Found: 1, Series: 1})
	same("after one was let go", 50)
	clk.advance(8 * time.Hour)
	mustStore(t, db, series{metric("young"), []sample{{clk.now().UnixMilli(), 1}}})
	db.cutDue(t.Context())
	same("after a cut", 1)
}

func TestManyPlacesAreCountedAsFewAre(t *testing.T) {
	c := newCensus(&Config{}, "acme")
	rng := rand.New(rand.NewPCG(1, 2))
	parts := []*Part{whole(1 << 16), NewPart(64, func(s int) bool { return s%3 == 0 }), NewPart(1<<16, func(s int) bool { return s%7 == 1 })}
	var live []labels.Labels
	check := func() {
		t.Helper()
		for _, p := range parts {
			want := int64(0)
			for _, ls := range live {
				if p.has(c.place(canonicalHash(ls))) {
					want++
				}
			}
			if got := c.within(p); got != want {
				t.Fatalf("%d series in a part of %d slots, want %d", got, p.held, want)
			}
		}
	}
	for i := range 3 * fewPlaces {
		ls := labels.FromStrings("i", fmt.Sprint(i))
		c.PostCreation(ls)
		live = append(live, ls)
		if i == fewPlaces/2 {
			check()
		}
	}
	if c.many == nil {
		t.Fatal("still a map")
	}
	check()
	gone := map[chunks.HeadSeriesRef]labels.Labels{}
	rng.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
	for i, ls := range live[:fewPlaces] {
		gone[chunks.HeadSeriesRef(i)] = ls
	}
	live = live[fewPlaces:]
	c.PostDeletion(gone)
	check()
}

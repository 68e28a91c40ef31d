package ring

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// moved is a slot that went from {1 2 3} to {1 2 4} at 2000 and was closed at 3000.
func moved(t *testing.T) *Table {
	t.Helper()
	tab := applied(t, oneSlot(t, SetOf(1, 2, 3), 2), SetOf(1, 2, 4), 2, 20, 2000)
	return tab.Close([]EpochKey{{0, 20}}, 30, 3000)
}

func TestCompleteAsksEveryEpochOfThePeriod(t *testing.T) {
	tab := moved(t)
	open := applied(t, oneSlot(t, SetOf(1, 2, 3), 2), SetOf(1, 2, 4), 2, 20, 2000)
	all := Period{math.MinInt64, math.MaxInt64}
	for _, c := range []struct {
		name     string
		tab      *Table
		period   Period
		slack    int64
		answered []Store
		missing  int
	}{
		{"old period, old replicas", tab, Period{1500, 1900}, 0, []Store{1, 3}, 0},
		{"old period, one old replica", tab, Period{1500, 1900}, 0, []Store{1, 4}, 1},
		{"between change and closing both count", tab, Period{2500, 2500}, 0, []Store{1, 4}, 1},
		{"between change and closing, both heard", tab, Period{2500, 2500}, 0, []Store{1, 2}, 0},
		{"after the closing", tab, Period{3001, 9999}, 0, []Store{1, 4}, 0},
		{"after the closing, within the slack", tab, Period{3001, 9999}, 5, []Store{1, 4}, 1},
		{"before the change, within the slack", tab, Period{1500, 1995}, 5, []Store{1, 3}, 1},
		{"an open epoch ends now, long after the change", open, Period{900000, 900000}, 0, []Store{1, 4}, 1},
		{"before all epochs", tab, Period{0, 10}, 0, nil, 0},
		{"for ever, heard", tab, all, 100, []Store{1, 2}, 0},
		{"for ever, nobody", tab, all, 100, nil, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.tab.Complete(c.period, c.slack, func(st Store, p Period) bool {
				if p.Begin > p.End || p.Begin < c.period.Begin || p.End > c.period.End {
					t.Errorf("asked for %v, outside of %v", p, c.period)
				}
				return slices.Contains(c.answered, st)
			})
			if len(got) != c.missing {
				t.Errorf("missing %+v, want %d", got, c.missing)
			}
		})
	}
}

func TestMissingSaysWhatIsMissing(t *testing.T) {
	got := moved(t).Complete(Period{2500, 9999}, 0, func(st Store, _ Period) bool { return st == 4 })
	if len(got) != 2 {
		t.Fatalf("missing %+v", got)
	}
	for _, m := range got {
		if !slices.Equal(m.Slots, []int{0}) || m.Need != 2 || m.Have+len(m.Silent) != 3 || m.Have >= m.Need {
			t.Errorf("missing %+v", m)
		}
	}
}

func TestStoresAreThoseOfThePeriod(t *testing.T) {
	for _, c := range []struct {
		period Period
		slack  int64
		want   []Store
	}{
		{Period{1500, 1500}, 0, []Store{1, 2, 3}},
		{Period{2500, 2500}, 0, []Store{1, 2, 3, 4}},
		{Period{3001, math.MaxInt64}, 0, []Store{1, 2, 4}},
		{Period{3001, math.MaxInt64}, 1, []Store{1, 2, 3, 4}},
		{Period{0, 10}, 0, nil},
	} {
		if got := moved(t).Stores(c.period, c.slack); !slices.Equal(got, c.want) {
			t.Errorf("%+v: stores %v, want %v", c.period, got, c.want)
		}
	}
}

func TestAnEmptyRingIsComplete(t *testing.T) {
	if got := emptyTable(t, 8).Complete(Period{0, 9999}, 0, func(Store, Period) bool { return false }); len(got) != 0 {
		t.Errorf("missing %+v of nothing", got)
	}
}

// The model tries only the largest set of answers without the sample; that is
// enough because one more answer never takes completeness away.
func TestOneMoreAnswerNeverHarms(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		store := rapid.Custom(func(rt *rapid.T) Store { return Store(rapid.IntRange(1, 6).Draw(rt, "store")) })
		tab, err := New([]Slot{{Replicas: SetOf(1, 2, 3), Quorum: 2, Changed: 1, Since: 1}}, nil)
		if err != nil {
			rt.Fatal(err)
		}
		for rev := uint64(2); rev < 8; rev++ {
			set := SetOf(rapid.SliceOfN(store, 1, 5).Draw(rt, "set")...)
			step := Step{Replicas: set, Quorum: rapid.IntRange(1, 5).Draw(rt, "quorum"), Base: tab.Slot(0).Changed}
			if tab, err = tab.Apply([]Step{step}, rev, int64(rev)); err != nil {
				rt.Fatal(err)
			}
			if rapid.Bool().Draw(rt, "close") {
				tab = closeAll(tab, rev)
			}
		}
		heard := rapid.SliceOfDistinct(store, func(s Store) Store { return s }).Draw(rt, "heard")
		more := append(slices.Clone(heard), store.Draw(rt, "more"))
		period := Period{int64(rapid.IntRange(0, 9).Draw(rt, "begin")), 9}
		by := func(heard []Store) int {
			return len(tab.Complete(period, 0, func(st Store, _ Period) bool { return slices.Contains(heard, st) }))
		}
		if by(more) > by(heard) {
			rt.Fatalf("%v lacks %d, %v lacks %d", heard, by(heard), more, by(more))
		}
	})
}

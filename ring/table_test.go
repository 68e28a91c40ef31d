package ring

import (
	"errors"
	"slices"
	"testing"
)

func oneSlot(t *testing.T, set Set, quorum int) *Table {
	t.Helper()
	tab, err := New([]Slot{{Replicas: set, Quorum: quorum, Changed: 10, Since: 1000}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func applied(t *testing.T, tab *Table, set Set, quorum int, rev uint64, now int64) *Table {
	t.Helper()
	tab, err := tab.Apply([]Step{{Slot: 0, Replicas: set, Quorum: quorum, Base: tab.Slot(0).Changed}}, rev, now)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestApplyKeepsTheEpochThatItEnds(t *testing.T) {
	before := oneSlot(t, SetOf(1, 2, 3), 2)
	after := applied(t, before, SetOf(1, 4, 3), 2, 20, 2000)
	want := Epoch{Slot: 0, Replicas: SetOf(1, 2, 3), Quorum: 2, From: 10, To: 20, Begin: 1000, End: 2000}
	if got := after.Past(); len(got) != 1 || got[0] != want {
		t.Errorf("past %+v, want %+v", got, want)
	}
	if got := after.Slot(0); got != (Slot{SetOf(1, 4, 3), 2, 20, 2000}) {
		t.Errorf("slot %+v", got)
	}
	if len(before.Past()) != 0 || before.Slot(0).Changed != 10 {
		t.Errorf("the table that was has changed: %+v", before.Slot(0))
	}
}

func TestApplyKeepsNoEpochThatNothingWasWrittenIn(t *testing.T) {
	for _, c := range []struct {
		name string
		tab  func() *Table
		past int
	}{
		{"nobody held it", func() *Table { return applied(t, oneSlot(t, SetOf(), 2), SetOf(1, 2, 3), 2, 20, 2000) }, 0},
		{"another order", func() *Table { return applied(t, oneSlot(t, SetOf(1, 2, 3), 2), SetOf(3, 2, 1), 2, 20, 2000) }, 0},
		{"twice in one revision", func() *Table {
			return applied(t, applied(t, oneSlot(t, SetOf(1, 2, 3), 2), SetOf(1, 2), 2, 20, 2000), SetOf(1, 2, 4), 2, 20, 2000)
		}, 1},
	} {
		if got := c.tab().Past(); len(got) != c.past {
			t.Errorf("%s: past %+v, want %d", c.name, got, c.past)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	tab := oneSlot(t, SetOf(1, 2, 3), 2)
	for _, c := range []struct {
		name  string
		steps []Step
		rev   uint64
		want  error
	}{
		{"a slot it does not have", []Step{{Slot: 1}}, 20, nil},
		{"a negative slot", []Step{{Slot: -1}}, 20, nil},
		{"two steps of one slot", []Step{{Base: 10}, {Base: 10}}, 20, nil},
		{"a slot that moved since", []Step{{Base: 9}}, 20, ErrMoved},
		{"a revision before the slot's", []Step{{Base: 10, Quorum: 2}}, 9, nil},
	} {
		if _, err := tab.Apply(c.steps, c.rev, 2000); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}

func TestTimesNeverRunBackwards(t *testing.T) {
	tab := applied(t, oneSlot(t, SetOf(1, 2, 3), 2), SetOf(1, 2, 4), 2, 20, 500)
	if e := tab.Past()[0]; e.End < e.Begin || tab.Slot(0).Since < e.End {
		t.Errorf("epoch %+v, then %+v", e, tab.Slot(0))
	}
	tab = tab.Close([]EpochKey{{0, 20}}, 21, 400)
	if e := tab.Past()[0]; e.ClosedAt < e.End {
		t.Errorf("closed before it ended: %+v", e)
	}
}

func TestNewRefusesWhatIsNoTable(t *testing.T) {
	for _, n := range []int{0, 3, MaxSlots * 2} {
		if _, err := New(make([]Slot, n), nil); err == nil {
			t.Errorf("%d slots are a table", n)
		}
	}
	if _, err := New(make([]Slot, 2), []Epoch{{Slot: 2}}); err == nil {
		t.Error("an epoch of a slot that does not exist is kept")
	}
	for _, n := range []int{-1, 0, 12, MaxSlots + 1} {
		if _, err := Empty(n, 2, 1, 0); err == nil {
			t.Errorf("%d slots are an empty table", n)
		}
	}
}

func TestClosableNeedsAWitnessOfEveryQuorum(t *testing.T) {
	for _, c := range []struct {
		name      string
		n, quorum int
		announced []uint64 // by replica
		lost      []Store
		want      bool
	}{
		{"one of three, quorum two", 3, 2, []uint64{20, 19, 0}, nil, false},
		{"two of three, quorum two", 3, 2, []uint64{20, 0, 25}, nil, true},
		{"quorum all: one speaks for all", 3, 3, []uint64{0, 20, 0}, nil, true},
		{"quorum one: all must speak", 3, 1, []uint64{20, 20, 19}, nil, false},
		{"a lost one is not waited for", 2, 1, []uint64{20, 0}, []Store{2}, true},
		{"but it does not speak", 3, 2, []uint64{20, 20, 0}, []Store{1}, false},
		{"all lost", 2, 1, []uint64{0, 0}, []Store{1, 2}, true},
		{"below its quorum nothing was acknowledged", 1, 2, []uint64{0}, nil, true},
	} {
		var set Set
		for i := range c.n {
			set = set.With(Store(i + 1))
		}
		e := Epoch{Replicas: set, Quorum: c.quorum, From: 10, To: 20}
		got := e.Closable(
			func(st Store) uint64 { return c.announced[st-1] },
			func(st Store) bool { return slices.Contains(c.lost, st) },
		)
		if got != c.want {
			t.Errorf("%s: closable %t", c.name, got)
		}
	}
}

func TestCloseAndExpire(t *testing.T) {
	tab := applied(t, oneSlot(t, SetOf(1, 2, 3), 2), SetOf(1, 2, 4), 2, 20, 2000)
	if tab.Settled(0) || len(tab.Open()) != 1 {
		t.Fatal("settled before its epoch is closed")
	}
	if same := tab.Expire(9999); len(same.Past()) != 1 {
		t.Error("an open epoch expires")
	}
	if other := tab.Close([]EpochKey{{0, 21}, {5, 20}}, 30, 3000); other.Settled(0) {
		t.Error("a key that names no epoch closes one")
	}
	shut := tab.Close([]EpochKey{{0, 20}}, 30, 3000)
	if !shut.Settled(0) || len(shut.Open()) != 0 {
		t.Error("not settled when its epoch is closed")
	}
	if again := shut.Close([]EpochKey{{0, 20}}, 40, 4000); again.Past()[0] != shut.Past()[0] {
		t.Error("closed twice")
	}
	if len(shut.Expire(3000).Past()) != 1 || len(shut.Expire(3001).Past()) != 0 {
		t.Error("an epoch expires by its closing, not by its end")
	}
	if got := shut.Expire(3001).Stores(Period{0, 5000}, 0); !slices.Equal(got, []Store{1, 2, 4}) {
		t.Errorf("stores %v after the expiry", got)
	}
}

func TestPassedAsksEveryEpochThatTakesWrites(t *testing.T) {
	tab := applied(t, oneSlot(t, SetOf(1, 2, 3), 2), SetOf(4, 2, 3), 2, 20, 2000)
	announced := map[Store]uint64{2: 40, 4: 40}
	ask := func(tab *Table) bool {
		return tab.Passed(40, func(st Store) uint64 { return announced[st] }, func(Store) bool { return false })
	}
	if ask(tab) {
		t.Error("passed, though 1 and 3 may still take a write in the epoch before")
	}
	if !ask(closeAll(tab, 30)) {
		t.Error("not passed, though two of the three that take writes announced")
	}
	announced[2] = 39
	if ask(closeAll(tab, 30)) {
		t.Error("passed by a store that is behind")
	}
}

func TestOwnersAllocatesNothing(t *testing.T) {
	tab := planned(t, 64, equalNodes(1, 5), 3)
	dst := make([]Store, 0, MaxReplicas)
	if n := testing.AllocsPerRun(100, func() { dst = tab.Owners(dst[:0], 7) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if !slices.Equal(dst, tab.Slot(7).Replicas.Append(nil)) {
		t.Errorf("owners %v of %v", dst, tab.Slot(7))
	}
}

func TestHeldAndShort(t *testing.T) {
	tab := tableOf(t, []Set{SetOf(1, 2), SetOf(2)})
	if got := tab.Held(); got[1] != 1 || got[2] != 2 {
		t.Errorf("held %v", got)
	}
	if got := tab.Short(2); got != 1 {
		t.Errorf("%d slots are short", got)
	}
}

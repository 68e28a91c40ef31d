package ring

import "testing"

// What is announced, and by whom it was closed, decides; slot 0 is followed.
func TestLeftByOnlyWhatNoSampleComesTo(t *testing.T) {
	table := func(t *testing.T, close bool, sets ...Set) *Table {
		t.Helper()
		tab, err := Empty(2, 2, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		for n, set := range sets {
			rev := uint64(10 * (n + 1))
			tab, err = tab.Apply([]Step{{Slot: 0, Replicas: set, Quorum: 2, Base: tab.Slot(0).Changed}}, rev, int64(rev))
			if err != nil {
				t.Fatal(err)
			}
			if close {
				tab = tab.Close([]EpochKey{{Slot: 0, To: rev}}, rev+1, int64(rev)+1)
			}
		}
		return tab
	}
	ours, theirs, others := SetOf(1, 2, 3), SetOf(2, 3, 4), SetOf(3, 4, 5)
	for _, c := range []struct {
		name      string
		closed    bool
		sets      []Set
		announced uint64
		left      bool
	}{
		{"held", true, []Set{ours}, 99, false},
		{"moved, closed, announced", true, []Set{ours, theirs}, 20, true},
		{"moved, closed, a share of ours in flight", true, []Set{ours, theirs}, 19, false},
		{"moved, not closed", false, []Set{ours, theirs}, 99, false},
		{"moved twice, closed, announced", true, []Set{ours, theirs, others}, 30, true},
		{"moved twice, the last change not heard of", true, []Set{ours, theirs, others}, 29, false},
		{"came back", true, []Set{ours, theirs, ours}, 99, false},
		{"came back and went", true, []Set{ours, theirs, ours, theirs}, 40, true},
		{"never held", true, []Set{theirs}, 10, true},
		{"never held, an epoch of others open", false, []Set{theirs, others}, 20, true},
		{"never held, not announced", true, []Set{theirs}, 9, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := table(t, c.closed, c.sets...)
			h := tab.LeftBy(1, c.announced)
			if h.Has(0) != c.left {
				t.Fatalf("left: %v, want %v", h.Has(0), c.left)
			}
			if want := tab.Slot(0).Changed; h.Newest() != want {
				t.Fatalf("newest change %d, want %d", h.Newest(), want)
			}
			// What has expired was closed.
			if got := tab.Expire(1<<40).LeftBy(1, c.announced); c.closed && got.Has(0) != c.left {
				t.Fatalf("left once the past is forgotten: %v, want %v", got.Has(0), c.left)
			}
		})
	}
}

func TestHeldWithin(t *testing.T) {
	of := func(slots ...int) (h Held) {
		h.bits = make([]uint64, 2)
		for _, s := range slots {
			h.bits[s/64] |= 1 << (s % 64)
		}
		return h
	}
	for _, c := range []struct {
		h, o Held
		want bool
	}{
		{of(), of(), true},
		{of(), Held{}, true},
		{of(1), Held{}, false},
		{of(1, 100), of(1, 2, 100), true},
		{of(1, 100), of(1, 2), false},
		{of(3), of(1, 100), false},
	} {
		if got := c.h.Within(c.o); got != c.want {
			t.Errorf("%v within %v: %v", c.h.bits, c.o.bits, got)
		}
	}
}

package ring

import (
	"slices"
	"testing"
)

// stepTo gives one slot other replicas.
func stepTo(t *testing.T, table *Table, slot int, rev uint64, now int64, stores ...Store) *Table {
	t.Helper()
	next, err := table.Apply([]Step{{Slot: slot, Replicas: SetOf(stores...), Quorum: 1, Base: table.Slot(slot).Changed}}, rev, now)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestTenureCountsFromWhenAStoreTookASlotOver(t *testing.T) {
	table, err := Empty(8, 1, 1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	table = stepTo(t, table, 0, 2, 2000, 1)    // the first who ever had it
	table = stepTo(t, table, 1, 3, 3000, 2)    //
	table = stepTo(t, table, 1, 4, 4000, 2, 1) // comes to another
	table = stepTo(t, table, 1, 5, 5000, 1)    // and stays where the other goes
	table = stepTo(t, table, 2, 6, 6000, 1)    //
	table = stepTo(t, table, 2, 7, 7000, 2)    // goes
	table = stepTo(t, table, 2, 8, 8000, 2, 1) // and comes back
	table = stepTo(t, table, 3, 9, 9000, 2)    // is never had
	table = stepTo(t, table, 4, 10, 4000, 3)   //
	table = stepTo(t, table, 4, 11, 4000, 1)   // at the same time as another slot
	held := func(time int64) (slots []int) {
		n := table.TenureOf(1)
		for i := range n.Slots() {
			if n.HeldBefore(i, time) {
				slots = append(slots, i)
			}
		}
		return slots
	}
	for _, c := range []struct {
		time int64
		want []int
	}{{0, []int{0}}, {3999, []int{0}}, {4000, []int{0, 1, 4}}, {7999, []int{0, 1, 4}}, {8000, []int{0, 1, 2, 4}}, {1 << 60, []int{0, 1, 2, 4}}} {
		if got := held(c.time); !slices.Equal(got, c.want) {
			t.Errorf("held before %d: %v, want %v", c.time, got, c.want)
		}
	}
	n := table.TenureOf(1)
	if n.Steps(3999) != 0 || n.Steps(4000) != 1 || n.Steps(7999) != 1 || n.Steps(8000) != 2 {
		t.Errorf("steps %d %d %d %d, want 0 1 1 2", n.Steps(3999), n.Steps(4000), n.Steps(7999), n.Steps(8000))
	}
	if n := table.TenureOf(9); n.Steps(1<<60) != 0 || n.HeldBefore(0, 1<<60) {
		t.Error("a store that holds nothing has a tenure")
	}
}

package ring

import (
	"testing"

	"pgregory.net/rapid"
)

func TestOneReplicaAStep(t *testing.T) {
	for _, c := range []struct {
		name        string
		now, target Set
		quorum      int // now
		wantSet     Set
		wantQuorum  int // of a target quorum of 2
	}{
		{"an empty slot at once", SetOf(), SetOf(1, 2, 3), 2, SetOf(1, 2, 3), 2},
		{"one replaced in its place", SetOf(1, 2, 3), SetOf(1, 4, 3), 2, SetOf(1, 4, 3), 2},
		{"two replaced, one after another", SetOf(1, 2, 3), SetOf(4, 5, 3), 2, SetOf(4, 2, 3), 2},
		{"growing, the quorum follows", SetOf(1), SetOf(1, 2, 3), 1, SetOf(1, 2), 2},
		{"adding comes before replacing", SetOf(1, 9), SetOf(1, 2, 3), 2, SetOf(1, 9, 2), 2},
		{"shrinking", SetOf(1, 2, 3), SetOf(1, 3), 2, SetOf(1, 3), 2},
		{"replacing comes before shrinking", SetOf(1, 2, 3), SetOf(4, 3), 2, SetOf(4, 2, 3), 2},
		{"a quorum alone", SetOf(1, 2, 3), SetOf(3, 2, 1), 3, SetOf(1, 2, 3), 2},
		{"a ring that stays short", SetOf(1, 2), SetOf(1), 1, SetOf(1), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab, err := New([]Slot{{Replicas: c.now, Quorum: c.quorum, Changed: 7}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			steps := NextSteps(tab, []Set{c.target}, 2)
			if len(steps) != 1 {
				t.Fatalf("%d steps, want 1", len(steps))
			}
			if got := steps[0]; !got.Replicas.Same(c.wantSet) || got.Quorum != c.wantQuorum || got.Base != 7 {
				t.Errorf("step %+v, want %v with quorum %d", got, c.wantSet, c.wantQuorum)
			}
			if got := steps[0]; c.now.Len() == c.wantSet.Len() && got.Replicas != c.wantSet {
				t.Errorf("set %v, want the order of %v", got.Replicas, c.wantSet)
			}
		})
	}
}

func TestGrowingRefusesNoWrite(t *testing.T) {
	tab, err := New([]Slot{{Replicas: SetOf(1), Quorum: 1, Changed: 1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	target := []Set{SetOf(1, 2, 3, 4, 5)}
	for rev := uint64(2); ; rev += 2 {
		steps := NextSteps(tab, target, 5)
		if len(steps) == 0 {
			break
		}
		if tab, err = tab.Apply(steps, rev, int64(rev)); err != nil {
			t.Fatal(err)
		}
		if s := tab.Slot(0); s.Quorum > s.Replicas.Len() {
			t.Fatalf("quorum %d of %v", s.Quorum, s.Replicas)
		}
		tab = closeAll(tab, rev+1)
	}
	if s := tab.Slot(0); s.Replicas.Len() != 5 || s.Quorum != 5 {
		t.Errorf("ended at %+v", s)
	}
}

func TestUnsettledSlotsWait(t *testing.T) {
	tab, err := New([]Slot{{Replicas: SetOf(1, 2), Quorum: 1, Changed: 1}, {Replicas: SetOf(1, 2), Quorum: 1, Changed: 1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tab, err = tab.Apply([]Step{{Slot: 0, Replicas: SetOf(1, 3), Quorum: 1, Base: 1}}, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	target := []Set{SetOf(4, 3), SetOf(4, 3)}
	if steps := NextSteps(tab, target, 1); len(steps) != 1 || steps[0].Slot != 1 {
		t.Errorf("steps %v, want one of slot 1", steps)
	}
	if steps := NextSteps(closeAll(tab, 3), target, 1); len(steps) != 2 {
		t.Errorf("steps %v once the epoch is closed, want two", steps)
	}
}

// closeAll closes every epoch, as a leader does that heard all announcements.
func closeAll(t *Table, rev uint64) *Table {
	var keys []EpochKey
	for _, e := range t.Open() {
		keys = append(keys, EpochKey{e.Slot, e.To})
	}
	return t.Close(keys, rev, int64(rev))
}

// A leader that plans anew after every commit moves no more than one that kept
// its first plan, and ends where that plan ends: balanced.
func TestReplanningOnTheWayCostsNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rf := rapid.IntRange(1, 5).Draw(rt, "rf")
		n := rapid.IntRange(rf, 8).Draw(rt, "n")
		tab := planned(t, 128, equalNodes(1, n), rf)
		nodes := equalNodes(Store(rapid.IntRange(1, n).Draw(rt, "first")), rapid.IntRange(1, 8).Draw(rt, "then"))
		rf = rapid.IntRange(1, 5).Draw(rt, "rf then")
		quorum := Majority.Quorum(rf)
		first := moves(tab, Plan(tab, nodes, rf))
		moved := 0
		for rev := uint64(2); ; rev += 2 {
			target := Plan(tab, nodes, rf)
			steps := NextSteps(tab, target, quorum)
			if len(steps) == 0 {
				checkPlan(rt, target, nodes, rf)
				break
			}
			if rev > 2000 {
				rt.Fatalf("no end: %d steps are left", len(steps))
			}
			some := steps[:(len(steps)+2)/3]
			for _, s := range some {
				if d := tab.Slot(s.Slot).Replicas.distance(s.Replicas); d > 1 {
					rt.Fatalf("a step of %d replicas: %v", d, s)
				}
			}
			next, err := tab.Apply(some, rev, int64(rev))
			if err != nil {
				rt.Fatal(err)
			}
			sets := make([]Set, next.Slots())
			for i := range sets {
				sets[i] = next.Slot(i).Replicas
			}
			moved += moves(tab, sets)
			tab = closeAll(next, rev+1)
		}
		if moved > first+len(nodes) {
			rt.Fatalf("%d replicas moved, planned were %d", moved, first)
		}
	})
}

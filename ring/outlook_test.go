package ring

import (
	"testing"

	"pgregory.net/rapid"
)

// TestOutlookAgainstCounting takes every zone and every two nodes away, one after
// the other, and counts.
func TestOutlookAgainstCounting(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newCourse(rt, 16, 9, 3)
		s.plan(func([]Set) {})
		slots := make([]Slot, 16)
		for i := range slots {
			slots[i] = Slot{Replicas: s.tab.Slot(i).Replicas, Quorum: rapid.IntRange(1, 5).Draw(rt, "quorum")}
		}
		tab, err := New(slots, nil)
		if err != nil {
			rt.Fatal(err)
		}
		got := OutlookOf(tab, s.nodes)
		without := func(gone func(n Node) bool) (below int) {
			for i := range 16 {
				set := tab.Slot(i).Replicas
				for _, n := range s.nodes {
					if gone(n) {
						set = set.Without(n.Store)
					}
				}
				if set.Len() < tab.Slot(i).Quorum && tab.Slot(i).Replicas.Len() >= tab.Slot(i).Quorum {
					below++
				}
			}
			return below
		}
		two, worstSeen := TwoLost{}, false
		for i, a := range s.nodes {
			for _, b := range s.nodes[i+1:] {
				n := without(func(n Node) bool { return n.Store == a.Store || n.Store == b.Store })
				two.Pairs++
				two.Slots += n
				if n > 0 {
					two.Touching++
				}
				two.Worst = max(two.Worst, n)
				if n == got.Two.Worst && a.Store == got.Two.A && b.Store == got.Two.B {
					worstSeen = true
				}
			}
		}
		if g := got.Two; g.Pairs != two.Pairs || g.Slots != two.Slots || g.Touching != two.Touching || g.Worst != two.Worst || g.Worst > 0 && !worstSeen {
			rt.Fatalf("got %+v, want %+v", g, two)
		}
		for _, z := range got.Zones {
			if n := without(func(n Node) bool { return n.Zone == z.Zone }); n != z.Below {
				rt.Fatalf("without zone %s %d slots are below their quorum, not %d", z.Zone, n, z.Below)
			}
		}
		if got.Sets != distinct(setsOf(tab)) {
			rt.Fatalf("%d sets, not %d", distinct(setsOf(tab)), got.Sets)
		}
		if pairs := pairsOf(setsOf(tab), s.nodes); (pairs == 0) != (got.Apart == 16) {
			rt.Fatalf("%d slots are apart, with %d pairs in one zone", got.Apart, pairs)
		}
	})
}

// TestRoundsAreThoseOfTheSteps commits all steps that are due, round by round.
func TestRoundsAreThoseOfTheSteps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newCourse(rt, 8, 8, 3)
		s.plan(func([]Set) {})
		s.change()
		target, quorum, tab := Plan(s.tab, s.nodes, s.rf), Majority.Quorum(s.rf), s.tab
		want, rounds := Rounds(tab, target, quorum), 0
		for {
			steps := NextSteps(tab, target, quorum)
			if len(steps) == 0 {
				break
			}
			rounds++
			next, err := tab.Apply(steps, uint64(2*rounds), int64(rounds))
			if err != nil {
				rt.Fatal(err)
			}
			tab = closeAll(next, uint64(2*rounds+1))
		}
		if rounds != want {
			rt.Fatalf("%d rounds, said were %d", rounds, want)
		}
	})
}

func BenchmarkOutlook(b *testing.B) {
	nodes := inZones(equalNodes(1, 1000), 3)
	tab := planned(b, 16384, nodes, 3)
	for b.Loop() {
		OutlookOf(tab, nodes)
	}
}

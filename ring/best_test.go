package ring

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// course is a ring through its changes.
type course struct {
	*rapid.T
	nodes []Node
	rf    int
	next  Store
	equal bool // weights
	zones int
	tab   *Table
}

func newCourse(rt *rapid.T, slots, maxNodes, maxZones int) *course {
	s := &course{T: rt, next: 1, rf: rapid.IntRange(1, MaxReplicas).Draw(rt, "rf")}
	s.equal = rapid.Bool().Draw(rt, "equal weights")
	s.zones = rapid.IntRange(1, maxZones).Draw(rt, "zones")
	for range rapid.IntRange(1, maxNodes).Draw(rt, "nodes") {
		s.join()
	}
	s.tab = emptyTable(rt, slots)
	return s
}

func (s *course) weight() uint32 {
	if s.equal {
		return UsualWeight
	}
	return rapid.SampledFrom([]uint32{0, 1, 50, 100, 100, 150, 400}).Draw(s.T, "weight")
}

func (s *course) zone() string { return fmt.Sprint(rapid.IntRange(1, s.zones).Draw(s.T, "zone")) }

func (s *course) join() {
	s.nodes = append(s.nodes, Node{s.next, s.weight(), s.zone()})
	s.next++
}

// change is one of all that may happen to a ring.
func (s *course) change() string {
	s.nodes = slices.Clone(s.nodes)
	i := rapid.IntRange(0, len(s.nodes)-1).Draw(s.T, "node")
	kind := rapid.SampledFrom([]string{"join", "leave", "replace", "factor", "zone", "weight", "node list"}).Draw(s.T, "change")
	switch kind {
	case "leave":
		if len(s.nodes) > 1 {
			s.nodes = slices.Delete(s.nodes, i, i+1)
		}
	case "replace": // the same node with a new store
		s.nodes[i].Store = s.next
		s.next++
	case "factor":
		s.rf = rapid.IntRange(1, MaxReplicas).Draw(s.T, "rf")
	case "zone":
		s.nodes[i].Zone = s.zone()
	case "weight":
		s.nodes[i].Weight = s.weight()
	case "node list": // some come and some go at once
		s.nodes = s.nodes[i:]
		s.join()
		s.join()
	default:
		s.join()
	}
	return kind
}

// plan plans, checks what every plan promises, and commits.
func (s *course) plan(check func(sets []Set)) {
	sets := Plan(s.tab, s.nodes, s.rf)
	checkPlan(s, sets, s.nodes, s.rf)
	check(sets)
	s.tab = tableOf(s, sets)
}

// TestNoPlanIsBetter: whatever a ring has been through, the plan has the fewest
// pairs of replicas in one zone that the caps of nodes allow, and with these and
// the shares the fewest moves. The shares themselves cost no pair, and are as
// even as that allows.
func TestNoPlanIsBetter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := 1 << rapid.IntRange(2, 4).Draw(rt, "slots")
		s := newCourse(rt, slots, 9, 4)
		for range 6 {
			s.plan(func(sets []Set) {
				shares := Shares(s.nodes, slots, s.rf)
				least, most := withinOne(shares)
				free, _, ok := bestPlan(s.tab, s.nodes, s.rf, make([]int, len(s.nodes)), fairCaps(s.nodes, slots, s.rf))
				pairs, fewest, feasible := bestPlan(s.tab, s.nodes, s.rf, least, most)
				if !ok || !feasible {
					rt.Fatalf("nobody can hold to the shares %v of %v, rf %d", shares, s.nodes, s.rf)
				}
				if pairs != free {
					rt.Fatalf("%d pairs share a zone with the shares %v of %v, rf %d; %d need", pairs, shares, s.nodes, s.rf, free)
				}
				checkShares(rt, shares, s.nodes, slots, s.rf)
				if got := pairsOf(sets, s.nodes); got != pairs {
					rt.Fatalf("%d pairs share a zone, %d need", got, pairs)
				}
				if got := moves(s.tab, sets); got != fewest {
					rt.Fatalf("%d replicas move, %d must", got, fewest)
				}
			})
			s.change()
		}
	})
}

// checkShares checks that no share could be nearer to the weights: who has more
// than another by weight cannot hand any on, because that one is at its cap, or
// because it stands in another zone and a pair more would share one.
func checkShares(t fataler, shares []float64, nodes []Node, slots, rf int) {
	t.Helper()
	const near = 1e-3
	caps := fairCaps(nodes, slots, rf)
	inZone, sum := map[string]float64{}, 0.0
	for i, n := range nodes {
		inZone[n.Zone] += shares[i]
		sum += shares[i]
	}
	if math.Abs(sum-float64(slots*min(rf, len(nodes)))) > near {
		t.Fatalf("the shares %v are %v slots", shares, sum)
	}
	by := func(i int) float64 {
		if nodes[i].Weight == 0 {
			return shares[i] / UsualWeight
		}
		return shares[i] / float64(nodes[i].Weight)
	}
	for i := range nodes {
		for j := range nodes {
			if by(i) <= by(j)+near || shares[j] > float64(caps[j])-near {
				continue
			}
			saved := math.Ceil((inZone[nodes[i].Zone]-near)/float64(slots)) - 1
			added := math.Floor((inZone[nodes[j].Zone] + near) / float64(slots))
			if nodes[i].Zone == nodes[j].Zone || added <= saved {
				t.Fatalf("store %d has %v slots, store %d only %v: %v, rf %d", nodes[i].Store, shares[i], nodes[j].Store, shares[j], nodes, rf)
			}
		}
	}
}

// TestAChangeMovesWhatNodesGetMore and nothing beyond, where any plan can. Where
// more moves, as few as can be: replicas must be taken apart that stand in one
// zone, or whoever should get more holds the slots already that are to be had.
func TestAChangeMovesWhatNodesGetMore(t *testing.T) {
	beyond := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		s := newCourse(rt, 1<<rapid.IntRange(4, 6).Draw(rt, "slots"), 20, 4)
		kind := "fresh"
		for range 5 {
			s.plan(func(sets []Set) {
				now, then, more := s.tab.Held(), heldBy(sets), 0
				for store, n := range then {
					more += max(0, n-now[store])
				}
				got := moves(s.tab, sets)
				if got == more {
					return
				}
				beyond[kind]++
				least, most := withinOne(Shares(s.nodes, s.tab.Slots(), s.rf))
				if _, fewest, _ := bestPlan(s.tab, s.nodes, s.rf, least, most); got != fewest {
					rt.Fatalf("%d replicas move, %d must", got, fewest)
				}
			})
			kind = s.change()
		}
	})
	t.Logf("more had to move by kind of change: %v", beyond)
}

// TestALeaveMovesExactlyItsOwn, also where zones stay as spread as they were.
func TestALeaveMovesExactlyItsOwn(t *testing.T) {
	for _, c := range []struct{ zones, rf, each int }{
		{1, 1, 2}, {1, 2, 5}, {1, 3, 4}, {1, 3, 30}, {1, 5, 9}, {2, 1, 4}, {3, 1, 3}, {3, 2, 4}, {4, 2, 3}, {4, 3, 5}, {5, 3, 6}, {10, 3, 3}, {10, 5, 10},
	} {
		var nodes []Node
		for i := range c.zones * c.each {
			nodes = append(nodes, Node{Store(i + 1), UsualWeight, fmt.Sprint(i % c.zones)})
		}
		tab := planned(t, 1024, nodes, c.rf)
		for gone := range min(len(nodes), 5) {
			left := slices.Delete(slices.Clone(nodes), gone, gone+1)
			sets := Plan(tab, left, c.rf)
			checkPlan(t, sets, left, c.rf)
			if got, own := moves(tab, sets), tab.Held()[nodes[gone].Store]; got != own {
				t.Errorf("%d zones of %d nodes, rf %d: %d replicas move, the leaver had %d", c.zones, c.each, c.rf, got, own)
			}
		}
	}
}

// TestAJoinMovesExactlyTheShare, in tables that were laid out with zones and have
// been grown, from three nodes to some hundreds.
func TestAJoinMovesExactlyTheShare(t *testing.T) {
	for _, c := range []struct{ zones, rf, nodes int }{
		{1, 3, 3}, {1, 5, 299}, {3, 2, 9}, {4, 2, 40}, {5, 3, 25}, {10, 2, 100}, {10, 3, 300}, {10, 5, 200},
	} {
		var nodes []Node
		for i := range c.nodes + 3 {
			nodes = append(nodes, Node{Store(i + 1), UsualWeight, fmt.Sprint(i % c.zones)})
		}
		tab := planned(t, 4096, nodes[:c.nodes], c.rf)
		for n := c.nodes + 1; n <= len(nodes); n++ {
			sets := Plan(tab, nodes[:n], c.rf)
			checkPlan(t, sets, nodes[:n], c.rf)
			if got, want := moves(tab, sets), 4096*c.rf/n; got != want {
				t.Errorf("%d zones, rf %d: the join of node %d moves %d replicas, want %d", c.zones, c.rf, n, got, want)
			}
			tab = tableOf(t, sets)
		}
	}
}

// TestPlansOfAnySize: up to a thousand nodes in ten zones, through all changes.
func TestPlansOfAnySize(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := 1 << rapid.IntRange(8, 11).Draw(rt, "slots")
		most := rapid.SampledFrom([]int{10, 30, 100, 300, 1000}).Draw(rt, "most")
		s := newCourse(rt, slots, most, 10)
		for range 3 {
			s.plan(func([]Set) {})
			if n := moves(s.tab, Plan(s.tab, s.nodes, s.rf)); n != 0 {
				rt.Fatalf("%d replicas of a table that was just planned move", n)
			}
			s.change()
		}
	})
}

// TestStepsKeepWhatTheyHave: any of the steps that are due are committed, the
// leader plans anew in between, and somewhere on the way something else changes.
// Every table on the way has distinct replicas, no slot has fewer than it had or
// should have, each step is one replica, and all end where a plan moves nothing,
// after no more moves than the plans said.
func TestStepsKeepWhatTheyHave(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newCourse(rt, 32, 10, 4)
		s.plan(func([]Set) {})
		s.change()
		moved, promised := 0, moves(s.tab, Plan(s.tab, s.nodes, s.rf))
		turns := rapid.IntRange(0, 3).Draw(rt, "turns")
		for rev := uint64(2); ; rev += 2 {
			if turns > 0 && rapid.IntRange(0, 3).Draw(rt, "turn") == 0 {
				turns--
				s.change()
				promised = moved + moves(s.tab, Plan(s.tab, s.nodes, s.rf))
			}
			quorum := Majority.Quorum(s.rf)
			steps := NextSteps(s.tab, Plan(s.tab, s.nodes, s.rf), quorum)
			if len(steps) == 0 {
				break
			}
			if rev > 4000 {
				rt.Fatalf("no end: %d steps are left", len(steps))
			}
			if first := rapid.IntRange(0, len(steps)-1).Draw(rt, "first"); first > 0 {
				steps = steps[first:]
			}
			for _, st := range steps {
				was := s.tab.Slot(st.Slot).Replicas
				if n := st.Replicas.Len(); n < min(was.Len(), s.rf, len(s.nodes)) || n > max(was.Len(), s.rf) {
					rt.Fatalf("slot %d: from %v to %v at rf %d of %d nodes", st.Slot, was, st.Replicas, s.rf, len(s.nodes))
				}
				if d := was.distance(st.Replicas); d > 1 {
					rt.Fatalf("a step of %d replicas: from %v to %v", d, was, st.Replicas)
				}
				if SetOf(st.Replicas.Append(nil)...) != st.Replicas {
					rt.Fatalf("slot %d: %v", st.Slot, st.Replicas)
				}
			}
			next, err := s.tab.Apply(steps, rev, int64(rev))
			if err != nil {
				rt.Fatal(err)
			}
			moved += moves(s.tab, setsOf(next))
			s.tab = closeAll(next, rev+1)
		}
		checkPlan(s, setsOf(s.tab), s.nodes, s.rf)
		if moved > promised {
			rt.Fatalf("%d replicas moved, %d were promised", moved, promised)
		}
	})
}

func setsOf(t *Table) []Set {
	out := make([]Set, t.Slots())
	for i := range out {
		out[i] = t.Slot(i).Replicas
	}
	return out
}

package ring

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// equalNodes are the nodes from store first on, of equal weight, in no zone.
func equalNodes(first Store, n int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{Store: first + Store(i), Weight: UsualWeight}
	}
	return nodes
}

func emptyTable(t fataler, slots int) *Table {
	t.Helper()
	tab, err := Empty(slots, 2, 1, 0)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return tab
}

// tableOf is a table whose slots have these sets.
func tableOf(t fataler, sets []Set) *Table {
	t.Helper()
	slots := make([]Slot, len(sets))
	for i, s := range sets {
		slots[i] = Slot{Replicas: s, Quorum: 2, Changed: 1}
	}
	tab, err := New(slots, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return tab
}

// planned is a settled table of these nodes.
func planned(t fataler, slots int, nodes []Node, rf int) *Table {
	t.Helper()
	return tableOf(t, Plan(emptyTable(t, slots), nodes, rf))
}

// moves counts the replicas of the target that the table does not have.
func moves(t *Table, target []Set) int {
	n := 0
	for i, s := range target {
		for r := range s.Len() {
			if !t.Slot(i).Replicas.Has(s.At(r)) {
				n++
			}
		}
	}
	return n
}

// pairsOf counts the pairs of replicas that share a slot and a zone.
func pairsOf(sets []Set, nodes []Node) int {
	zone := map[Store]string{}
	for _, n := range nodes {
		zone[n.Store] = n.Zone
	}
	sum := 0
	for _, s := range sets {
		in := map[string]int{}
		for r := range s.Len() {
			sum += in[zone[s.At(r)]]
			in[zone[s.At(r)]]++
		}
	}
	return sum
}

func heldBy(sets []Set) map[Store]int {
	held := map[Store]int{}
	for _, s := range sets {
		for r := range s.Len() {
			held[s.At(r)]++
		}
	}
	return held
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkPlan checks what every plan promises, whatever it started from.
func checkPlan(t fataler, sets []Set, nodes []Node, rf int) {
	t.Helper()
	want := min(rf, len(nodes))
	for i, s := range sets {
		if s.Len() != want {
			t.Fatalf("slot %d has %d replicas, want %d", i, s.Len(), want)
		}
	}
	held, shares, fair := heldBy(sets), Shares(nodes, len(sets), rf), fairShares(nodes, len(sets), rf)
	for i, n := range nodes {
		got := float64(held[n.Store])
		if math.Abs(got-shares[i]) >= 1 {
			t.Fatalf("store %d holds %v slots, its feasible share is %v", n.Store, got, shares[i])
		}
		if got > math.Ceil(fair[i]) && got > 1.25*fair[i]+1e-6 {
			t.Fatalf("store %d holds %v slots, its fair share is %v", n.Store, got, fair[i])
		}
		delete(held, n.Store)
	}
	if len(held) > 0 {
		t.Fatalf("stores that are no nodes hold slots: %v", held)
	}
}

// fairShares is the share by weight alone, by another way than the planner's.
func fairShares(nodes []Node, slots, rf int) []float64 {
	total := float64(slots * min(rf, len(nodes)))
	at := func(level float64) (sum float64, parts []float64) {
		for _, n := range nodes {
			w := n.Weight
			if w == 0 {
				w = UsualWeight
			}
			p := min(float64(slots), level*float64(w))
			parts = append(parts, p)
			sum += p
		}
		return sum, parts
	}
	low, high := 0.0, float64(slots)
	for range 100 {
		if sum, _ := at((low + high) / 2); sum < total {
			low = (low + high) / 2
		} else {
			high = (low + high) / 2
		}
	}
	_, parts := at(high)
	return parts
}

func TestPlanOfAnEmptyTable(t *testing.T) {
	for _, c := range []struct {
		name      string
		slots, rf int
		nodes     []Node
		held      []int
		pairs     int
		maxSets   int // at most so many distinct sets
	}{
		{"nobody", 8, 3, nil, nil, 0, 1},
		{"one node, three wanted", 8, 3, equalNodes(1, 1), []int{8}, 8 * 0, 1},
		{"as many as wanted", 8, 3, equalNodes(1, 3), []int{8, 8, 8}, 8 * 3, 1},
		{"uneven", 8, 3, equalNodes(1, 5), []int{5, 5, 5, 5, 4}, 8 * 3, 8},
		{"a heavy node is capped", 8, 2, []Node{{1, 900, ""}, {2, 50, ""}, {3, 50, ""}}, []int{8, 4, 4}, 8, 2},
		{"weights", 16, 1, []Node{{1, 300, ""}, {2, 100, ""}}, []int{12, 4}, 0, 2},
		{"weight 0 is the usual one", 16, 1, []Node{{1, 0, ""}, {2, 100, ""}}, []int{8, 8}, 0, 2},
		{"three zones", 8, 3, []Node{{1, 100, "a"}, {2, 100, "a"}, {3, 100, "b"}, {4, 100, "b"}, {5, 100, "c"}, {6, 100, "c"}}, []int{4, 4, 4, 4, 4, 4}, 0, 8},
		{"two zones of three replicas", 8, 3, []Node{{1, 100, "a"}, {2, 100, "a"}, {3, 100, "b"}, {4, 100, "b"}}, []int{6, 6, 6, 6}, 8, 8},
		{"a lone zone takes a quarter more", 16, 2, []Node{{1, 100, "a"}, {2, 100, "b"}, {3, 100, "b"}}, []int{13, 10, 9}, 3, 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			sets := Plan(emptyTable(t, c.slots), c.nodes, c.rf)
			checkPlan(t, sets, c.nodes, c.rf)
			held := heldBy(sets)
			for i, n := range c.nodes {
				if held[n.Store] != c.held[i] {
					t.Errorf("store %d holds %d, want %d", n.Store, held[n.Store], c.held[i])
				}
			}
			if got := pairsOf(sets, c.nodes); got != c.pairs {
				t.Errorf("%d pairs of replicas share a zone, want %d", got, c.pairs)
			}
			distinct := map[Set]bool{}
			for _, s := range sets {
				distinct[s] = true
			}
			if len(distinct) > c.maxSets {
				t.Errorf("%d distinct sets, want at most %d", len(distinct), c.maxSets)
			}
		})
	}
}

func TestPlanIgnoresStoreZeroAndRepetitions(t *testing.T) {
	nodes := append(equalNodes(1, 3), Node{Store: 0}, Node{Store: 2, Weight: 7})
	sets := Plan(emptyTable(t, 8), nodes, 3)
	checkPlan(t, sets, nodes[:3], 3)
	if got := Shares(nodes, 8, 3); got[3] != 0 {
		t.Errorf("store 0 has a share of %v", got[3])
	}
}

func TestGrowthFromOneToThirtyIsBalancedAndMovesNoMoreThanTheShare(t *testing.T) {
	for rf := 1; rf <= 5; rf++ {
		const slots = 512
		tab := planned(t, slots, equalNodes(1, 1), rf)
		for n := 1; n < 30; n++ {
			nodes := equalNodes(1, n+1)
			sets := Plan(tab, nodes, rf)
			checkPlan(t, sets, nodes, rf)
			want := slots * rf / (n + 1)
			if n < rf {
				want = slots // the new node holds every slot
			}
			if got := moves(tab, sets); got != want {
				t.Fatalf("rf %d: the join of node %d moves %d replicas, want %d", rf, n+1, got, want)
			}
			tab = tableOf(t, sets)
		}
	}
}

func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := 1 << rapid.IntRange(7, 10).Draw(rt, "slots")
		rf := rapid.IntRange(1, 5).Draw(rt, "rf")
		n := rapid.IntRange(rf, 30).Draw(rt, "n")
		next := Store(1)
		nodes := equalNodes(next, n)
		next += Store(n)
		tab := planned(t, slots, nodes, rf)
		for range rapid.IntRange(1, 6).Draw(rt, "changes") {
			if join := len(nodes) == rf || rapid.Bool().Draw(rt, "join"); join {
				nodes = append(nodes, Node{Store: next, Weight: UsualWeight})
				next++
				sets := Plan(tab, nodes, rf)
				checkPlan(rt, sets, nodes, rf)
				if got, want := moves(tab, sets), slots*rf/len(nodes); got != want {
					rt.Fatalf("a join to %d nodes, %d slots, rf %d moves %d replicas, want %d", len(nodes), slots, rf, got, want)
				}
				tab = tableOf(t, sets)
				continue
			}
			i := rapid.IntRange(0, len(nodes)-1).Draw(rt, "gone")
			gone := nodes[i].Store
			nodes = slices.Delete(slices.Clone(nodes), i, i+1)
			sets := Plan(tab, nodes, rf)
			checkPlan(rt, sets, nodes, rf)
			for s, set := range sets {
				before := tab.Slot(s).Replicas
				if kept := before.Without(gone); set.distance(kept) != set.Len()-kept.Len() {
					rt.Fatalf("slot %d: %v became %v, though only %d went", s, before, set, gone)
				}
			}
			tab = tableOf(t, sets)
		}
	})
}

func TestPlanWithWeightsAndZonesProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := 1 << rapid.IntRange(4, 8).Draw(rt, "slots")
		rf := rapid.IntRange(1, 5).Draw(rt, "rf")
		node := rapid.Custom(func(rt *rapid.T) Node {
			return Node{
				Store:  Store(rapid.IntRange(1, 40).Draw(rt, "store")),
				Weight: uint32(rapid.SampledFrom([]int{1, 50, 100, 100, 100, 150, 400}).Draw(rt, "weight")),
				Zone:   rapid.SampledFrom([]string{"", "a", "b", "c", "d"}).Draw(rt, "zone"),
			}
		})
		pick := rapid.SliceOfNDistinct(node, 1, 12, func(n Node) Store { return n.Store })
		nodes := pick.Draw(rt, "nodes")
		fresh := Plan(emptyTable(t, slots), nodes, rf)
		checkPlan(rt, fresh, nodes, rf)
		if moves(tableOf(t, fresh), Plan(tableOf(t, fresh), nodes, rf)) != 0 {
			rt.Fatalf("a table that was just planned moves")
		}
		mixed := slices.Clone(nodes)
		slices.Reverse(mixed)
		if !slices.Equal(fresh, Plan(emptyTable(t, slots), mixed, rf)) {
			rt.Fatalf("the order of the nodes matters")
		}

		others, rf2 := pick.Draw(rt, "others"), rapid.IntRange(1, 5).Draw(rt, "rf2")
		tab := tableOf(t, fresh)
		sets := Plan(tab, others, rf2)
		checkPlan(rt, sets, others, rf2)
		if !slices.Equal(sets, Plan(tab, others, rf2)) {
			rt.Fatalf("two plans of the same table differ")
		}
		best := pairsOf(Plan(emptyTable(t, slots), others, rf2), others)
		if got := pairsOf(sets, others); got > best+len(others) {
			rt.Fatalf("%d pairs share a zone; from an empty table %d", got, best)
		}
	})
}

func TestFreshPlanSpreadsZonesAsFarAsQuotasAllow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		zones := rapid.IntRange(1, 5).Draw(rt, "zones")
		rf := rapid.IntRange(1, 5).Draw(rt, "rf")
		each := rapid.IntRange(1, 4).Draw(rt, "each")
		if zones*each < rf {
			return
		}
		var nodes []Node
		for z := range zones {
			for range each {
				nodes = append(nodes, Node{Store: Store(len(nodes) + 1), Weight: 100, Zone: fmt.Sprint(z)})
			}
		}
		// Equal zones: each slot has rf/zones replicas in each, or one more.
		want := 0
		for z := range zones {
			in := rf / zones
			if z < rf%zones {
				in++
			}
			want += in * (in - 1) / 2
		}
		sets := Plan(emptyTable(t, 64), nodes, rf)
		checkPlan(rt, sets, nodes, rf)
		if got := pairsOf(sets, nodes); got != 64*want {
			rt.Fatalf("%d pairs, want %d", got, 64*want)
		}
	})
}

// Where zones can stay spread with equal shares, they cost no move.
func TestAJoinAmongZonesMovesOnlyTheShare(t *testing.T) {
	const slots = 512
	for _, c := range []struct{ zones, rf, from, to int }{{3, 2, 6, 15}, {4, 3, 12, 20}, {3, 3, 3, 3}, {2, 2, 2, 2}, {5, 1, 1, 12}} {
		var nodes []Node
		for i := range c.from {
			nodes = append(nodes, Node{Store(i + 1), 100, fmt.Sprint(i % c.zones)})
		}
		tab := planned(t, slots, nodes, c.rf)
		for n := c.from; n < c.to; n++ {
			nodes = append(nodes, Node{Store(n + 1), 100, fmt.Sprint(n % c.zones)})
			sets := Plan(tab, nodes, c.rf)
			checkPlan(t, sets, nodes, c.rf)
			if got, want := moves(tab, sets), slots*c.rf/(n+1); got != want {
				t.Errorf("%d zones, rf %d: the join of node %d moves %d replicas, want %d", c.zones, c.rf, n+1, got, want)
			}
			if got := pairsOf(sets, nodes); got != 0 {
				t.Errorf("%d zones, rf %d, %d nodes: %d pairs share a zone", c.zones, c.rf, n+1, got)
			}
			tab = tableOf(t, sets)
		}
	}
}

// A cluster that grows zone by zone ends as spread as one that was born so.
func TestAThirdZoneIsUsed(t *testing.T) {
	nodes := []Node{{1, 100, "a"}, {2, 100, "a"}, {3, 100, "b"}, {4, 100, "b"}}
	tab := planned(t, 256, nodes, 3)
	for _, st := range []Store{5, 6} {
		nodes = append(nodes, Node{st, 100, "c"})
		sets := Plan(tab, nodes, 3)
		checkPlan(t, sets, nodes, 3)
		tab = tableOf(t, sets)
	}
	sets := Plan(tab, nodes, 3)
	if got := pairsOf(sets, nodes); got != 0 {
		t.Errorf("%d pairs of replicas share a zone", got)
	}
}

// The largest rings are promised a plan in less than two seconds, whatever changes.
func BenchmarkPlan(b *testing.B) {
	for _, c := range []struct{ nodes, slots, rf int }{{3, 4096, 3}, {30, 4096, 3}, {1000, 16384, 3}, {1000, 16384, 5}} {
		usual, others := inZones(equalNodes(1, c.nodes), 3), inZones(equalNodes(1, c.nodes), 5)
		tab, none := planned(b, c.slots, usual, c.rf), emptyTable(b, c.slots)
		heavy := slices.Clone(usual)
		for i := range heavy {
			if i%7 == 0 {
				heavy[i].Weight = 2 * UsualWeight
			}
		}
		for _, change := range []struct {
			name  string
			tab   *Table
			nodes []Node
			rf    int
		}{
			{"fresh", none, usual, c.rf},
			{"join", tab, inZones(equalNodes(1, c.nodes+1), 3), c.rf},
			{"leave", tab, usual[1:], c.rf},
			{"double", tab, inZones(equalNodes(1, 2*c.nodes), 3), c.rf},
			{"weights", tab, heavy, c.rf},
			{"zones", tab, others, c.rf},
			{"factor", tab, usual, c.rf - 1},
		} {
			b.Run(fmt.Sprintf("%s/nodes=%d/slots=%d/rf=%d", change.name, c.nodes, c.slots, c.rf), func(b *testing.B) {
				for b.Loop() {
					Plan(change.tab, change.nodes, change.rf)
				}
			})
		}
	}
}

// inZones puts the nodes into zones by turns.
func inZones(nodes []Node, zones int) []Node {
	for i := range nodes {
		nodes[i].Zone = fmt.Sprint(i % zones)
	}
	return nodes
}

// A key's slot is looked up for every series of a write.
func BenchmarkOwners(b *testing.B) {
	tab := planned(b, 4096, equalNodes(1, 5), 3)
	tenant := TenantHash("tenant-a")
	b.Run("in-place", func(b *testing.B) {
		b.ReportAllocs()
		sum, labels := 0, uint64(0)
		for b.Loop() {
			labels += 0x9e3779b97f4a7c15
			sum += tab.At(KeyOf(tenant, labels).Slot(tab.Slots())).Replicas.Len()
		}
		if sum == 0 {
			b.Fatal("nobody owns anything")
		}
	})
	b.Run("appended", func(b *testing.B) {
		b.ReportAllocs()
		dst, labels := make([]Store, 0, MaxReplicas), uint64(0)
		for b.Loop() {
			labels += 0x9e3779b97f4a7c15
			dst = tab.Owners(dst[:0], KeyOf(tenant, labels).Slot(tab.Slots()))
		}
	})
}

package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/muster-metrics/muster/ring"
)

// ownersOf finds the replicas of a key by going round the ring from it, point by
// point, the plain way: of the points behind the key, the nearest first.
func ownersOf(key uint64, nodes []Node, points []point, rf int) []ring.Store {
	points = slices.Clone(points)
	slices.SortFunc(points, func(a, b point) int {
		if a.at-key < b.at-key { // the distance, over the end of the space
			return -1
		}
		return 1
	})
	var owners []ring.Store
	for len(owners) < rf {
		fewest := map[int]int{} // replicas of each zone that has a node left
		for i, n := range nodes {
			if !n.Gone && !slices.Contains(owners, ring.Store(i+1)) {
				fewest[n.Zone] += 0
			}
		}
		least := math.MaxInt
		for z := range fewest {
			for _, o := range owners {
				if nodes[o-1].Zone == z {
					fewest[z]++
				}
			}
			least = min(least, fewest[z])
		}
		at := slices.IndexFunc(points, func(p point) bool {
			n, left := fewest[nodes[p.node].Zone]
			return left && n == least && !slices.Contains(owners, ring.Store(p.node+1))
		})
		if at < 0 {
			break
		}
		owners = append(owners, ring.Store(points[at].node+1))
		points = points[at:] // a walk does not turn back
	}
	return owners
}

// TestRingsOfPointsAgainstAPlainWalk looks keys up in ketama and random tokens.
func TestRingsOfPointsAgainstAPlainWalk(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	nodes := cluster(9, 3)
	nodes[4].Gone = true
	var ketama, tokens []point
	for i, n := range nodes {
		if n.Gone {
			continue
		}
		draw := rand.New(rand.NewPCG(7, uint64(i)))
		for s := range 20 {
			ketama = append(ketama, point{uint64(ring.KeyOf(uint64(i)+1, uint64(s))), int32(i)})
			tokens = append(tokens, point{draw.Uint64(), int32(i)})
		}
	}
	for _, c := range []struct {
		name   string
		l      Layout
		points []point
	}{{"ketama", Ketama(nodes, 3, 20), ketama}, {"tokens", Tokens(nodes, 3, 20, 7), tokens}} {
		for range 500 {
			key := dice.Uint64()
			i, _ := slices.BinarySearch(c.l.ends, key)
			if got, want := c.l.sets[i].Append(nil), ownersOf(key, nodes, c.points, 3); !slices.Equal(got, want) {
				t.Fatalf("%s: key %x is held by %v, a walk finds %v", c.name, key, got, want)
			}
		}
	}
}

// TestTwoOfThirtyDownAgainstRequests draws requests of 500 series and pairs of
// nodes that are down, and counts the requests that meet a series without its
// quorum, with many replica sets and with few.
func TestTwoOfThirtyDownAgainstRequests(t *testing.T) {
	const draws = 4000
	results, err := Run(usual())
	if err != nil {
		t.Fatal(err)
	}
	many, err := Slots(nil, usual().Nodes, 3, 4096)
	if err != nil {
		t.Fatal(err)
	}
	dice := rand.New(rand.NewPCG(3, 4))
	for k, table := range [][]ring.Set{many, FewSets(usual().Nodes, 3, 4096)} {
		failed := 0
		for range draws {
			a := ring.Store(1 + dice.IntN(30))
			b := ring.Store(1 + dice.IntN(30))
			for b == a {
				b = ring.Store(1 + dice.IntN(30))
			}
			for range 500 {
				if s := table[dice.IntN(4096)]; s.Has(a) && s.Has(b) {
					failed++
					break
				}
			}
		}
		want := results[k].Losses[1].Requests
		got, sigma := float64(failed)/draws, math.Sqrt(want*(1-want)/draws)
		t.Logf("%d replica sets: %.4f of requests fail, %.4f counted", results[k].Sets, want, got)
		if math.Abs(got-want) > 5*sigma {
			t.Errorf("%s: %.4f of requests fail, by a count %.4f", results[k].Name, want, got)
		}
	}
}

// TestLoadsAndMovesAgainstKeys draws keys, and counts who holds them before and
// after a join.
func TestLoadsAndMovesAgainstKeys(t *testing.T) {
	const keys = 200_000
	nodes := cluster(6, 3)
	grown := append(slices.Clone(nodes), Node{Zone: 0})
	table, err := Slots(nil, nodes, 2, 256)
	if err != nil {
		t.Fatal(err)
	}
	later, err := Slots(table, grown, 2, 256)
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string][2]Layout{
		"slots":  {OfSlots(table), OfSlots(later)},
		"ketama": {Ketama(nodes, 2, 100), Ketama(grown, 2, 100)},
		"tokens": {Tokens(nodes, 2, 64, 1), Tokens(grown, 2, 64, 1)},
	} {
		dice := rand.New(rand.NewPCG(5, 6))
		held, moved := make([]float64, 7), 0.0
		for range keys {
			key := dice.Uint64()
			i, _ := slices.BinarySearch(l[0].ends, key)
			j, _ := slices.BinarySearch(l[1].ends, key)
			for r := range 2 {
				held[l[0].sets[i].At(r)-1]++
				if !l[0].sets[i].Has(l[1].sets[j].At(r)) {
					moved++
				}
			}
		}
		load := l[0].Series(keys, 7, 1)
		for n := range held {
			if math.Abs(load[n]-held[n]) > 0.02*2*keys/6 {
				t.Errorf("%s: node %d has %.0f series, by a count %.0f", name, n+1, load[n], held[n])
			}
		}
		if got := l[0].Moved(l[1]); math.Abs(got-moved/keys) > 0.01 {
			t.Errorf("%s: %.4f moves, by a count %.4f", name, got, moved/keys)
		}
	}
}

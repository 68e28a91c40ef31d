package simulate

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/muster-metrics/muster/ring"
)

// Node is one machine of the simulated cluster.
type Node struct {
	// Weight is its part of the load relative to the others'; 0 is the usual one.
	// Rings of points know no weights.
	Weight uint32
	Zone   int
	// Gone says that the node has been removed; numbers are never used again.
	Gone bool
}

// point is where a node stands on the ring of keys.
type point struct {
	at   uint64
	node int32
}

// Ketama places n sections of each node on the ring by hash. A key belongs to
// the next section, its further replicas to the next sections of other nodes, of
// the zones that have fewest replicas so far.
func Ketama(nodes []Node, rf, sections int) Layout {
	var points []point
	for i, n := range nodes {
		for s := range sections {
			if !n.Gone {
				points = append(points, point{uint64(ring.KeyOf(uint64(i)+1, uint64(s))), int32(i)})
			}
		}
	}
	return aroundTheRing(nodes, points, rf)
}

// Tokens gives each node n random places on the ring; otherwise as Ketama.
// A node keeps its places while others come and go.
func Tokens(nodes []Node, rf, tokens int, seed uint64) Layout {
	var points []point
	for i, n := range nodes {
		dice := rand.New(rand.NewPCG(seed, uint64(i)))
		for range tokens {
			if !n.Gone {
				points = append(points, point{dice.Uint64(), int32(i)})
			}
		}
	}
	return aroundTheRing(nodes, points, rf)
}

// aroundTheRing finds the replicas of the arc before each point.
func aroundTheRing(nodes []Node, points []point, rf int) Layout {
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.at, b.at) })
	points = slices.CompactFunc(points, func(a, b point) bool { return a.at == b.at })
	zones, living := 0, 0
	for _, n := range nodes {
		zones = max(zones, n.Zone+1)
		if !n.Gone {
			living++
		}
	}
	w := walk{nodes: nodes, points: points, rf: min(rf, living), inZone: make([]int, zones), room: make([]int, zones)}
	for _, n := range nodes {
		if !n.Gone {
			w.room[n.Zone]++
		}
	}
	var l Layout
	for i, p := range points {
		l.ends, l.sets = append(l.ends, p.at), append(l.sets, w.from(i))
	}
	if n := len(l.ends); n > 0 && l.ends[n-1] != ^uint64(0) { // past the last point the ring goes on with the first
		l.ends, l.sets = append(l.ends, ^uint64(0)), append(l.sets, l.sets[0])
	}
	return l
}

// walk goes round the ring from one point.
type walk struct {
	nodes  []Node
	points []point
	rf     int
	inZone []int // replicas taken of each zone
	room   []int // living nodes of each zone
}

// from takes the next nodes, each from a zone that has fewest replicas among
// those that still have a node to give.
func (w *walk) from(i int) ring.Set {
	clear(w.inZone)
	var set ring.Set
	for steps := 0; set.Len() < w.rf && steps < len(w.points); steps++ {
		p := w.points[(i+steps)%len(w.points)]
		zone, store := w.nodes[p.node].Zone, ring.Store(p.node+1)
		if set.Has(store) || w.inZone[zone] > w.fewest() {
			continue
		}
		set = set.With(store)
		w.inZone[zone]++
	}
	return set
}

// fewest is the smallest number of replicas in a zone that has a node left.
func (w *walk) fewest() int {
	least := ring.MaxReplicas
	for z, n := range w.inZone {
		if n < w.room[z] {
			least = min(least, n)
		}
	}
	return least
}

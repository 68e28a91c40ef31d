package ring

import "math"

// oracle knows the best plan of a small case by minimal-cost maximal flow, which
// shares nothing with the planner: a unit runs from a node over a slot's zone to
// the slot.
//
//	source → node (least..most) → zone of a slot (1) → slot (convex) → sink (rf)
//
// Costs are lexicographic: a pair of replicas in one zone weighs more than all
// moves together, and a node below its least more than all pairs.
type oracle struct {
	to, cap, next []int
	cost          []int64
	head          []int
}

func newOracle(vertices int) *oracle {
	o := &oracle{head: make([]int, vertices)}
	for i := range o.head {
		o.head[i] = -1
	}
	return o
}

func (o *oracle) edge(from, to, cap int, cost int64) {
	o.half(from, to, cap, cost)
	o.half(to, from, 0, -cost)
}

func (o *oracle) half(from, to, cap int, cost int64) {
	o.to, o.cap, o.cost = append(o.to, to), append(o.cap, cap), append(o.cost, cost)
	o.next = append(o.next, o.head[from])
	o.head[from] = len(o.to) - 1
}

// flow augments along cheapest ways, one unit each, until there is none.
func (o *oracle) flow(source, sink int) (units int, cost int64) {
	for {
		dist, via := make([]int64, len(o.head)), make([]int, len(o.head))
		for i := range dist {
			dist[i], via[i] = math.MaxInt64, -1
		}
		dist[source] = 0
		queued, queue := make([]bool, len(o.head)), []int{source}
		for len(queue) > 0 {
			v := queue[0]
			queue, queued[v] = queue[1:], false
			for e := o.head[v]; e >= 0; e = o.next[e] {
				if w := o.to[e]; o.cap[e] > 0 && dist[v]+o.cost[e] < dist[w] {
					dist[w], via[w] = dist[v]+o.cost[e], e
					if !queued[w] {
						queue, queued[w] = append(queue, w), true
					}
				}
			}
		}
		if via[sink] < 0 {
			return units, cost
		}
		for v := sink; v != source; v = o.to[via[v]^1] {
			o.cap[via[v]]--
			o.cap[via[v]^1]++
		}
		units, cost = units+1, cost+dist[sink]
	}
}

const (
	oraclePair = int64(1) << 20 // dearer than all moves
	oracleLess = int64(1) << 40 // dearer than all pairs
)

// bestPlan is the fewest pairs of replicas in one zone, and with these the fewest
// moves, of any plan that gives each node between least and most slots. ok: there
// is one.
func bestPlan(t *Table, nodes []Node, rf int, least, most []int) (pairs, moved int, ok bool) {
	zones := map[string]int{}
	for _, n := range nodes {
		if _, known := zones[n.Zone]; !known {
			zones[n.Zone] = len(zones)
		}
	}
	rf = min(rf, len(nodes))
	slots := t.Slots()
	source, sink := 0, 1
	node := func(i int) int { return 2 + i }
	inZone := func(s, z int) int { return 2 + len(nodes) + s*len(zones) + z }
	slot := func(s int) int { return 2 + len(nodes) + slots*len(zones) + s }
	o := newOracle(slot(slots))
	must := 0
	for i, n := range nodes {
		o.edge(source, node(i), least[i], -oracleLess)
		o.edge(source, node(i), most[i]-least[i], 0)
		must += least[i]
		for s := range slots {
			cost := int64(1)
			if t.Slot(s).Replicas.Has(n.Store) {
				cost = 0
			}
			o.edge(node(i), inZone(s, zones[n.Zone]), 1, cost)
		}
	}
	for s := range slots {
		for z := range len(zones) {
			for k := range rf {
				o.edge(inZone(s, z), slot(s), 1, int64(k)*oraclePair)
			}
		}
		o.edge(slot(s), sink, rf, 0)
	}
	units, cost := o.flow(source, sink)
	cost += int64(must) * oracleLess
	if units != slots*rf || cost >= oracleLess {
		return 0, 0, false
	}
	return int(cost / oraclePair), int(cost % oraclePair), true
}

// fairCaps is the most that objective 2 allows each node: 1.25 × its fair share,
// or that share rounded up.
func fairCaps(nodes []Node, slots, rf int) []int {
	var out []int
	for _, f := range fairShares(nodes, slots, rf) {
		out = append(out, min(slots, max(int(math.Ceil(f-1e-6)), int(1.25*f+1e-6))))
	}
	return out
}

// withinOne is the whole numbers of slots that are less than one from a share.
func withinOne(shares []float64) (least, most []int) {
	for _, s := range shares {
		least, most = append(least, int(math.Floor(s+1e-6))), append(most, int(math.Ceil(s-1e-6)))
	}
	return least, most
}

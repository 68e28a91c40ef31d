package ring

import (
	"math"
	"slices"
)

// refine moves fewer replicas where the plan moves more than it must. Placing
// replicas is a flow of least cost; a flow is the cheapest where no cycle in what
// is left of the network costs less than nothing. Such a cycle is a row of hops
// from node to node, each in a slot, after which every node holds what it held,
// but for how its share is rounded. While there is one, refine turns it; what
// remains in the end has the fewest pairs in a zone, and with these the fewest
// moves, that the shares allow. In very large rings it ends where its work has
// become too much; what it has not found by then are a few moves.
func (p *plan) refine() {
	if p.moves() <= p.leastMoves() || len(p.nodes) > maxRefined {
		return
	}
	r := newResidual(p)
	for r.work < maxWork {
		cycle := r.cycle()
		if cycle == nil {
			return
		}
		r.turn(cycle)
	}
}

const (
	maxRefined = 2000    // nodes; there are as many arcs as their square
	maxWork    = 1 << 27 // arcs looked at: less than half a second
	pairCost   = 1 << 13 // dearer than a move in each hop of a cycle
	noWay      = math.MaxInt32 / 4
)

// moves is how many replicas the plan brings to a node that had them not.
func (p *plan) moves() int64 {
	n := int64(0)
	for s := range p.rows {
		for _, i := range p.rows[s] {
			if i != none && !p.stood(s, i) {
				n++
			}
		}
	}
	return n
}

// leastMoves is what every plan with these shares moves at least: what nodes lack
// that hold less than their share, and what cannot stay because nodes hold more or
// slots have more than they should.
func (p *plan) leastMoves() int64 {
	held, lack := make([]int64, len(p.nodes)), int64(0)
	inSlots, inNodes := int64(0), int64(0)
	for _, was := range p.was {
		n := 0
		for _, i := range was {
			if i != none {
				held[i]++
				n++
			}
		}
		inSlots += int64(min(n, p.rf))
	}
	for i, s := range p.shares {
		lack += max(0, s.floor()-held[i])
		inNodes += min(held[i], s.ceil())
	}
	return max(lack, int64(p.slots*p.rf)-min(inSlots, inNodes))
}

// residual is what could still be changed in a plan: for each two nodes the
// cheapest slot in which one may take the place of the other, and a last vertex
// that nodes go through which round their shares up and down.
type residual struct {
	*plan
	n    int     // vertices
	cost []int32 // from, to
	slot []int32 // from, to
	of   [][]int32
	work int
}

func newResidual(p *plan) *residual {
	n := len(p.nodes) + 1
	r := &residual{plan: p, n: n, cost: make([]int32, n*n), slot: make([]int32, n*n), of: make([][]int32, len(p.nodes))}
	for s := range p.rows {
		for _, i := range p.rows[s] {
			if i != none {
				r.of[i] = append(r.of[i], int32(s))
			}
		}
	}
	for i := range p.nodes {
		r.look(int16(i))
	}
	r.round()
	return r
}

// look finds the cheapest ways from node x.
func (r *residual) look(x int16) {
	cost, slot := r.cost[int(x)*r.n:][:r.n-1], r.slot[int(x)*r.n:][:r.n-1]
	for y := range cost {
		cost[y] = noWay
	}
	r.of[x] = slices.DeleteFunc(r.of[x], func(s int32) bool { return r.place(int(s), x) < 0 })
	in := make([]int32, r.zones)
	for _, s := range r.of[x] {
		for z := range in {
			in[z] = pairCost * int32(r.in(int(s), z)-r.in(int(s), r.zone[x])+1)
		}
		in[r.zone[x]] = 0
		gone := int32(0)
		if r.stood(int(s), x) {
			gone = 1
		}
		for y := range cost {
			if c := in[r.zone[y]] + gone; c < cost[y] && r.place(int(s), int16(y)) < 0 {
				cost[y], slot[y] = c, s
			}
		}
		for _, y := range r.was[s] {
			if y == none || r.place(int(s), y) >= 0 {
				continue
			}
			if c := in[r.zone[y]] + gone - 1; c < cost[y] {
				cost[y], slot[y] = c, s
			}
		}
	}
	r.work += len(r.of[x]) * r.n
}

// round finds who may hold one slot less or more within its share.
func (r *residual) round() {
	last := r.n - 1
	for i, s := range r.shares {
		r.cost[i*r.n+last], r.cost[last*r.n+i] = noWay, noWay
		if r.held[i] < s.ceil() {
			r.cost[i*r.n+last] = 0
		}
		if r.held[i] > s.floor() {
			r.cost[last*r.n+i] = 0
		}
	}
	r.cost[last*r.n+last] = noWay
}

// cycle is one that costs less than nothing, by Bellman and Ford; nil: there is
// none.
func (r *residual) cycle() []int {
	dist, via := make([]int32, r.n), make([]int, r.n)
	for i := range via {
		via[i] = -1
	}
	for r.work < maxWork {
		changed := false
		for x := range r.n {
			from := dist[x]
			for y, c := range r.cost[x*r.n:][:r.n] {
				if c < noWay && from+c < dist[y] {
					dist[y], via[y], changed = from+c, x, true
				}
			}
		}
		r.work += r.n * r.n
		if !changed {
			return nil
		}
		if c := circle(via); c != nil {
			return c
		}
	}
	return nil
}

// circle finds a closed way in via, which names each vertex' predecessor.
func circle(via []int) []int {
	seen := make([]int, len(via)) // in the search from vertex-1
	for start := range via {
		x := start
		for x >= 0 && seen[x] == 0 {
			seen[x] = start + 1
			x = via[x]
		}
		if x < 0 || seen[x] != start+1 {
			continue
		}
		way := []int{x}
		for y := via[x]; y != x; y = via[y] {
			way = append(way, y)
		}
		slices.Reverse(way)
		return way
	}
	return nil
}

// turn makes the hops of a cycle. Two hops in one slot may cost more than each by
// itself; then all are undone, and one of the two is not tried again until
// something has changed there.
func (r *residual) turn(cycle []int) {
	type hop struct {
		s, at    int
		from, to int16
	}
	var hops []hop
	total, last := int32(0), r.n-1
	for i, from := range cycle {
		to := cycle[(i+1)%len(cycle)]
		if from == last || to == last {
			continue
		}
		h := hop{s: int(r.slot[from*r.n+to]), from: int16(from), to: int16(to)}
		h.at = r.place(h.s, h.from)
		total += pairCost*int32(r.pairs(h.s, h.from, h.to)) + int32(r.plan.cost(h.s, h.from, h.to))
		r.put(h.s, h.at, h.to)
		hops = append(hops, h)
	}
	if total >= 0 {
		for _, h := range slices.Backward(hops) {
			r.put(h.s, h.at, h.from)
		}
		h := hops[0]
		for i, g := range hops {
			if slices.ContainsFunc(hops[:i], func(o hop) bool { return o.s == g.s }) {
				h = g
			}
		}
		r.cost[int(h.from)*r.n+int(h.to)] = noWay
		return
	}
	var stale []int16
	for _, h := range hops {
		r.of[h.to] = append(r.of[h.to], int32(h.s))
		stale = append(append(stale, h.from), r.rows[h.s][:]...)
	}
	slices.Sort(stale)
	for _, x := range slices.Compact(stale) {
		if x != none {
			r.look(x)
		}
	}
	r.round()
}

package ring

import (
	"cmp"
	"slices"
)

// level moves replicas from nodes above their quota to nodes below, until all
// have theirs: first the moves that spread zones better, then those that do not
// harm, then the others; at each, those before that only undo what the plan did
// itself, so that no sample more has to go to a new place.
func (p *plan) level() {
	order := p.scattered()
	for bound := -1; bound <= 1; bound++ {
		if bound < 0 && p.zones < 2 {
			continue // nothing spreads a single zone
		}
		for cost := range 2 {
			of := p.slotsOf(order)
			for a := range int16(len(p.nodes)) {
				p.unload(a, of, bound, cost)
			}
			if bound < 0 {
				continue
			}
			for a := range int16(len(p.nodes)) {
				for p.lack(a) < 0 && p.pass(a, of, bound, cost) {
				}
			}
		}
	}
}

// scattered is the slots in an order that groups nothing, another one for other
// receivers: else a joiner would meet its predecessor in all its slots.
func (p *plan) scattered() []int {
	order := make([]int, p.slots)
	var seed Store
	for i, n := range p.nodes {
		if p.lack(int16(i)) > 0 {
			seed = seed*31 + n.Store
		}
	}
	for s := range order {
		order[s] = s
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scatter(a, seed), scatter(b, seed)) })
	return order
}

// slotsOf is the slots of each node in this order.
func (p *plan) slotsOf(order []int) [][]int32 {
	of := make([][]int32, len(p.nodes))
	for _, s := range order {
		for _, i := range p.rows[s] {
			if i != none {
				of[i] = append(of[i], int32(s))
			}
		}
	}
	return of
}

// cost is how many replicas more the plan moves when in slot s node to takes the
// place of from: none for a node that stood there before.
func (p *plan) cost(s int, from, to int16) int {
	c := 0
	for _, i := range p.was[s] {
		switch i {
		case from:
			c++
		case to:
			c--
		}
	}
	return c
}

// unload moves replicas of node a to those that lack slots, where that adds no
// more pairs than bound, above 0 as many as it must, and costs at most cost. of
// are the slots that nodes may hold.
func (p *plan) unload(a int16, of [][]int32, bound, cost int) {
	if p.lack(a) >= 0 {
		return
	}
	lacking := p.lacking()
	for _, s := range of[a] {
		if p.lack(a) >= 0 || len(lacking) == 0 {
			return
		}
		at := p.place(int(s), a)
		if at < 0 {
			continue
		}
		best := p.heir(int(s), a, lacking, bound, cost)
		if best == none {
			continue
		}
		p.put(int(s), at, best)
		of[best] = append(of[best], s)
		if p.lack(best) == 0 {
			lacking = slices.DeleteFunc(lacking, func(b int16) bool { return b == best })
		}
	}
}

// heir is who of those that lack slots should take a's place in slot s: who adds
// fewest pairs, then who lacks most. none: nobody may.
func (p *plan) heir(s int, a int16, lacking []int16, bound, cost int) int16 {
	if cost < 1 && p.stood(s, a) { // only those that stood here before cost so little
		lacking = p.returners(s)
	}
	best, bestPairs := none, 0
	for _, b := range lacking {
		pairs := p.pairs(s, a, b)
		if bound <= 0 && pairs > bound || best != none && (pairs > bestPairs || pairs == bestPairs && p.lack(b) <= p.lack(best)) {
			continue
		}
		if p.place(s, b) < 0 {
			best, bestPairs = b, pairs
		}
	}
	return best
}

// returners are those that lack slots and stood in slot s before.
func (p *plan) returners(s int) []int16 {
	var out []int16
	for _, i := range p.was[s] {
		if i != none && p.lack(i) > 0 {
			out = append(out, i)
		}
	}
	return out
}

// left says whether somebody does not stand in slot s any more.
func (p *plan) left(s int) bool {
	for _, i := range p.was[s] {
		if i != none && p.place(s, i) < 0 {
			return true
		}
	}
	return false
}

// stood says whether slot s was node i's before the plan.
func (p *plan) stood(s int, i int16) bool { return slices.Contains(p.was[s][:], i) }

func (p *plan) lack(i int16) int64 { return p.quota[i] - p.held[i] }

func (p *plan) lacking() []int16 {
	var out []int16
	for i := range int16(len(p.nodes)) {
		if p.lack(i) > 0 {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b int16) int { return -cmp.Compare(p.lack(a), p.lack(b)) })
	return out
}

// pass hands one slot of node a on over others, by the shortest way, to a node
// that lacks one; it is needed where those that lack slots hold all of a's
// already. bound and cost are as for unload, of are the slots that nodes may hold.
// False: there is no way.
func (p *plan) pass(a int16, of [][]int32, bound, cost int) bool {
	w := way{came: make([]hop, len(p.nodes)), queue: []int16{a}}
	for i := range w.came {
		w.came[i].from = none
		if int16(i) != a {
			w.left = append(w.left, int16(i))
		}
	}
	for len(w.queue) > 0 {
		x := w.queue[0]
		w.queue = w.queue[1:]
		for _, s := range of[x] {
			if p.place(int(s), x) < 0 {
				continue
			}
			y := p.farther(&w, int(s), x, bound, cost)
			if y == none {
				continue
			}
			for y != a {
				h := w.came[y]
				p.put(h.slot, p.place(h.slot, h.from), y)
				of[y] = append(of[y], int32(h.slot))
				y = h.from
			}
			return true
		}
	}
	return false
}

// hop is how a search came to a node: from takes it in a slot's place.
type hop struct {
	from int16
	slot int
}

// way is a search in the making.
type way struct {
	came  []hop
	queue []int16
	left  []int16 // nodes that it has not come to
}

// farther goes on from node x by its place in slot s. It returns a node that
// lacks slots once it comes to one.
func (p *plan) farther(w *way, s int, x int16, bound, cost int) int16 {
	onlyBack := cost < 1 && p.stood(s, x) // only those that stood here before cost so little
	if onlyBack && !p.left(s) {
		return none
	}
	goal := none
	w.left = slices.DeleteFunc(w.left, func(y int16) bool {
		if goal != none || onlyBack && !p.stood(s, y) || bound <= 0 && p.pairs(s, x, y) > bound || p.place(s, y) >= 0 {
			return false
		}
		w.came[y] = hop{x, s}
		if p.lack(y) > 0 {
			goal = y
		}
		w.queue = append(w.queue, y)
		return true
	})
	return goal
}

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
		for cost := range 2 {
			for a := range int16(len(p.nodes)) {
				p.unload(a, order, bound, cost)
			}
			if bound < 0 {
				continue
			}
			for a := range int16(len(p.nodes)) {
				for p.lack(a) < 0 && p.pass(a, bound, cost) {
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
// more pairs than bound, above 0 as many as it must, and costs at most cost.
func (p *plan) unload(a int16, order []int, bound, cost int) {
	lacking := p.lacking()
	for _, s := range order {
		if p.lack(a) >= 0 || len(lacking) == 0 {
			return
		}
		at := p.place(s, a)
		if at < 0 {
			continue
		}
		best, bestPairs := none, 0
		for _, b := range lacking {
			if p.place(s, b) >= 0 || p.cost(s, a, b) > cost {
				continue
			}
			pairs := p.pairs(s, a, b)
			if best == none || pairs < bestPairs || pairs == bestPairs && p.lack(b) > p.lack(best) {
				best, bestPairs = b, pairs
			}
		}
		if best == none || bound <= 0 && bestPairs > bound {
			continue
		}
		p.put(s, at, best)
		if p.lack(best) == 0 {
			lacking = slices.DeleteFunc(lacking, func(b int16) bool { return b == best })
		}
	}
}

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
// already. bound and cost are as for unload. False: there is no way.
func (p *plan) pass(a int16, bound, cost int) bool {
	type hop struct {
		from int16
		slot int
	}
	came := map[int16]hop{a: {none, 0}}
	queue := []int16{a}
	for len(queue) > 0 {
		x := queue[0]
		queue = queue[1:]
		for s := range p.rows {
			if p.place(s, x) < 0 {
				continue
			}
			for y := range int16(len(p.nodes)) {
				if _, known := came[y]; known || p.place(s, y) >= 0 {
					continue
				}
				if bound <= 0 && p.pairs(s, x, y) > bound || p.cost(s, x, y) > cost {
					continue
				}
				came[y] = hop{x, s}
				if p.lack(y) > 0 {
					for y != a {
						h := came[y]
						p.put(h.slot, p.place(h.slot, h.from), y)
						y = h.from
					}
					return true
				}
				queue = append(queue, y)
			}
		}
	}
	return false
}

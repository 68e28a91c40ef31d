package ring

import (
	"cmp"
	"slices"
)

// level moves replicas from nodes above their quota to nodes below, until all
// have theirs: first the moves that spread zones better, then those that do not
// harm, then the others. Slots with equal sets are visited one after another, so
// that whole groups move and few new sets arise.
func (p *plan) level() {
	order := p.bySet()
	for bound := -1; bound <= 1; bound++ {
		for a := range int16(len(p.nodes)) {
			if p.held[a] > p.quota[a] {
				p.unload(a, order, bound)
			}
		}
	}
	for a := range int16(len(p.nodes)) {
		for p.held[a] > p.quota[a] && p.pass(a) {
		}
	}
}

// bySet is the slots, those with equal replica sets together.
func (p *plan) bySet() []int {
	sorted := slices.Clone(p.rows)
	order := make([]int, len(sorted))
	for s := range sorted {
		slices.Sort(sorted[s][:])
		order[s] = s
	}
	slices.SortStableFunc(order, func(a, b int) int { return slices.Compare(sorted[a][:], sorted[b][:]) })
	return order
}

// unload moves replicas of node a to those that lack slots, where that adds no
// more pairs than bound; above 0 it adds as many as it must.
func (p *plan) unload(a int16, order []int, bound int) {
	lacking := p.lacking()
	for _, s := range order {
		if p.held[a] <= p.quota[a] || len(lacking) == 0 {
			return
		}
		at := p.place(s, a)
		if at < 0 {
			continue
		}
		best, bestPairs := none, 0
		for _, b := range lacking {
			if p.place(s, b) >= 0 {
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
// already. False: there is no way, and the plan stays a slot off.
func (p *plan) pass(a int16) bool {
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

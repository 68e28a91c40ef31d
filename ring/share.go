package ring

import (
	"cmp"
	"slices"
)

// UsualWeight is what a node weighs where nobody said otherwise.
const UsualWeight = 100

// Node is what the planner knows of an eligible node.
type Node struct {
	Store Store
	// Weight is its share relative to the others'; 0 is taken as UsualWeight.
	Weight uint32
	// Zone is what fails together with it. Nodes without one share one.
	Zone string
}

// share is a number of slots: whole + num/den, with num < den.
type share struct {
	whole, num, den int64
}

func (s share) float() float64 { return float64(s.whole) + float64(s.num)/float64(s.den) }

// floor and ceil are the shares in slots that are within one slot of it.
func (s share) floor() int64 { return s.whole }

func (s share) ceil() int64 {
	if s.num > 0 {
		return s.whole + 1
	}
	return s.whole
}

// cast is the nodes of a plan with what is shared out among them.
type cast struct {
	nodes  []Node // by store, each once
	index  map[Store]int
	slots  int
	rf     int   // replicas of a slot, at most one a node
	zone   []int // zone of each node
	zones  int
	shares []share
	lo, hi []int64 // least and most replicas of each zone
}

// newCast sorts the nodes, so that their order does not matter, and shares the
// replicas out. Nodes without a store and repetitions are left out.
func newCast(nodes []Node, slots, rf int) *cast {
	c := &cast{slots: slots, index: map[Store]int{}}
	c.nodes = slices.SortedFunc(slices.Values(nodes), func(a, b Node) int { return cmp.Compare(a.Store, b.Store) })
	c.nodes = slices.DeleteFunc(c.nodes, func(n Node) bool { return n.Store == 0 })
	c.nodes = slices.CompactFunc(c.nodes, func(a, b Node) bool { return a.Store == b.Store })
	c.rf = max(0, min(rf, len(c.nodes), MaxReplicas))
	zones := map[string]int{}
	for i := range c.nodes {
		n := &c.nodes[i]
		if n.Weight == 0 {
			n.Weight = UsualWeight
		}
		if _, ok := zones[n.Zone]; !ok {
			zones[n.Zone] = len(zones)
		}
		c.zone = append(c.zone, zones[n.Zone])
		c.index[n.Store] = i
	}
	c.zones = len(zones)
	c.apportion()
	return c
}

// Shares is the feasible share of each node, in slots, in the order of nodes: by
// weight, at most all slots each, and shifted between zones by at most a quarter
// where that spreads replicas better. A node that cannot be used has 0.
func Shares(nodes []Node, slots, rf int) []float64 {
	c := newCast(nodes, slots, rf)
	out := make([]float64, len(nodes))
	for i, n := range nodes {
		if j, ok := c.index[n.Store]; ok {
			out[i] = c.shares[j].float()
		}
	}
	return out
}

func (c *cast) apportion() {
	n := len(c.nodes)
	c.shares = make([]share, n)
	c.lo, c.hi = make([]int64, c.zones), make([]int64, c.zones)
	total := int64(c.slots) * int64(c.rf)
	all, caps := make([]int, n), make([]int64, n)
	for i := range n {
		all[i], caps[i] = i, int64(c.slots)
	}
	c.pour(all, total, caps)
	for i, s := range c.shares {
		quarter := (s.whole*5*s.den + 5*s.num) / (4 * s.den)
		caps[i] = min(int64(c.slots), max(s.ceil(), quarter))
	}
	c.bound(caps, total)
	c.spread(caps, total)
}

// pour shares total out among members by weight, at most caps each; what is
// above a cap is poured over the others.
func (c *cast) pour(members []int, total int64, caps []int64) {
	free := slices.Clone(members)
	weight := int64(0)
	for _, i := range free {
		weight += int64(c.nodes[i].Weight)
	}
	for len(free) > 0 {
		full := 0
		left, w := total, weight
		free = slices.DeleteFunc(free, func(i int) bool {
			if total*int64(c.nodes[i].Weight) < caps[i]*weight {
				return false
			}
			c.shares[i] = share{caps[i], 0, 1}
			left, w, full = left-caps[i], w-int64(c.nodes[i].Weight), full+1
			return true
		})
		if full == 0 {
			break
		}
		total, weight = left, w
	}
	for _, i := range free {
		p := max(0, total) * int64(c.nodes[i].Weight)
		c.shares[i] = share{p / weight, p % weight, weight}
	}
}

// bound finds how many replicas each zone takes where zones are spread as far
// as the caps of their nodes allow. The k-th replica of a slot in a zone adds
// k-1 pairs that fail together; so every zone takes one of each slot, as far as
// it can, before any takes a second.
func (c *cast) bound(caps []int64, total int64) {
	room := make([]int64, c.zones)
	for i, z := range c.zone {
		room[z] += caps[i]
	}
	if c.zones == 0 {
		return
	}
	for level := int64(1); ; level++ {
		sum := int64(0)
		for z := range c.zones {
			c.lo[z] = min((level-1)*int64(c.slots), room[z])
			c.hi[z] = min(level*int64(c.slots), room[z])
			sum += c.hi[z]
		}
		if sum >= total || level > MaxReplicas {
			return
		}
	}
}

// spread pours again, with every zone between its bounds. The zones at a bound
// are found by halving: a zone's part grows with the level of the pouring.
func (c *cast) spread(caps []int64, total int64) {
	parts := make([]float64, c.zones)
	fill := func(level float64) (sum float64) {
		clear(parts)
		for i, z := range c.zone {
			parts[z] += min(float64(caps[i]), level*float64(c.nodes[i].Weight))
		}
		for z := range parts {
			sum += min(max(parts[z], float64(c.lo[z])), float64(c.hi[z]))
		}
		return sum
	}
	below, above := 0.0, float64(c.slots)
	for range 64 {
		if mid := (below + above) / 2; fill(mid) < float64(total) {
			below = mid
		} else {
			above = mid
		}
	}
	fill(above)
	const near = 1e-6
	var free []int
	for z := range c.zones {
		var members []int
		for i := range c.nodes {
			if c.zone[i] == z {
				members = append(members, i)
			}
		}
		switch {
		case parts[z] < float64(c.lo[z])-near:
			c.pour(members, c.lo[z], caps)
			total -= c.lo[z]
		case parts[z] > float64(c.hi[z])+near:
			c.pour(members, c.hi[z], caps)
			total -= c.hi[z]
		default:
			free = append(free, members...)
		}
	}
	c.pour(free, total, caps)
}

// quotas rounds the shares, so that they sum up: up where the node holds more
// than the lower bound already, which saves a move, then where most is cut off.
func (c *cast) quotas(held []int64) []int64 {
	quota := make([]int64, len(c.nodes))
	order := make([]int, len(c.nodes))
	inZone := make([]int64, c.zones)
	left := int64(c.slots) * int64(c.rf)
	for i, s := range c.shares {
		quota[i], order[i] = s.floor(), i
		left -= quota[i]
		inZone[c.zone[i]] += quota[i]
	}
	slices.SortStableFunc(order, func(a, b int) int {
		sa, sb := c.shares[a], c.shares[b]
		return cmp.Or(
			-cmp.Compare(min(1, max(0, held[a]-quota[a])), min(1, max(0, held[b]-quota[b]))),
			-cmp.Compare(float64(sa.num)/float64(sa.den), float64(sb.num)/float64(sb.den)),
		)
	})
	up := func(may func(i int) bool) {
		for _, i := range order {
			if left > 0 && quota[i] < c.shares[i].ceil() && may(i) {
				quota[i]++
				inZone[c.zone[i]]++
				left--
			}
		}
	}
	up(func(i int) bool { return inZone[c.zone[i]] < c.lo[c.zone[i]] })
	up(func(i int) bool { return inZone[c.zone[i]] < c.hi[c.zone[i]] })
	up(func(int) bool { return true })
	return quota
}

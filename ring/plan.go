package ring

import "slices"

// row is a slot in the making: indices of nodes, none where a place is empty.
type row [MaxReplicas]int16

const none int16 = -1

// plan is a table in the making.
type plan struct {
	*cast
	rows  []row
	was   []row   // before anything moves
	held  []int64 // slots of each node
	quota []int64
	count []uint8 // replicas by slot and zone
	most  []uint8 // of each zone in one slot, where zones are spread
	least []uint8
}

// Plan is the replica set that each slot should have. It depends on its
// arguments alone, not on the order of nodes. In this order: the replicas of a
// slot are distinct; no node is above 1.25 × its fair share; zones are spread;
// every node is within one slot of Shares; few replicas move. Fewer nodes than
// rf: all of them hold every slot.
//
// Which of equal slots a node gets is scattered: if two nodes shared all their
// slots, neither could take over from the other when it goes, and replicas of
// others would have to move for the balance.
//
// A replica that stays keeps its place in the set; a newcomer takes the place of
// the one that it replaces.
func Plan(t *Table, nodes []Node, rf int) []Set {
	p := &plan{cast: newCast(nodes, t.Slots(), rf)}
	p.rows = make([]row, p.slots)
	p.held = make([]int64, len(p.nodes))
	p.count = make([]uint8, p.slots*p.zones)
	standing := p.adopt(t)
	p.quota = p.quotas(p.held)
	p.limit()
	if !standing {
		p.layOut()
	} else {
		p.was = slices.Clone(p.rows)
		p.trim()
		p.fill()
		p.level()
		p.mix()
		p.refine()
	}
	return p.sets()
}

// adopt takes the replicas over that stand on nodes of the plan.
func (p *plan) adopt(t *Table) (standing bool) {
	for s := range p.rows {
		p.rows[s] = row{none, none, none, none, none}
		set := t.slots[s].Replicas
		for r := range set.Len() {
			if i, ok := p.index[set.At(r)]; ok {
				p.put(s, r, int16(i))
				standing = true
			}
		}
	}
	return standing
}

// put gives the place at of slot s to node i, or to none.
func (p *plan) put(s, at int, i int16) {
	if old := p.rows[s][at]; old != none {
		p.held[old]--
		p.count[s*p.zones+p.zone[old]]--
	}
	p.rows[s][at] = i
	if i != none {
		p.held[i]++
		p.count[s*p.zones+p.zone[i]]++
	}
}

// place is where node i stands in slot s; negative: nowhere.
func (p *plan) place(s int, i int16) int {
	for at, x := range p.rows[s] {
		if x == i {
			return at
		}
	}
	return -1
}

// scatter is an arbitrary number for a node and a slot, the same everywhere.
func scatter(s int, st Store) uint64 { return uint64(KeyOf(uint64(st), uint64(s))) }

func (p *plan) in(s, zone int) int { return int(p.count[s*p.zones+zone]) }

// limit is how many replicas of a slot each zone has in a plan without avoidable
// pairs: its part of all replicas, divided over the slots, down or up.
func (p *plan) limit() {
	sum := make([]int64, p.zones)
	for i, q := range p.quota {
		sum[p.zone[i]] += q
	}
	for _, q := range sum {
		p.least = append(p.least, uint8(q/int64(p.slots)))
		p.most = append(p.most, uint8((q+int64(p.slots)-1)/int64(p.slots)))
	}
}

// pairs is how many more pairs of a slot's replicas share a zone when to takes
// the place of from; both may be none.
func (p *plan) pairs(s int, from, to int16) int {
	d := 0
	if to != none {
		d += p.in(s, p.zone[to])
		if from != none && p.zone[from] == p.zone[to] {
			d--
		}
	}
	if from != none {
		d -= p.in(s, p.zone[from]) - 1
	}
	return d
}

// trim takes replicas away where a slot has more than the replication factor:
// those in crowded zones first, then those of the nodes that hold most too much.
func (p *plan) trim() {
	for s := range p.rows {
		n := 0
		for _, i := range p.rows[s] {
			if i != none {
				n++
			}
		}
		for ; n > p.rf; n-- {
			worst, at := none, -1
			for r, i := range p.rows[s] {
				if i == none {
					continue
				}
				if at < 0 || p.worse(s, i, worst) {
					worst, at = i, r
				}
			}
			p.put(s, at, none)
		}
	}
}

func (p *plan) worse(s int, a, b int16) bool {
	if d, e := p.pairs(s, a, none), p.pairs(s, b, none); d != e {
		return d < e
	}
	return p.held[a]-p.quota[a] >= p.held[b]-p.quota[b]
}

// sets is the plan in stores. A slot keeps the order of its places.
func (p *plan) sets() []Set {
	out := make([]Set, p.slots)
	for s, r := range p.rows {
		for _, i := range r {
			if i != none {
				out[s] = out[s].With(p.nodes[i].Store)
			}
		}
	}
	return out
}

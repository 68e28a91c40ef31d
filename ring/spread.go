package ring

import (
	"cmp"
	"slices"
)

// layOut fills an empty table. Slot by slot, each zone gets the replicas that it
// must have to come out even, and in it the nodes that have most to take: so no
// node is left with more than one replica of the last slots.
func (p *plan) layOut() {
	zone := make([][]int16, p.zones)
	sum := make([]int64, p.zones)
	left := slices.Clone(p.quota)
	for i, z := range p.zone {
		zone[z] = append(zone[z], int16(i))
		sum[z] += left[i]
	}
	take := make([]int64, p.zones)
	for s := range p.rows {
		rest := int64(p.slots - s)
		p.zoneTakes(take, sum, rest)
		at := 0
		for z, members := range zone {
			slices.SortFunc(members, func(a, b int16) int {
				if left[a] != left[b] {
					return int(left[b] - left[a])
				}
				return cmp.Compare(scatter(s, p.nodes[a].Store), scatter(s, p.nodes[b].Store))
			})
			for _, i := range members[:min(int(take[z]), len(members))] {
				p.put(s, at, i)
				left[i]--
				sum[z]--
				at++
			}
		}
		slices.Sort(p.rows[s][:at])
	}
}

// zoneTakes shares a slot's places out among zones that have sum replicas left
// for rest slots: each its even part, rounded down, and the largest remainders
// one more.
func (p *plan) zoneTakes(take, sum []int64, rest int64) {
	places := int64(p.rf)
	for z := range take {
		take[z] = sum[z] / rest
		places -= take[z]
	}
	for ; places > 0; places-- {
		best := -1
		for z := range take {
			if take[z] == sum[z]/rest && sum[z]%rest > 0 && (best < 0 || sum[z]%rest > sum[best]%rest) {
				best = z
			}
		}
		if best < 0 {
			return
		}
		take[best]++
	}
}

// mix exchanges replicas between slots where one has more of a zone, or less,
// than an even spread gives it. Every exchange leaves fewer pairs of replicas
// that share a zone, so it ends.
func (p *plan) mix() {
	if p.zones < 2 {
		return
	}
	slotsOf := make([][]int32, len(p.nodes))
	for s := range p.rows {
		for _, i := range p.rows[s] {
			if i != none {
				slotsOf[i] = append(slotsOf[i], int32(s))
			}
		}
	}
	for s := range p.rows {
		for p.uneven(s) && p.exchange(s, slotsOf) {
		}
	}
}

func (p *plan) uneven(s int) bool {
	for z := range p.zones {
		if n := p.in(s, z); n > int(p.most[z]) || n < int(p.least[z]) {
			return true
		}
	}
	return false
}

// exchange finds the best partner for slot s, of equal ones the one that moves
// fewest: node a of s and node b of another slot change places. slotsOf may name slots that a node has left since.
func (p *plan) exchange(s int, slotsOf [][]int32) bool {
	best, cost, at, from, to := 0, 0, -1, none, none
	other := 0
	for r, a := range p.rows[s] {
		if a == none {
			continue
		}
		for b := range int16(len(p.nodes)) {
			gain := p.pairs(s, a, b)
			if p.place(s, b) >= 0 {
				continue
			}
			for _, x := range slotsOf[b] {
				o := int(x)
				if p.place(o, b) < 0 || p.place(o, a) >= 0 {
					continue
				}
				d, c := gain+p.pairs(o, b, a), p.cost(s, a, b)+p.cost(o, b, a)
				if d < best || d == best && d < 0 && c < cost {
					best, cost, at, from, to, other = d, c, r, a, b, o
				}
			}
		}
	}
	if at < 0 {
		return false
	}
	p.put(other, p.place(other, to), from)
	p.put(s, at, to)
	slotsOf[from] = append(slotsOf[from], int32(other))
	slotsOf[to] = append(slotsOf[to], int32(s))
	return true
}

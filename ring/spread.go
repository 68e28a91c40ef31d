package ring

import "slices"

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
	chosen := make([]int16, 0, MaxReplicas+1)
	for s := range p.rows {
		p.zoneTakes(s, take, sum)
		at := 0
		for z, members := range zone {
			first := chosen[:0]
			for _, i := range members {
				first = p.keepFirst(first, i, s, int(take[z]), left)
			}
			for _, i := range first {
				p.put(s, at, i)
				left[i]--
				sum[z]--
				at++
			}
		}
	}
	p.shuffle()
	for s := range p.rows {
		slices.Sort(p.rows[s][:p.rf])
	}
}

// shuffle lets nodes of one zone change places between slots at random. Laid out
// in turn, a node meets some others far more often than the rest; when it leaves,
// those cannot take over its slots, which they hold already.
func (p *plan) shuffle() {
	const dice Store = 1 << 31 // no store, for other numbers than its slots get
	for s := range p.rows {
		for at, a := range p.rows[s] {
			if a == none {
				continue
			}
			o := int(scatter(s, dice+Store(at)) % uint64(p.slots))
			if p.place(o, a) >= 0 {
				continue
			}
			for otherAt, b := range p.rows[o] {
				if b != none && p.zone[b] == p.zone[a] && p.place(s, b) < 0 {
					p.put(s, at, b)
					p.put(o, otherAt, a)
					break
				}
			}
		}
	}
}

// keepFirst puts node i among the first n of slot s: those that have most left to
// take, in scattered order where they have as much. first has room for one more.
func (p *plan) keepFirst(first []int16, i int16, s, n int, left []int64) []int16 {
	before := func(a, b int16) bool {
		if left[a] != left[b] {
			return left[a] > left[b]
		}
		return scatter(s, p.nodes[a].Store) < scatter(s, p.nodes[b].Store)
	}
	if n == 0 || len(first) == n && !before(i, first[n-1]) {
		return first
	}
	first = append(first, i)
	for at := len(first) - 1; at > 0 && before(i, first[at-1]); at-- {
		first[at-1], first[at] = first[at], first[at-1]
	}
	return first[:min(n, len(first))]
}

// zoneTakes shares the places of slot s out among zones that have sum replicas
// left for it and the slots behind it: each its even part, rounded down, and the
// largest remainders one more. Which of equal ones is scattered, so that a zone
// meets every other in some slots: else only part of the others could take over
// from a node that leaves.
func (p *plan) zoneTakes(s int, take, sum []int64) {
	rest := int64(p.slots - s)
	places := int64(p.rf)
	for z := range take {
		take[z] = sum[z] / rest
		places -= take[z]
	}
	for ; places > 0; places-- {
		best := -1
		for z := range take {
			if take[z] > sum[z]/rest || sum[z]%rest == 0 {
				continue
			}
			if best < 0 || sum[z]%rest > sum[best]%rest || sum[z]%rest == sum[best]%rest && scatter(s, Store(z)) < scatter(s, Store(best)) {
				best = z
			}
		}
		if best < 0 {
			return
		}
		take[best]++
	}
}

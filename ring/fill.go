package ring

import "cmp"

// fill gives every empty place to a node that lacks slots. If all that lack slots
// hold this one, somebody gets too many, and level mends it.
func (p *plan) fill() {
	f := filling{plan: p, lack: make([]int64, p.zones), due: make([]int64, p.zones)}
	for i, z := range p.zone {
		f.lack[z] += p.lack(int16(i))
	}
	for s := range p.rows {
		for z := range p.zones {
			f.due[z] += max(0, int64(p.least[z])-int64(p.in(s, z)))
		}
	}
	for s := range p.rows {
		f.slot(s)
	}
}

// filling is what zones have yet to take: lack replicas in all, due of them in
// slots where the zone would have too few otherwise.
type filling struct {
	*plan
	lack, due []int64
}

func (f *filling) slot(s int) {
	n := 0
	for _, i := range f.rows[s] {
		if i != none {
			n++
		}
	}
	for ; n < f.rf; n++ {
		i := f.newcomer(s)
		z := f.zone[i]
		if f.in(s, z) < int(f.least[z]) {
			f.due[z]--
		}
		f.lack[z]--
		f.put(s, f.place(s, none), i)
	}
}

func (f *filling) newcomer(s int) int16 {
	best := none
	for i := range int16(len(f.nodes)) {
		if f.place(s, i) < 0 && (best == none || f.compare(s, i, best) < 0) {
			best = i
		}
	}
	return best
}

// compare is negative where slot s should rather go to a than to b: first who
// lacks slots at all; then whose zone has too few here, not too many, and most to
// place beyond that; then who lacks most.
func (f *filling) compare(s int, a, b int16) int {
	return cmp.Or(
		-cmp.Compare(min(f.plan.lack(a), 1), min(f.plan.lack(b), 1)),
		cmp.Compare(f.crowd(s, a), f.crowd(s, b)),
		-cmp.Compare(f.spare(a), f.spare(b)),
		-cmp.Compare(f.plan.lack(a), f.plan.lack(b)),
		cmp.Compare(scatter(s, f.nodes[a].Store), scatter(s, f.nodes[b].Store)),
	)
}

// crowd is 0 where the slot needs one more of the node's zone, 1 where it may
// have one more, and more where that crowds it.
func (f *filling) crowd(s int, i int16) int {
	z := f.zone[i]
	switch n := f.in(s, z); {
	case n < int(f.least[z]):
		return 0
	case n < int(f.most[z]):
		return 1
	default:
		return 2 + n
	}
}

func (f *filling) spare(i int16) int64 { return f.lack[f.zone[i]] - f.due[f.zone[i]] }

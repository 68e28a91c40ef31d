package ring

// mix exchanges replicas between slots where one has more of a zone, or less,
// than an even spread gives it. Every exchange leaves fewer pairs of replicas
// that share a zone, so it ends.
func (p *plan) mix() {
	if p.zones < 2 {
		return
	}
	m := mixing{plan: p, index: map[string]int32{}, kind: make([]int32, p.slots)}
	for s := range p.rows {
		m.file(s)
	}
	for again := true; again; {
		again = false
		for s := range p.rows {
			for p.uneven(s) && m.exchange(s) {
				again = true
			}
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

// mixing keeps slots by kind: slots of one kind have as many replicas in each
// zone, so an exchange with any of them spreads zones as well as with another.
type mixing struct {
	*plan
	index map[string]int32 // kind by its numbers
	count [][]uint8        // replicas by kind and zone
	of    [][]int32        // slots by kind; may name some that are of another by now
	kind  []int32          // kind by slot
}

// file puts slot s among those of its kind.
func (m *mixing) file(s int) {
	count := m.plan.count[s*m.zones : (s+1)*m.zones]
	k, known := m.index[string(count)]
	if !known {
		k = int32(len(m.count))
		m.index[string(count)] = k
		m.count, m.of = append(m.count, append([]uint8(nil), count...)), append(m.of, nil)
	}
	m.kind[s] = k
	m.of[k] = append(m.of[k], int32(s))
}

// offer is a sort of exchanges: a slot gives a replica in zone out and gets one
// in zone in, from a slot of a kind.
type offer struct {
	kind    int32
	out, in int
}

// swap is one exchange: the node at a place of the slot and the node at a place
// of another one.
type swap struct {
	at, other, otherAt int
	cost               int // replicas moved more, by the plan
}

// exchange finds a best partner for slot s, of equal ones one that moves few:
// node a of s and node b of another slot change places.
func (m *mixing) exchange(s int) bool {
	offers, best := m.offers(s)
	for pairs := best; pairs < 0; pairs++ {
		w, found := m.cheapest(s, offers[-pairs])
		if !found {
			continue
		}
		a, b := m.rows[s][w.at], m.rows[w.other][w.otherAt]
		m.put(s, w.at, b)
		m.put(w.other, w.otherAt, a)
		m.file(s)
		m.file(w.other)
		return true
	}
	return false
}

// offers sorts what spreads zones better by how many pairs of replicas fewer
// share a zone, which it counts below 0.
func (m *mixing) offers(s int) (by map[int][]offer, best int) {
	mine := m.count[m.kind[s]]
	by = map[int][]offer{}
	for k, theirs := range m.count {
		if len(m.of[k]) == 0 {
			continue
		}
		for out := range m.zones {
			if mine[out] == 0 {
				continue
			}
			for in := range m.zones {
				if in == out || theirs[in] == 0 {
					continue
				}
				pairs := int(mine[in]) - int(mine[out]) + int(theirs[out]) - int(theirs[in]) + 2
				if pairs < 0 {
					by[-pairs] = append(by[-pairs], offer{int32(k), out, in})
					best = min(best, pairs)
				}
			}
		}
	}
	return by, best
}

// enough is how many partners are looked at once one is found: all of them in
// rings of usual size; in larger ones some that move few replicas turn up early.
const enough = 1024

func (m *mixing) cheapest(s int, offers []offer) (best swap, found bool) {
	looked := 0
	for _, o := range offers {
		of := m.of[o.kind]
		for i := 0; i < len(of) && (!found || looked <= enough && best.cost > 0); {
			other := int(of[i])
			if m.kind[other] != o.kind {
				of[i] = of[len(of)-1]
				of = of[:len(of)-1]
				continue
			}
			i++
			if other == s {
				continue
			}
			looked++
			best, found = m.partner(s, other, o, best, found)
		}
		m.of[o.kind] = of
	}
	return best, found
}

// partner is the cheapest exchange of an offer with one slot, where it is cheaper
// than the best so far.
func (m *mixing) partner(s, other int, o offer, best swap, found bool) (swap, bool) {
	for at, a := range m.rows[s] {
		if a == none || m.zone[a] != o.out || m.place(other, a) >= 0 {
			continue
		}
		for otherAt, b := range m.rows[other] {
			if b == none || m.zone[b] != o.in || m.place(s, b) >= 0 {
				continue
			}
			if cost := m.cost(s, a, b) + m.cost(other, b, a); !found || cost < best.cost {
				best, found = swap{at, other, otherAt, cost}, true
			}
		}
	}
	return best, found
}

package ring

import (
	"cmp"
	"slices"
)

// Outlook is what a table means for its nodes: how evenly they hold it, how zones
// are spread, and what the loss of nodes would put below its quorum. Slots that
// are below it anyway are counted once, in Below, and nowhere else.
type Outlook struct {
	Least, Most int // slots of the nodes that hold fewest and most
	Sets        int // distinct replica sets
	Apart       int // slots whose replicas all stand in different zones
	Below       int // slots with fewer replicas than their quorum
	Zones       []ZoneOutlook
	Two         TwoLost
}

// ZoneOutlook is one zone's part.
type ZoneOutlook struct {
	Zone            string
	Nodes, Replicas int
	// Below is how many slots have no quorum while the zone is away.
	Below int
}

// TwoLost is what the loss of two nodes at once does, whichever they are.
type TwoLost struct {
	Pairs    int // of nodes
	Touching int // pairs whose loss puts some slot below its quorum
	// Slots is how many, summed over all pairs.
	Slots int
	// Worst is how many at most, when A and B are lost.
	Worst int
	A, B  Store
}

// OutlookOf looks at slots held by these nodes. Its work grows with the slots, and
// a little with the nodes: pairs of nodes that share no slot are not looked at.
func OutlookOf(t *Table, nodes []Node) Outlook {
	c := newCast(nodes, 1, 1)
	held, in := make([]int, len(c.nodes)), make([]int, c.zones)
	o := Outlook{Zones: make([]ZoneOutlook, c.zones)}
	for i, z := range c.zone {
		o.Zones[z].Zone = c.nodes[i].Zone
		o.Zones[z].Nodes++
	}
	sets, lost := map[Set]struct{}{}, newLosses(len(c.nodes))
	for i := range t.slots {
		s := &t.slots[i]
		members := make([]int, 0, MaxReplicas)
		clear(in)
		for k := range s.Replicas.Len() {
			if n, known := c.index[s.Replicas.At(k)]; known {
				members = append(members, n)
				held[n]++
				in[c.zone[n]]++
			}
		}
		slices.Sort(members)
		var set Set
		for _, n := range members {
			set = set.With(c.nodes[n].Store)
		}
		sets[set] = struct{}{}
		spare := s.Replicas.Len() - s.Quorum
		apart := true
		for z, n := range in {
			o.Zones[z].Replicas += n
			apart = apart && n < 2
			if spare >= 0 && n > spare {
				o.Zones[z].Below++
			}
		}
		if apart {
			o.Apart++
		}
		if spare < 0 {
			o.Below++
		}
		lost.slot(members, spare)
	}
	o.Sets, o.Two = len(sets), lost.sum(c)
	if len(held) > 0 {
		o.Least, o.Most = slices.Min(held), slices.Max(held)
	}
	slices.SortFunc(o.Zones, func(a, b ZoneOutlook) int { return cmp.Compare(a.Zone, b.Zone) })
	return o
}

// losses counts the slots below their quorum by who is lost: alone by one node,
// and what two do more, or less, than each of them alone.
type losses struct {
	alone  []int
	beyond map[[2]int]int
}

func newLosses(nodes int) *losses {
	return &losses{alone: make([]int, nodes), beyond: map[[2]int]int{}}
}

// slot counts one slot with members, in ascending order, that can spare some.
func (l *losses) slot(members []int, spare int) {
	more := 1
	switch spare {
	case 0:
		for _, n := range members {
			l.alone[n]++
		}
		more = -1 // the slot of both counts once
	case 1:
	default:
		return
	}
	for i, a := range members {
		for _, b := range members[i+1:] {
			l.beyond[[2]int{a, b}] += more
		}
	}
}

func (l *losses) sum(c *cast) TwoLost {
	n := len(l.alone)
	two := TwoLost{Pairs: n * (n - 1) / 2}
	idle := 0 // nodes that put nothing below its quorum alone
	for _, slots := range l.alone {
		two.Slots += slots * (n - 1)
		if slots == 0 {
			idle++
		}
	}
	two.Touching = two.Pairs - idle*(idle-1)/2
	take := func(a, b, slots int) {
		x, y := c.nodes[a].Store, c.nodes[b].Store
		if slots > two.Worst || slots == two.Worst && slots > 0 && cmp.Or(cmp.Compare(x, two.A), cmp.Compare(y, two.B)) < 0 {
			two.Worst, two.A, two.B = slots, x, y
		}
	}
	for pair, slots := range l.beyond {
		a, b := pair[0], pair[1]
		two.Slots += slots
		if l.alone[a] == 0 && l.alone[b] == 0 {
			two.Touching++
		}
		take(a, b, l.alone[a]+l.alone[b]+slots)
	}
	l.strangers(take)
	return two
}

// strangers tells of the worst pairs that share no slot.
func (l *losses) strangers(take func(a, b, slots int)) {
	order := make([]int, len(l.alone))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(l.alone[b], l.alone[a]) })
	worst := 1
	for i, a := range order {
		for _, b := range order[i+1:] {
			slots := l.alone[a] + l.alone[b]
			if slots < worst {
				break
			}
			if _, share := l.beyond[[2]int{min(a, b), max(a, b)}]; !share {
				take(min(a, b), max(a, b), slots)
				worst = slots
			}
		}
	}
}

// Rounds is how many rounds of steps lead from the table to the target: in each, a
// slot changes by one replica at most, and must be settled before the next.
func Rounds(t *Table, target []Set, quorum int) int {
	most := 0
	for i, want := range target[:min(len(t.slots), len(target))] {
		s := &t.slots[i]
		switch d := s.Replicas.distance(want); {
		case s.Replicas.Len() == 0 && d > 0:
			most = max(most, 1)
		case d > 0:
			most = max(most, d)
		case s.Quorum != quorum:
			most = max(most, 1)
		}
	}
	return most
}

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// plannedRing is a plan as the API answers it.
type plannedRing struct {
	Name              string  `json:"name"`
	Slots             int     `json:"slots"`
	ReplicationFactor int     `json:"replication_factor"`
	WriteQuorum       int     `json:"write_quorum"`
	Moves             int     `json:"moves"`
	MovedPercent      float64 `json:"moved_percent"`
	Steps             int     `json:"steps"`
	Rounds            int     `json:"rounds"`
	NewSeries         float64 `json:"new_series"`
	Pace              int64   `json:"move_series_per_second"`
	Seconds           int64   `json:"seconds"`
	Before, After     outlook
	Nodes             []plannedNode
}

// plannedNode is a node of a plan.
type plannedNode struct {
	Name, Zone              string
	Weight                  int
	Share                   float64
	Now, Then, Gains, Loses int
	NewSeries               float64 `json:"new_series"`
}

// outlook is what a table means.
type outlook struct {
	Nodes, Least, Most int
	ReplicaSets        int `json:"replica_sets"`
	Apart              int `json:"slots_in_distinct_zones"`
	Below              int `json:"slots_below_quorum"`
	Zones              []outlookZone
	Two                struct {
		Pairs    int
		Touching float64  `json:"touching_percent"`
		Average  float64  `json:"average_percent"`
		Worst    float64  `json:"worst_percent"`
		Names    []string `json:"worst_pair"`
	} `json:"two_nodes_lost"`
}

type outlookZone struct {
	Zone            string
	Nodes, Replicas int
	Below           int `json:"slots_below_quorum_without"`
}

// plan prints what would move, what the ring is and would be, and each node.
func (s stdio) plan(a plannedRing) {
	s.printf("dry run, nothing is changed\n")
	s.printf("ring %s: %d slots, replication factor %d, write quorum %d, %s\n",
		a.Name, a.Slots, a.ReplicationFactor, a.WriteQuorum, became(a.Before.Nodes, a.After.Nodes, "node"))
	if a.After.Nodes < a.ReplicationFactor {
		s.printf("SHORT: %s for %d replicas; the quorum still counts from the replication factor\n", numbered(a.After.Nodes, "node"), a.ReplicationFactor)
	}
	s.printf("\n%s\n\n", a.movement())
	s.table([]string{"THE RING", "NOW", "THEN"}, a.outlooks())
	s.printf("\n")
	s.plannedNodes(a)
}

func became(before, after int, what string) string {
	if before == after {
		return numbered(after, what)
	}
	return fmt.Sprintf("%d -> %s", before, numbered(after, what))
}

// numbered is a number of things.
func numbered(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// movement is what goes where, in sentences.
func (a plannedRing) movement() string {
	if a.Steps == 0 {
		return "nothing moves: every slot is where it should be"
	}
	text := fmt.Sprintf("%s of %d come to another node, %s; %s of one replica each in %s, at most one a slot in each",
		numbered(a.Moves, "slot replica"), a.replicas(), hundredths(a.MovedPercent), numbered(a.Steps, "step"), numbered(a.Rounds, "round"))
	if a.NewSeries > 0 {
		text += fmt.Sprintf("\nabout %s series are new to a node; at %s a second on each node that takes %s at least",
			count(a.NewSeries), count(float64(a.Pace)), time.Duration(a.Seconds)*time.Second)
	}
	return text
}

// replicas is how many there would be of all slots.
func (a plannedRing) replicas() int {
	sum := 0
	for _, n := range a.Nodes {
		sum += n.Then
	}
	return sum
}

// hundredths is a percentage as the API has it.
func hundredths(percent float64) string { return fmt.Sprintf("%g%%", percent) }

// outlooks has a row for each thing to know of the ring, now and then.
func (a plannedRing) outlooks() [][]string {
	pair := func(what string, of func(outlook) string) []string { return []string{what, of(a.Before), of(a.After)} }
	rows := [][]string{
		pair("slots of a node, least to most", func(o outlook) string { return fmt.Sprintf("%d to %d", o.Least, o.Most) }),
		pair("distinct replica sets", func(o outlook) string { return fmt.Sprint(o.ReplicaSets) }),
	}
	if a.Before.Below+a.After.Below > 0 {
		rows = append(rows, pair("slots below their write quorum", func(o outlook) string { return fmt.Sprint(o.Below) }))
	}
	if len(a.Before.Zones) > 1 || len(a.After.Zones) > 1 {
		rows = append(rows, pair("slots with all replicas in distinct zones", func(o outlook) string { return a.ofSlots(o.Apart) }))
		rows = append(rows, a.zones()...)
	}
	if a.Before.Two.Pairs+a.After.Two.Pairs > 0 {
		rows = append(rows,
			pair("two nodes lost: pairs that put a slot below its quorum", two(func(o outlook) string { return hundredths(o.Two.Touching) })),
			pair("  slots below it, on average", two(func(o outlook) string { return hundredths(o.Two.Average) })),
			pair("  slots below it, at worst", two(func(o outlook) string {
				return strings.TrimSpace(hundredths(o.Two.Worst) + " " + strings.Join(o.Two.Names, "+"))
			})),
		)
	}
	return rows
}

// two is a cell about two nodes, where there are two.
func two(of func(outlook) string) func(outlook) string {
	return func(o outlook) string {
		if o.Two.Pairs == 0 {
			return "-"
		}
		return of(o)
	}
}

func (a plannedRing) ofSlots(n int) string {
	return fmt.Sprintf("%d (%.0f%%)", n, float64(n)*100/float64(max(1, a.Slots)))
}

// zones has a row for each zone: its part, and what its loss would do.
func (a plannedRing) zones() [][]string {
	var names []string
	cells, lost := [2]map[string]string{{}, {}}, [2]map[string]string{{}, {}}
	for i, o := range []outlook{a.Before, a.After} {
		for _, z := range o.Zones {
			names = append(names, z.Zone)
			cells[i][z.Zone] = fmt.Sprintf("%s, %s", numbered(z.Nodes, "node"), numbered(z.Replicas, "replica"))
			lost[i][z.Zone] = a.ofSlots(z.Below)
		}
	}
	slices.Sort(names)
	var rows [][]string
	for _, name := range slices.Compact(names) {
		title := "zone " + cmp.Or(name, "(none)")
		rows = append(rows,
			[]string{title, cmp.Or(cells[0][name], "-"), cmp.Or(cells[1][name], "-")},
			[]string{"  slots below their quorum without it", cmp.Or(lost[0][name], "-"), cmp.Or(lost[1][name], "-")})
	}
	return rows
}

// plannedBars is how long the longest bar is, plannedRows how many nodes are shown.
const (
	plannedBars = 32
	plannedRows = 60
)

// plannedNodes has a row for each node; of very many, those that change most.
func (s stdio) plannedNodes(a plannedRing) {
	nodes, widest := slices.Clone(a.Nodes), 1
	for _, n := range nodes {
		widest = max(widest, n.Now+n.Gains)
	}
	if len(nodes) > plannedRows {
		slices.SortStableFunc(nodes, func(x, y plannedNode) int { return cmp.Compare(y.Gains+y.Loses, x.Gains+x.Loses) })
		nodes = nodes[:plannedRows]
	}
	rows := make([][]string, 0, len(nodes))
	for _, n := range nodes {
		rows = append(rows, []string{
			n.Name, cmp.Or(n.Zone, "-"), fmt.Sprint(n.Weight), fmt.Sprintf("%.1f", n.Share), fmt.Sprint(n.Now), fmt.Sprint(n.Then),
			signed("+", n.Gains), signed("-", n.Loses), count(n.NewSeries), n.bar(widest),
		})
	}
	s.table([]string{"NODE", "ZONE", "WEIGHT", "DUE", "NOW", "THEN", "GAINS", "LOSES", "NEW SERIES", "█ STAYS  ░ COMES  · GOES"}, rows)
	if left := len(a.Nodes) - len(nodes); left > 0 {
		s.printf("and %d nodes that change less: `-o json` has them all\n", left)
	}
}

func signed(sign string, n int) string {
	if n == 0 {
		return "0"
	}
	return sign + fmt.Sprint(n)
}

// bar is drawn by its ends, so that rounding adds nothing up.
func (n plannedNode) bar(widest int) string {
	end := func(slots int) int { return (slots*plannedBars + widest/2) / widest }
	stays, comes, goes := end(n.Now-n.Loses), end(n.Then), end(n.Now+n.Gains)
	return strings.Repeat("█", stays) + strings.Repeat("░", comes-stays) + strings.Repeat("·", goes-comes)
}

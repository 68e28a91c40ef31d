package admin

import (
	"math"
	"slices"
	"strings"

	"github.com/muster-metrics/muster/ring"
)

// planObject is what would follow. Nothing of it is kept.
type planObject struct {
	Name              string `json:"name"`
	Slots             int    `json:"slots"`
	ReplicationFactor int    `json:"replication_factor"`
	WriteQuorum       int    `json:"write_quorum"`
	// Moves counts the slot replicas that would come to a node.
	Moves        int     `json:"moves"`
	MovedPercent float64 `json:"moved_percent"` // of all replicas that there would be
	Steps        int     `json:"steps"`         // of one replica each
	Rounds       int     `json:"rounds"`        // of steps, one a slot
	// NewSeries is about how many series would be new to a node, over all nodes;
	// Seconds how long that takes at least at the pace, series a second and node.
	NewSeries int64       `json:"new_series"`
	Pace      int64       `json:"move_series_per_second"`
	Seconds   int64       `json:"seconds"`
	Before    planOutlook `json:"before"`
	After     planOutlook `json:"after"`
	Nodes     []planNode  `json:"nodes"`
}

type planNode struct {
	Name   string  `json:"name"`
	Zone   string  `json:"zone"`
	Weight uint32  `json:"weight"`
	Share  float64 `json:"share"` // slots that are due to it then
	Now    int     `json:"now"`   // slots that it holds
	Then   int     `json:"then"`  // slots that it would hold
	Gains  int     `json:"gains"`
	Loses  int     `json:"loses"`
	// NewSeries is about how many it would get.
	NewSeries int64 `json:"new_series"`
}

// planOutlook is what a table means.
type planOutlook struct {
	Nodes       int        `json:"nodes"`
	Least       int        `json:"least"` // slots of the node that holds fewest
	Most        int        `json:"most"`
	ReplicaSets int        `json:"replica_sets"`
	Apart       int        `json:"slots_in_distinct_zones"`
	Below       int        `json:"slots_below_quorum"`
	Zones       []planZone `json:"zones"`
	Two         planTwo    `json:"two_nodes_lost"`
}

type planZone struct {
	Zone     string `json:"zone"`
	Nodes    int    `json:"nodes"`
	Replicas int    `json:"replicas"`
	// Below is how many slots lack their quorum while the zone is away.
	Below int `json:"slots_below_quorum_without"`
}

// planTwo is what the loss of any two nodes would touch, in percent.
type planTwo struct {
	Pairs    int      `json:"pairs"`
	Touching float64  `json:"touching_percent"` // pairs that put some slot below its quorum
	Average  float64  `json:"average_percent"`  // slots below it, over all pairs
	Worst    float64  `json:"worst_percent"`    // slots below it, of the worst pair
	Names    []string `json:"worst_pair"`
}

func (p *prospect) outlook(t *ring.Table, nodes []ring.Node) planOutlook {
	l := ring.OutlookOf(t, nodes)
	o := planOutlook{
		Nodes: len(nodes), Least: l.Least, Most: l.Most, ReplicaSets: l.Sets, Apart: l.Apart, Below: l.Below, Zones: []planZone{},
		Two: planTwo{
			Pairs: l.Two.Pairs, Touching: percentOf(l.Two.Touching, l.Two.Pairs),
			Average: percentOf(l.Two.Slots, l.Two.Pairs*t.Slots()), Worst: percentOf(l.Two.Worst, t.Slots()), Names: []string{},
		},
	}
	if l.Two.Worst > 0 {
		o.Two.Names = []string{p.name(l.Two.A), p.name(l.Two.B)}
		slices.Sort(o.Two.Names)
	}
	for _, z := range l.Zones {
		o.Zones = append(o.Zones, planZone{z.Zone, z.Nodes, z.Replicas, z.Below})
	}
	return o
}

// percentOf is a part in percent, to the hundredth.
func percentOf(part, of int) float64 {
	if of == 0 {
		return 0
	}
	return math.Round(float64(part)/float64(of)*10_000) / 100
}

// name is the node of a store, whether it is there or only might be.
func (p *prospect) name(store ring.Store) string {
	if name, planned := p.names[store]; planned {
		return name
	}
	return p.st.Store(store).GetNode()
}

// measure counts who would lose and gain.
func (o *planObject) measure(p *prospect, target []ring.Set, then *ring.Table, arrivals map[ring.Store]float64) {
	now, will, gains, all := p.r.Table.Held(), then.Held(), map[ring.Store]int{}, 0
	for i, set := range target {
		all += set.Len()
		for k := range set.Len() {
			if !p.r.Table.At(i).Replicas.Has(set.At(k)) {
				gains[set.At(k)]++
				o.Moves++
			}
		}
	}
	o.MovedPercent = percentOf(o.Moves, all)
	shares, sum, most := ring.Shares(p.nodes, o.Slots, p.rf), 0.0, 0.0
	for i, n := range p.nodes {
		o.Nodes = append(o.Nodes, planNode{
			Name: p.names[n.Store], Zone: n.Zone, Weight: n.Weight, Share: math.Round(shares[i]*100) / 100,
			Now: now[n.Store], Then: will[n.Store], Gains: gains[n.Store], Loses: now[n.Store] + gains[n.Store] - will[n.Store],
			NewSeries: int64(arrivals[n.Store]),
		})
		sum, most = sum+arrivals[n.Store], max(most, arrivals[n.Store])
		delete(now, n.Store)
	}
	for store, held := range now { // whoever would hold nothing any more
		m := p.st.Holder(store)
		o.Nodes = append(o.Nodes, planNode{Name: p.name(store), Zone: m.GetZone(), Weight: m.GetWeight(), Now: held, Loses: held})
	}
	o.NewSeries = int64(sum)
	if o.Pace > 0 {
		o.Seconds = int64(math.Ceil(most / float64(o.Pace)))
	}
	slices.SortFunc(o.Nodes, func(x, y planNode) int { return strings.Compare(x.Name, y.Name) })
}

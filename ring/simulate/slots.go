package simulate

import (
	"strconv"

	"github.com/muster-metrics/muster/ring"
)

// planned is the planner's nodes.
func planned(nodes []Node) []ring.Node {
	var out []ring.Node
	for i, n := range nodes {
		if !n.Gone {
			out = append(out, ring.Node{Store: ring.Store(i + 1), Weight: n.Weight, Zone: strconv.Itoa(n.Zone)})
		}
	}
	return out
}

// Slots is the slot table as the planner lays it out, or changes the one before
// it, which may be nil.
func Slots(before []ring.Set, nodes []Node, rf, slots int) ([]ring.Set, error) {
	if before == nil {
		before = make([]ring.Set, slots)
	}
	held := make([]ring.Slot, len(before))
	for i, s := range before {
		held[i].Replicas = s
	}
	t, err := ring.New(held, nil)
	if err != nil {
		return nil, err
	}
	return ring.Plan(t, planned(nodes), rf), nil
}

// FewSets is a slot table whose nodes stand in groups that share all their
// slots: as few distinct replica sets as there can be. A group takes nodes of
// different zones; nodes that are left over fill up with the first ones.
func FewSets(nodes []Node, rf, slots int) []ring.Set {
	zones := map[int][]ring.Store{}
	n, living := 0, 0
	for i, node := range nodes {
		if !node.Gone {
			zones[node.Zone] = append(zones[node.Zone], ring.Store(i+1))
			n, living = max(n, node.Zone+1), living+1
		}
	}
	var row []ring.Store // zone after zone in turn, so that neighbours differ
	for len(row) < living {
		for z := range n {
			if left := zones[z]; len(left) > 0 {
				row, zones[z] = append(row, left[0]), left[1:]
			}
		}
	}
	rf = min(rf, living)
	var groups []ring.Set
	for i := 0; rf > 0 && i < living; i += rf {
		var g ring.Set
		for k := range rf {
			g = g.With(row[(i+k)%living])
		}
		groups = append(groups, g)
	}
	out := make([]ring.Set, slots)
	for s := range out {
		if len(groups) > 0 {
			out[s] = groups[s%len(groups)]
		}
	}
	return out
}

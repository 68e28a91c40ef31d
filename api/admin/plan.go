package admin

import (
	"net/http"
	"slices"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// planRequest is what might be: nodes that join, nodes that leave, other
// weights. Nothing named: what a rebalance would do now.
type planRequest struct {
	Add    []string          `json:"add"`
	Remove []string          `json:"remove"`
	Weight map[string]uint32 `json:"weight"`
}

// planObject is what would follow. Nothing of it is kept.
type planObject struct {
	Name string `json:"name"`
	// Moves counts the slot replicas that would come to a node.
	Moves int        `json:"moves"`
	Slots int        `json:"slots"`
	Nodes []planNode `json:"nodes"`
}

type planNode struct {
	Name   string `json:"name"`
	Weight uint32 `json:"weight"`
	Now    int    `json:"now"`  // slots that it holds
	Then   int    `json:"then"` // slots that it would hold
	Gains  int    `json:"gains"`
}

// plan shows a move before it is made.
func (a *api) plan(w http.ResponseWriter, req *http.Request) {
	req.Body = http.MaxBytesReader(w, req.Body, maxBody)
	var o planRequest
	err := decode(req, &o)
	if err != nil {
		a.fail(w, req, err)
		return
	}
	st, err := a.stateFor(req)
	if err != nil {
		a.fail(w, req, err)
		return
	}
	r, err := findRing(st, req.PathValue("name"))
	if err != nil {
		a.fail(w, req, err)
		return
	}
	p, err := planOf(st, r, o)
	if err != nil {
		a.fail(w, req, err)
		return
	}
	a.stamp(w, req, st)
	send(w, http.StatusOK, p)
}

func planOf(st *cluster.State, r *cluster.Ring, o planRequest) (planObject, error) {
	nodes, names := st.Eligible(r), map[ring.Store]string{}
	for _, n := range nodes {
		names[n.Store] = st.Holder(n.Store).GetName()
	}
	find := func(name string) int {
		return slices.IndexFunc(nodes, func(n ring.Node) bool { return names[n.Store] == name })
	}
	// A node that is no member yet gets a number that no store has.
	next := ring.Store(st.Cluster().GetNextStore())
	for _, name := range o.Add {
		if !cluster.ValidName(name) || find(name) >= 0 {
			return planObject{}, bad("add", "%q is in the ring already, or no name of a node", name)
		}
		n := ring.Node{Store: next, Weight: cluster.DefaultWeight}
		if m := st.Member(name); m != nil {
			n = memberNode(m)
		} else {
			next++
		}
		names[n.Store] = name
		nodes = append(nodes, n)
	}
	for _, name := range o.Remove {
		i := find(name)
		if i < 0 {
			return planObject{}, bad("remove", "%q is no active node of ring %s", name, r.Spec.GetName())
		}
		nodes = slices.Delete(nodes, i, i+1)
	}
	for name, weight := range o.Weight {
		i := find(name)
		if i < 0 || weight < 1 || weight > 10_000 {
			return planObject{}, bad("weight", "%q with weight %d: want a node of the plan and 1 to 10000", name, weight)
		}
		nodes[i].Weight = weight
	}
	if len(nodes) == 0 {
		return planObject{}, bad("remove", "no node would be left")
	}
	return compare(st, r, nodes, names), nil
}

func memberNode(m *clusterpb.Member) ring.Node {
	return ring.Node{Store: ring.Store(m.GetStore()), Weight: m.GetWeight(), Zone: m.GetZone()}
}

// compare counts who would lose and gain.
func compare(st *cluster.State, r *cluster.Ring, nodes []ring.Node, names map[ring.Store]string) planObject {
	target := ring.Plan(r.Table, nodes, r.RF())
	p := planObject{Name: r.Spec.GetName(), Slots: r.Table.Slots(), Nodes: []planNode{}}
	now, then, gains := r.Table.Held(), map[ring.Store]int{}, map[ring.Store]int{}
	for i, set := range target {
		for k := range set.Len() {
			then[set.At(k)]++
			if !r.Table.At(i).Replicas.Has(set.At(k)) {
				gains[set.At(k)]++
				p.Moves++
			}
		}
	}
	for _, n := range nodes {
		p.Nodes = append(p.Nodes, planNode{names[n.Store], n.Weight, now[n.Store], then[n.Store], gains[n.Store]})
		delete(now, n.Store)
	}
	for store, held := range now { // whoever would hold nothing any more
		p.Nodes = append(p.Nodes, planNode{Name: st.Store(store).GetNode(), Weight: st.Holder(store).GetWeight(), Now: held})
	}
	slices.SortFunc(p.Nodes, func(x, y planNode) int {
		if x.Name < y.Name {
			return -1
		}
		return 1
	})
	return p
}

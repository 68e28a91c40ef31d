package admin

import (
	"cmp"
	"maps"
	"net/http"
	"slices"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// planRequest is what might be: nodes that join, nodes that leave, other weights
// and zones, more or fewer replicas. Nothing named: what a rebalance would do now.
type planRequest struct {
	Add               []string          `json:"add"`
	Remove            []string          `json:"remove"`
	Weight            map[string]uint32 `json:"weight"`
	Zone              map[string]string `json:"zone"`
	ReplicationFactor *int              `json:"replication_factor"`
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
	p, err := planOf(st, r, o, a.node.Health())
	if err != nil {
		a.fail(w, req, err)
		return
	}
	a.stamp(w, req, st)
	send(w, http.StatusOK, p)
}

// prospect is a ring as it might be.
type prospect struct {
	st    *cluster.State
	r     *cluster.Ring
	nodes []ring.Node
	names map[ring.Store]string
	rf    int
	next  ring.Store // a number that no store has
}

func planOf(st *cluster.State, r *cluster.Ring, o planRequest, healths []*clusterpb.Health) (planObject, error) {
	p := &prospect{st: st, r: r, nodes: st.Eligible(r), names: map[ring.Store]string{}, rf: r.RF(), next: ring.Store(st.Cluster().GetNextStore())}
	for _, n := range p.nodes {
		p.names[n.Store] = st.Holder(n.Store).GetName()
	}
	for _, change := range []func(planRequest) error{p.add, p.remove, p.weigh, p.place, p.replicate} {
		if err := change(o); err != nil {
			return planObject{}, err
		}
	}
	return p.object(healths)
}

func (p *prospect) find(name string) int {
	return slices.IndexFunc(p.nodes, func(n ring.Node) bool { return p.names[n.Store] == name })
}

func (p *prospect) add(o planRequest) error {
	for _, name := range o.Add {
		if !cluster.ValidName(name) || p.find(name) >= 0 {
			return bad("add", "%q is in the ring already, or no name of a node", name)
		}
		if len(p.nodes) >= maxPlanned {
			return bad("add", "more than %d nodes", maxPlanned)
		}
		n := ring.Node{Store: p.next, Weight: cluster.DefaultWeight}
		if m := p.st.Member(name); m != nil {
			n = memberNode(m)
		} else {
			p.next++
		}
		p.names[n.Store] = name
		p.nodes = append(p.nodes, n)
	}
	return nil
}

// maxPlanned bounds how many nodes a plan may be asked for.
const maxPlanned = 5000

func memberNode(m *clusterpb.Member) ring.Node {
	return ring.Node{Store: ring.Store(m.GetStore()), Weight: m.GetWeight(), Zone: m.GetZone()}
}

func (p *prospect) remove(o planRequest) error {
	for _, name := range o.Remove {
		i := p.find(name)
		if i < 0 {
			return bad("remove", "%q is no active node of ring %s", name, p.r.Spec.GetName())
		}
		p.nodes = slices.Delete(p.nodes, i, i+1)
	}
	if len(p.nodes) == 0 {
		return bad("remove", "no node would be left")
	}
	return nil
}

func (p *prospect) weigh(o planRequest) error {
	for _, name := range slices.Sorted(maps.Keys(o.Weight)) {
		i, weight := p.find(name), o.Weight[name]
		if i < 0 || weight < 1 || weight > 10_000 {
			return bad("weight", "%q with weight %d: want a node of the plan and 1 to 10000", name, weight)
		}
		p.nodes[i].Weight = weight
	}
	return nil
}

func (p *prospect) place(o planRequest) error {
	for _, name := range slices.Sorted(maps.Keys(o.Zone)) {
		i, zone := p.find(name), o.Zone[name]
		if i < 0 || zone != "" && !cluster.ValidName(zone) {
			return bad("zone", "%q in zone %q: want a node of the plan and a zone's name", name, zone)
		}
		p.nodes[i].Zone = zone
	}
	return nil
}

func (p *prospect) replicate(o planRequest) error {
	if o.ReplicationFactor == nil {
		return nil
	}
	p.rf = *o.ReplicationFactor
	if p.rf < 1 || p.rf > ring.MaxReplicas {
		return bad("replication_factor", "replication factor %d: want 1 to %d", p.rf, ring.MaxReplicas)
	}
	return nil
}

// object plans, and measures what is and what would be.
func (p *prospect) object(healths []*clusterpb.Health) (planObject, error) {
	now, quorum := p.r.Table, p.r.QuorumAt(p.rf)
	target := ring.Plan(now, p.nodes, p.rf)
	slots := make([]ring.Slot, len(target))
	for i, set := range target {
		slots[i] = ring.Slot{Replicas: set, Quorum: quorum}
	}
	then, err := ring.New(slots, nil)
	if err != nil {
		return planObject{}, err
	}
	o := planObject{
		Name: p.r.Spec.GetName(), Slots: now.Slots(), ReplicationFactor: p.rf, WriteQuorum: quorum,
		Steps: ring.StepsLeft(now, target, quorum), Rounds: ring.Rounds(now, target, quorum),
		Pace: p.st.Settings().GetMoveSeriesPerSecond(), Nodes: []planNode{},
	}
	o.Before, o.After = p.outlook(now, p.holders()), p.outlook(then, p.nodes)
	o.measure(p, target, then, p.st.Arrivals(p.r, target, healths))
	return o, nil
}

// holders are who could lose slots now: the ring's nodes, and those that hold
// slots still.
func (p *prospect) holders() []ring.Node {
	nodes := p.st.Eligible(p.r)
	for store := range p.r.Table.Held() {
		if slices.ContainsFunc(nodes, func(n ring.Node) bool { return n.Store == store }) {
			continue
		}
		if m := p.st.Holder(store); m != nil {
			nodes = append(nodes, memberNode(m))
		}
	}
	slices.SortFunc(nodes, func(a, b ring.Node) int { return cmp.Compare(a.Store, b.Store) })
	return nodes
}

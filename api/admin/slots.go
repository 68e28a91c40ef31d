package admin

import (
	"maps"
	"net/http"
	"slices"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/ring"
)

// slotsObject is who holds the slots of a ring.
type slotsObject struct {
	Name  string       `json:"name"`
	Slots []slotObject `json:"slots"`
	// Moving counts the slots with a step to come, Short those with fewer
	// replicas than the replication factor, and BelowQuorum those whose writes
	// get 503.
	Moving      int `json:"moving"`
	Short       int `json:"short"`
	BelowQuorum int `json:"below_quorum"`
	// OpenEpochs counts periods that have ended and are not closed; WaitingFor
	// names the nodes whose word is missing for that. They hold up further
	// moves of their slots, never writes.
	OpenEpochs int      `json:"open_epochs"`
	WaitingFor []string `json:"waiting_for"`
}

type slotObject struct {
	Slot     int      `json:"slot"`
	Replicas []string `json:"replicas"`
	Quorum   int      `json:"quorum"`
	Changed  uint64   `json:"changed"`
}

func (a *api) slots(req *http.Request, st *cluster.State) (object, error) {
	r, err := findRing(st, req.PathValue("name"))
	if err != nil {
		return object{}, err
	}
	o := slotsObject{
		Name: r.Spec.GetName(), Slots: make([]slotObject, r.Table.Slots()), Moving: moving(st, r),
		Short: r.Short(), BelowQuorum: r.BelowQuorum(), OpenEpochs: len(r.Table.Open()), WaitingFor: a.waitingFor(st, r),
	}
	for i := range o.Slots {
		s := r.Table.Slot(i)
		names := make([]string, 0, s.Replicas.Len())
		for k := range s.Replicas.Len() {
			names = append(names, st.Store(s.Replicas.At(k)).GetNode())
		}
		o.Slots[i] = slotObject{i, names, s.Quorum, s.Changed}
	}
	return object{o, r.Spec.GetVersion()}, nil
}

// waitingFor names the nodes that have not announced the end of an epoch they
// had a part in.
func (a *api) waitingFor(st *cluster.State, r *cluster.Ring) []string {
	announced := map[string]uint64{}
	for _, h := range a.node.Health() {
		announced[h.GetReport().GetNode()] = h.GetReport().GetAnnounced()
	}
	silent := map[string]bool{}
	for _, e := range r.Table.Open() {
		for k := range e.Replicas.Len() {
			store := e.Replicas.At(k)
			node := st.Store(store).GetNode()
			if !st.Lost(store) && announced[node] < e.To {
				silent[node] = true
			}
		}
	}
	names := slices.Sorted(maps.Keys(silent))
	return append([]string{}, names...)
}

// moving counts the slots that the leader will give another replica or quorum
// without being asked: after a node has joined or was removed, and where the
// ring has not what it promises. What an operator has changed since, a node
// list, weights or zones, waits for a rebalance.
func moving(st *cluster.State, r *cluster.Ring) int {
	nodes := st.Eligible(r)
	if len(nodes) == 0 {
		return 0
	}
	members, operator := uint64(0), r.Spec.GetVersion()
	for _, n := range nodes {
		m := st.Holder(n.Store)
		members = max(members, m.GetActivated())
		if m.GetVersion() > m.GetActivated() {
			operator = max(operator, m.GetVersion())
		}
	}
	for _, m := range st.RemovedMembers() {
		members = max(members, m.GetRevision())
	}
	if members <= operator && keepsPromise(r, len(nodes)) {
		return 0
	}
	return distance(r, ring.Plan(r.Table, nodes, r.RF()))
}

func keepsPromise(r *cluster.Ring, nodes int) bool {
	for i := range r.Table.Slots() {
		if s := r.Table.At(i); s.Replicas.Len() != min(r.RF(), nodes) || s.Quorum != r.Quorum() {
			return false
		}
	}
	return true
}

// distance counts the slots that are not where target has them.
func distance(r *cluster.Ring, target []ring.Set) int {
	n := 0
	for i := range r.Table.Slots() {
		if s := r.Table.At(i); !s.Replicas.Same(target[i]) || s.Quorum != r.Quorum() {
			n++
		}
	}
	return n
}

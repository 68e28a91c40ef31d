package admin

import (
	"maps"
	"net/http"
	"slices"

	"github.com/muster-metrics/muster/cluster"
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
	// Move is how far the slots are on their way; absent: they are on none.
	Move *moveObject `json:"move,omitempty"`
}

type slotObject struct {
	Slot     int      `json:"slot"`
	Replicas []string `json:"replicas"`
	Quorum   int      `json:"quorum"`
	Changed  uint64   `json:"changed"`
	// OpenEpochs counts the slot's own: while there is one it does not move again.
	OpenEpochs int `json:"open_epochs,omitempty"`
}

func (a *api) slots(req *http.Request, st *cluster.State) (object, error) {
	r, err := findRing(st, req.PathValue("name"))
	if err != nil {
		return object{}, err
	}
	o := slotsObject{
		Name: r.Spec.GetName(), Slots: make([]slotObject, r.Table.Slots()),
		Short: r.Short(), BelowQuorum: r.BelowQuorum(), OpenEpochs: len(r.Table.Open()), WaitingFor: a.waitingFor(st, r),
	}
	open := make([]int, len(o.Slots))
	for _, e := range r.Table.Open() {
		open[e.Slot]++
	}
	o.Move, o.Moving = moveOf(st, r, a.node.Health())
	for i := range o.Slots {
		s := r.Table.Slot(i)
		names := make([]string, 0, s.Replicas.Len())
		for k := range s.Replicas.Len() {
			names = append(names, st.Store(s.Replicas.At(k)).GetNode())
		}
		o.Slots[i] = slotObject{i, names, s.Quorum, s.Changed, open[i]}
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

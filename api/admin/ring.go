package admin

import (
	"net/http"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// ringObject is a ring as an operator writes it.
type ringObject struct {
	Name              string   `json:"name"`
	Tenants           []string `json:"tenants"`
	ReplicationFactor *uint32  `json:"replication_factor"`
	WriteQuorum       string   `json:"write_quorum"`
	Slots             uint32   `json:"slots"`
	Nodes             []string `json:"nodes"`
	Version           uint64   `json:"version"`
	history
}

var quorums = map[clusterpb.WriteQuorum]string{
	clusterpb.WriteQuorum_MAJORITY: "majority",
	clusterpb.WriteQuorum_ONE:      "one",
	clusterpb.WriteQuorum_ALL:      "all",
}

func ringOf(r *cluster.Ring) object {
	rf := r.Spec.GetReplicationFactor()
	return object{ringObject{
		Name: r.Spec.GetName(), Tenants: append([]string{}, r.Spec.GetTenants()...), ReplicationFactor: &rf,
		WriteQuorum: quorums[r.Spec.GetWriteQuorum()], Slots: uint32(r.Table.Slots()),
		Nodes: append([]string{}, r.Spec.GetNodes()...), Version: r.Spec.GetVersion(),
		history: historyOf(r.Spec),
	}, r.Spec.GetVersion()}
}

func (a *api) rings(_ *http.Request, st *cluster.State) (object, error) {
	list := []any{}
	for _, r := range st.Rings() {
		list = append(list, ringOf(r).body)
	}
	return object{body: map[string]any{"rings": list}}, nil
}

func (a *api) ring(r *http.Request, st *cluster.State) (object, error) {
	return showRing(r.PathValue("name"))(st)
}

func showRing(name string) func(*cluster.State) (object, error) {
	return func(st *cluster.State) (object, error) {
		r, err := findRing(st, name)
		if err != nil {
			return object{}, err
		}
		return ringOf(r), nil
	}
}

func findRing(st *cluster.State, name string) (*cluster.Ring, error) {
	r := st.Ring(name)
	if r == nil {
		return nil, notFound("there is no ring %q", name)
	}
	return r, nil
}

// putRing creates a ring, which is placed at once, or replaces one, which moves
// nothing until it is rebalanced.
func (a *api) putRing(r *http.Request) (change, error) {
	name := r.PathValue("name")
	var o ringObject
	if err := decode(r, &o); err != nil {
		return change{}, err
	}
	if err := matches("name", o.Name, name); err != nil {
		return change{}, err
	}
	o.Name = name
	put, err := o.put("")
	if err != nil {
		return change{}, err
	}
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_PutRing{PutRing: put}},
		present: showRing(name),
	}, nil
}

// put is the ring as the state takes it; prefix is where the fields stand in
// the body.
func (o ringObject) put(prefix string) (*clusterpb.PutRing, error) {
	put := &clusterpb.PutRing{
		Name: o.Name, Tenants: o.Tenants, ReplicationFactor: cluster.DefaultReplicationFactor, Nodes: o.Nodes, Slots: o.Slots,
	}
	take(&put.ReplicationFactor, o.ReplicationFactor)
	known := o.WriteQuorum == "" // the zero value is the majority
	for quorum, text := range quorums {
		if text == o.WriteQuorum {
			put.WriteQuorum, known = quorum, true
		}
	}
	if !known {
		return nil, bad(prefix+"write_quorum", "write_quorum %q: want one, majority or all", o.WriteQuorum)
	}
	return put, nil
}

func (a *api) deleteRing(r *http.Request) (change, error) {
	name := r.PathValue("name")
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_DeleteRing{DeleteRing: &clusterpb.DeleteRing{Name: name}}},
		present: showRing(name),
	}, nil
}

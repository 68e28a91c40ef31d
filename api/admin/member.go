package admin

import (
	"encoding/hex"
	"net/http"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// memberObject is a member as it is recorded; how it is, the status tells.
type memberObject struct {
	Name         string `json:"name"`
	Incarnation  uint64 `json:"incarnation"`
	Address      string `json:"address"`
	HTTPAddress  string `json:"http_address,omitempty"`
	WriteAddress string `json:"write_address,omitempty"`
	StoreAddress string `json:"store_address,omitempty"`
	Zone         string `json:"zone"`
	State        string `json:"state"`
	Weight       uint32 `json:"weight"`
	Store        string `json:"store"` // id of its data directory, hex
	Version      uint64 `json:"version"`
	history

	Drain   *drainObject   `json:"drain,omitempty"`
	Removal *removalObject `json:"removal,omitempty"`
}

func memberState(s clusterpb.MemberState) string {
	switch s {
	case clusterpb.MemberState_JOINING:
		return "joining"
	case clusterpb.MemberState_ACTIVE:
		return "active"
	case clusterpb.MemberState_DRAINING:
		return "draining"
	case clusterpb.MemberState_REMOVING:
		return "removing"
	default:
		return "unknown"
	}
}

func memberOf(st *cluster.State, m *clusterpb.Member) object {
	return object{memberObject{
		Name: m.GetName(), Incarnation: m.GetIncarnation(), Address: m.GetAddress(), HTTPAddress: m.GetHttpAddress(),
		WriteAddress: m.GetWriteAddress(), StoreAddress: m.GetStoreAddress(), Zone: m.GetZone(),
		State: memberState(m.GetState()), Weight: m.GetWeight(),
		Store: hex.EncodeToString(st.Store(ring.Store(m.GetStore())).GetId()), Version: m.GetVersion(),
		history: historyOf(m),
	}, m.GetVersion()}
}

func (a *api) members(_ *http.Request, st *cluster.State) (object, error) {
	list, healths := []any{}, a.node.Health()
	for _, m := range st.Members() {
		list = append(list, leaving(st, m, healths).body)
	}
	return object{body: map[string]any{"members": list}}, nil
}

func (a *api) member(r *http.Request, st *cluster.State) (object, error) {
	o, err := showMember(r.PathValue("name"))(st)
	if err != nil {
		return o, err
	}
	return leaving(st, st.Member(r.PathValue("name")), a.node.Health()), nil
}

func showMember(name string) func(*cluster.State) (object, error) {
	return func(st *cluster.State) (object, error) {
		m := st.Member(name)
		if m == nil {
			return object{}, notFound("%q is no member", name)
		}
		return memberOf(st, m), nil
	}
}

// putMember changes weight and zone; what is left out stays as it is. A member
// is created by joining, never here.
func (a *api) putMember(r *http.Request) (change, error) {
	name := r.PathValue("name")
	var o struct {
		Weight *uint32 `json:"weight"`
		Zone   *string `json:"zone"`
	}
	if err := decode(r, &o); err != nil {
		return change{}, err
	}
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_UpdateMember{UpdateMember: &clusterpb.UpdateMember{
			Name: name, Weight: o.Weight, Zone: o.Zone,
		}}},
		present: showMember(name),
	}, nil
}

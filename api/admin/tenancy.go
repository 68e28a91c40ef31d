package admin

import (
	"fmt"
	"net/http"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// tenantRing is the ring that a tenant's series go to, and those they went to
// before: these are asked by reads of their time until they are forgotten.
type tenantRing struct {
	ID   string `json:"id"`
	Ring string `json:"ring"`
	// Claim is the name or the pattern by which that ring has it; "": it takes
	// every tenant that no other ring claims.
	Claim   string      `json:"claim"`
	Since   string      `json:"since"`
	Past    []pastRoute `json:"past"`
	Version uint64      `json:"version"`
}

type pastRoute struct {
	Ring string `json:"ring"`
	From string `json:"from"`
	To   string `json:"to"`
	// Closed is when no write could begin by it any more; left out while a node
	// may not have heard of its end.
	Closed string `json:"closed,omitempty"`
}

func (a *api) tenantRing(r *http.Request, st *cluster.State) (object, error) {
	return showTenantRing(r.PathValue("id"))(st)
}

func showTenantRing(id string) func(*cluster.State) (object, error) {
	return func(st *cluster.State) (object, error) {
		t := st.Tenant(id)
		if t == nil {
			return object{}, notFound("there is no tenant %q", cut(id))
		}
		name := func(ring uint64) string {
			if r := st.RingByID(ring); r != nil {
				return r.Spec.GetName()
			}
			return ""
		}
		o := tenantRing{ID: id, Ring: name(t.GetRoute().GetRing()), Since: timeText(t.GetRoute().GetBeginMs()), Past: []pastRoute{}, Version: t.GetVersion()}
		_, o.Claim = st.ClaimOf(id)
		for _, p := range t.GetPastRoutes() {
			o.Past = append(o.Past, pastRoute{name(p.GetRing()), timeText(p.GetBeginMs()), timeText(p.GetEndMs()), timeText(p.GetClosedMs())})
		}
		return object{o, o.Version}, nil
	}
}

// putTenantRing moves a tenant to a ring, which claims it by its name from then
// on. The version is the tenant's.
func (a *api) putTenantRing(r *http.Request) (change, error) {
	id := r.PathValue("id")
	var o struct {
		Ring          string `json:"ring"`
		DeleteEmptied bool   `json:"delete_emptied"`
	}
	if err := decode(r, &o); err != nil {
		return change{}, err
	}
	if o.Ring == "" {
		return change{}, bad("ring", "ring is missing: the name of the ring that %s shall go to", cut(id))
	}
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_MoveTenant{MoveTenant: &clusterpb.MoveTenant{
			Tenant: id, Ring: o.Ring, DeleteEmptied: o.DeleteEmptied,
		}}},
		present: showTenantRing(id),
	}, nil
}

// ringChange is a ring as it shall be, at the version that the asker saw; 0: it
// must not exist.
type ringChange struct {
	ringObject
	Delete bool `json:"delete,omitempty"`
}

// putRings changes several rings in one step: a tenant that goes from one to the
// other passes through no third one.
func (a *api) putRings(r *http.Request) (change, error) {
	var o struct {
		Rings  []ringChange `json:"rings"`
		Source string       `json:"source"`
	}
	if err := decode(r, &o); err != nil {
		return change{}, err
	}
	c := &clusterpb.PutRings{Source: o.Source}
	for i, rc := range o.Rings {
		put, err := rc.put(fmt.Sprintf("rings[%d].", i))
		if err != nil {
			return change{}, err
		}
		c.Rings = append(c.Rings, &clusterpb.RestoredRing{Ring: put, Version: rc.Version, Delete: rc.Delete})
	}
	return change{command: &clusterpb.Command{Change: &clusterpb.Command_PutRings{PutRings: c}}}, nil
}

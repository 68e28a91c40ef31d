package admin

import (
	"net/http"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// moveObject is how far the slots of a ring are on their way.
type moveObject struct {
	State         string       `json:"state"` // moving, waiting or cancelled
	Cause         string       `json:"cause"`
	Nodes         []string     `json:"nodes,omitempty"`
	By            string       `json:"by,omitempty"`
	Since         string       `json:"since,omitempty"`
	SinceRevision uint64       `json:"since_revision,omitempty"`
	Moved         int          `json:"moved"`
	Left          int          `json:"left"`
	Percent       int          `json:"percent"`
	ETASeconds    *int64       `json:"eta_seconds,omitempty"`
	Gains         []gainObject `json:"gains"`
	HeldUpBy      []string     `json:"held_up_by,omitempty"`
	Cancelled     string       `json:"cancelled,omitempty"`
	CancelledBy   string       `json:"cancelled_by,omitempty"`
	Text          string       `json:"text"` // all of it for people
}

// gainObject is what a node gets still.
type gainObject struct {
	Node   string `json:"node"`
	Slots  int    `json:"slots"`
	Series int64  `json:"series"`
}

// moveOf is nil where the ring's slots are on no way; moving counts those with a
// step to come.
func moveOf(st *cluster.State, r *cluster.Ring, healths []*clusterpb.Health) (m *moveObject, moving int) {
	p := st.ProgressOf(r, healths, time.Now().UnixMilli())
	if p == nil {
		return nil, 0
	}
	if !p.Cancelled {
		moving = p.Slots
	}
	o := &moveObject{
		State: "moving", Cause: p.Cause, Nodes: p.Nodes, By: p.By, SinceRevision: p.Since,
		Moved: p.Moved, Left: p.Left, Percent: p.Percent(), Gains: []gainObject{}, HeldUpBy: p.HeldUpBy, Text: p.String(),
	}
	if p.SinceMs != 0 {
		o.Since = clock(p.SinceMs)
	}
	for _, g := range p.Gains {
		o.Gains = append(o.Gains, gainObject(g))
	}
	switch {
	case p.Cancelled:
		o.State, o.Cancelled, o.CancelledBy = "cancelled", clock(p.CancelledMs), p.CancelledBy
	case len(p.HeldUpBy) > 0:
		o.State = "waiting"
	default:
		seconds := int64(p.ETA / time.Second)
		o.ETASeconds = &seconds
	}
	return o, moving
}

// rebalance has the leader move a ring's slots to where its nodes, weights and
// zones want them, or with `?cancel=true` leave them where they are. It answers
// when that is committed. A dry run is refused as the change would be; else it
// is a plan in which no node joins or leaves.
func (a *api) rebalance(w http.ResponseWriter, r *http.Request) {
	cancel, err := flagOf(r, "cancel")
	var dry bool
	if err == nil {
		dry, err = isDryRun(r)
	}
	ask := func(*http.Request) (change, error) { return rebalanceChange(r.PathValue("name"), cancel), err }
	if err != nil || !dry || cancel {
		a.change(ask).ServeHTTP(w, r)
		return
	}
	c, _ := ask(r)
	if err := a.wouldRefuse(r, c); err != nil {
		a.fail(w, r, err)
		return
	}
	a.plan(w, r)
}

func rebalanceChange(name string, cancel bool) change {
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_RebalanceRing{
			RebalanceRing: &clusterpb.RebalanceRing{Name: name, Cancel: cancel},
		}},
		present: showRing(name),
	}
}

// wouldRefuse is the refusal that a change would get.
func (a *api) wouldRefuse(r *http.Request, c change) error {
	if err := address(r, c.command); err != nil {
		return err
	}
	answer, err := a.rehearse(r.Context(), c.command)
	if err != nil {
		return err
	}
	if answer.GetRefusal() != nil {
		return a.refused(answer.GetRefusal(), c)
	}
	return nil
}

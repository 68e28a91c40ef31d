package admin

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// drainObject is how far a drain is.
type drainObject struct {
	Since  string `json:"since"`
	Reason string `json:"reason,omitempty"`
	// Stoppable says that the node may be stopped now; Waits what for otherwise.
	Stoppable bool     `json:"stoppable"`
	Waits     []string `json:"waits,omitempty"`
}

// removalObject is how far a removal is.
type removalObject struct {
	Since          string   `json:"since"`
	Reason         string   `json:"reason,omitempty"`
	BucketIsEnough bool     `json:"bucket_is_enough"`
	Stage          string   `json:"stage"`
	Slots          int      `json:"slots"`
	Epochs         int      `json:"epochs"`
	HeldUpBy       []string `json:"held_up_by,omitempty"`
	Text           string   `json:"text"` // all of it for people
}

// leaving is a member with how far it is on its way out.
func leaving(st *cluster.State, m *clusterpb.Member, healths []*clusterpb.Health) object {
	o := memberOf(st, m)
	body, d := o.body.(memberObject), m.GetDeparture()
	if drain := st.DrainOf(m.GetName(), healths); drain != nil {
		body.Drain = &drainObject{clock(drain.SinceMs), d.GetReason(), len(drain.Waits) == 0, drain.Waits}
	}
	if r := st.RemovalOf(m.GetName(), healths); r != nil {
		body.Removal = &removalObject{
			Since: clock(r.SinceMs), Reason: d.GetReason(), BucketIsEnough: d.GetBucketIsEnough(),
			Stage: string(r.Stage), Slots: r.Slots, Epochs: r.Epochs, HeldUpBy: r.HeldUpBy, Text: r.String(),
		}
	}
	return object{body, o.version}
}

// leavingText is the same in a line; "" for a member that stays.
func leavingText(st *cluster.State, m *clusterpb.Member, healths []*clusterpb.Health) string {
	name := m.GetName()
	if d := st.DrainOf(name, healths); d != nil {
		text := "draining since " + clock(d.SinceMs)
		if len(d.Waits) > 0 {
			return text + "; waits: " + strings.Join(d.Waits, ", ")
		}
		return text + ", may be stopped"
	}
	if r := st.RemovalOf(name, healths); r != nil {
		return "being removed since " + clock(r.SinceMs) + ", " + r.String()
	}
	return ""
}

func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// departure is the answer to a change that takes a member away, for a while or
// for good: what that means, in numbers.
type departure struct {
	outcome
	FailureTolerance struct {
		Before int `json:"before"`
		After  int `json:"after"`
	} `json:"failure_tolerance"`
	Slots    int      `json:"slots"` // replicas that the member holds
	Warnings []string `json:"warnings"`
}

// drainMember takes a node out of service until its next start.
func (a *api) drainMember(r *http.Request) (change, error) {
	var o struct {
		Reason string `json:"reason"`
	}
	if err := decode(r, &o); err != nil {
		return change{}, err
	}
	name := r.PathValue("name")
	return a.departing(r, name, &clusterpb.Command{Change: &clusterpb.Command_DrainMember{
		DrainMember: &clusterpb.DrainMember{Name: name, Reason: o.Reason},
	}}), nil
}

// undrainMember ends a drain.
func (a *api) undrainMember(r *http.Request) (change, error) {
	name := r.PathValue("name")
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_DrainMember{
			DrainMember: &clusterpb.DrainMember{Name: name, Undo: true},
		}},
		present: showMember(name),
	}, nil
}

// removeMember begins a removal, which the leader ends: the member's slots and
// its data go to others first. With `?cancel=true` it ends one that is under
// way; with `?force=true` a member that is down is out at once, and its store
// is lost.
func (a *api) removeMember(r *http.Request) (change, error) {
	force, err1 := flagOf(r, "force")
	enough, err2 := flagOf(r, "bucket_is_enough")
	cancel, err3 := flagOf(r, "cancel")
	if err := cmp.Or(err1, err2, err3); err != nil {
		return change{}, err
	}
	name := r.PathValue("name")
	switch {
	case cancel && (force || enough):
		return change{}, bad("cancel", "cancel goes with neither force nor bucket_is_enough")
	case force && enough:
		return change{}, bad("bucket_is_enough", "bucket_is_enough is of no use with force: what the member has is given up")
	case force:
		return a.departing(r, name, &clusterpb.Command{Change: &clusterpb.Command_RemoveMember{
			RemoveMember: &clusterpb.RemoveMember{Name: name, Force: true},
		}}), nil
	}
	cmd := &clusterpb.Command{Change: &clusterpb.Command_BeginRemoval{
		BeginRemoval: &clusterpb.BeginRemoval{Name: name, BucketIsEnough: enough, Cancel: cancel, Reason: r.URL.Query().Get("reason")},
	}}
	if cancel {
		return change{command: cmd, present: showMember(name)}, nil
	}
	return a.departing(r, name, cmd), nil
}

// departing is a change whose answer tells what it means. Where that cannot be
// told it is refused, which its answer says.
func (a *api) departing(r *http.Request, name string, cmd *clusterpb.Command) change {
	forecast := a.forecast(r.Context(), name, proto.CloneOf(cmd))
	return change{
		command: cmd, present: showMember(name),
		full: func(o outcome) any {
			d := departure{outcome: o, Slots: forecast.Slots, Warnings: append([]string{}, forecast.Warnings...)}
			d.FailureTolerance.Before, d.FailureTolerance.After = forecast.ToleranceBefore, forecast.ToleranceAfter
			return d
		},
	}
}

func (a *api) forecast(ctx context.Context, name string, cmd *clusterpb.Command) cluster.Forecast {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ReadTimeout)
	defer cancel()
	if _, err := a.node.Barrier(ctx); err != nil {
		return cluster.Forecast{}
	}
	st := a.node.State()
	cmd.TimeMs = max(time.Now().UnixMilli(), 0)
	after, res := st.Apply(st.Revision()+1, cmd)
	if res.Refusal != nil {
		return cluster.Forecast{}
	}
	return st.Forecast(after, name, a.node.Health())
}

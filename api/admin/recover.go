package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/muster-metrics/muster/cluster"
)

// recovery is the answer to a recovery: the plan of a dry run, or what was done.
type recovery struct {
	Plan      *cluster.RecoveryPlan  `json:"plan,omitempty"`
	Recovered *cluster.RecoverResult `json:"recovered,omitempty"`
	DryRun    bool                   `json:"dry_run,omitempty"`
}

// recover makes this node the only voter of the cluster's next incarnation, where
// most voters are lost; `?dry_run=true` answers with what is left, and whether it
// may be done here.
func (a *api) recover(w http.ResponseWriter, r *http.Request) {
	var o struct {
		AsSoleVoter bool   `json:"as_sole_voter"`
		Confirm     string `json:"confirm"`
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	dry, err := isDryRun(r)
	if err == nil {
		err = decode(r, &o)
	}
	if err == nil && !dry && !o.AsSoleVoter {
		err = bad("as_sole_voter", "want as_sole_voter, the one way to recover; ?dry_run=true tells what it would do")
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	// It waits for what does not answer, and for an election.
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ChangeTimeout+20*time.Second)
	defer cancel()
	out := recovery{DryRun: dry}
	if dry {
		out.Plan, err = a.node.RecoveryPlan(ctx)
	} else {
		c := callerOf(r)
		out.Recovered, err = a.node.Recover(ctx, cluster.RecoverRequest{Confirm: o.Confirm, Actor: c.actor, Source: c.source})
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	send(w, http.StatusOK, out)
}

package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// verifyObject is what a look at everything has found.
type verifyObject struct {
	Cluster  string  `json:"cluster"`
	Healthy  bool    `json:"healthy"`
	Revision uint64  `json:"revision"`
	Checks   []check `json:"checks"`
}

// check is one look: what was seen and, where it is not as it should be, what
// to do next.
type check struct {
	Name   string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Next   string `json:"next,omitempty"`
}

// seen is all that a verification judges.
type seen struct {
	st      *cluster.State
	healths []*clusterpb.Health
	roster  cluster.Roster
	leader  string
	// stale is why the state may not be the newest; nil: it is.
	stale error
	// checked is the revision at which all nodes were asked for their state's
	// hash; 0: they could not be.
	checked uint64
	now     time.Time
}

// verify looks at everything. It has each node report its state's hash at one
// revision, for which the leader commits a check.
func (a *api) verify(w http.ResponseWriter, r *http.Request) {
	if a.node.State().Cluster() == nil {
		a.fail(w, r, cluster.ErrNoCluster)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ChangeTimeout)
	defer cancel()
	s := seen{}
	if s.checked, s.stale = a.check(ctx, callerOf(r)); s.stale == nil {
		a.awaitCheck(ctx, s.checked)
	}
	s.leader, _ = a.node.Leader()
	s.st, s.healths, s.roster, s.now = a.node.State(), a.node.Health(), a.node.Roster(), time.Now()
	a.stamp(w, r, s.st)
	send(w, http.StatusOK, s.verdict())
}

// checkEvery is how long verifications share one check: each is an entry of
// Raft's log, and whoever may read may ask as often as he likes.
const checkEvery = 3 * time.Second

// sharedCheck is the check that was committed last. The one place in it is taken
// by whoever has another one committed.
type sharedCheck struct {
	turn     chan struct{}
	at       time.Time
	revision uint64
}

// check gives the revision at which all nodes were asked for their state's hash
// a moment ago, or asks them.
func (a *api) check(ctx context.Context, c caller) (uint64, error) {
	select {
	case a.checked.turn <- struct{}{}:
		defer func() { <-a.checked.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if a.checked.revision != 0 && time.Since(a.checked.at) < checkEvery {
		// There is a leader still: that is judged each time.
		_, err := a.node.Barrier(ctx)
		return a.checked.revision, err
	}
	answer, err := a.node.Propose(ctx, &clusterpb.Command{
		Actor: c.actor, Source: c.source,
		Change: &clusterpb.Command_CheckState{CheckState: &clusterpb.CheckState{}},
	})
	switch {
	case err != nil:
		return 0, err
	case answer.GetRefusal() != nil:
		return 0, refusal(answer.GetRefusal())
	}
	a.checked.at, a.checked.revision = time.Now(), answer.GetRevision()
	return a.checked.revision, nil
}

// awaitCheck gives the live nodes a while to report the check.
func (a *api) awaitCheck(ctx context.Context, revision uint64) {
	ctx, cancel := context.WithTimeout(ctx, appliedWait)
	defer cancel()
	for {
		due := false
		for _, h := range a.node.Health() {
			due = due || alive(h) && h.GetReport().GetCheckRevision() < revision
		}
		if !due {
			return
		}
		select {
		case <-time.After(appliedLook):
		case <-ctx.Done():
			return
		}
	}
}

// verdict makes every check, in the order in which a person would act.
func (s seen) verdict() verifyObject {
	o := verifyObject{Cluster: s.st.Cluster().GetName(), Healthy: true, Revision: s.st.Revision()}
	for _, look := range []func() check{
		s.leadership, s.contact, s.readiness, s.hashes, s.servers, s.voters, s.coverage, s.epochs,
		s.clocks, s.certificates, s.disks, s.loops, s.versions, s.snapshots, s.tombstones,
	} {
		c := look()
		o.Checks = append(o.Checks, c)
		o.Healthy = o.Healthy && c.OK
	}
	return o
}

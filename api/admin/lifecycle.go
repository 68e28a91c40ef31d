package admin

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// initRequest is a new cluster; what is left out takes its default.
type initRequest struct {
	Name              string  `json:"name"`
	ReplicationFactor *uint32 `json:"replication_factor"`
	Slots             uint32  `json:"slots"`
	TenantAuth        *string `json:"tenant_auth"`
	TenantLabel       string  `json:"tenant_label"`
	ReplicaLabel      string  `json:"replica_label"`
	// JoinTokens is how many are made; 0: the replication factor less one, at
	// least 2.
	JoinTokens int `json:"join_tokens"`
}

// maxJoinTokens bounds how many join tokens an init makes.
const maxJoinTokens = 100

// init creates a cluster of this node. It works where there is none.
func (a *api) init(w http.ResponseWriter, r *http.Request) {
	req, err := a.initRequest(w, r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ChangeTimeout)
	defer cancel()
	dry, _ := isDryRun(r) // initRequest has looked at it
	var res *cluster.InitResult
	if dry {
		res, err = a.node.CheckInit(req)
	} else {
		res, err = a.node.Init(ctx, req)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	send(w, http.StatusOK, struct {
		Cluster    string   `json:"cluster"`
		ID         string   `json:"id"`
		Node       string   `json:"node"`
		JoinTokens []string `json:"join_tokens"`
		DryRun     bool     `json:"dry_run,omitempty"`
	}{res.Name, res.ID, res.Node, append([]string{}, res.JoinTokens...), dry})
}

func (a *api) initRequest(w http.ResponseWriter, r *http.Request) (cluster.InitRequest, error) {
	var o initRequest
	if _, err := isDryRun(r); err != nil {
		return cluster.InitRequest{}, err
	}
	if r.Header.Get("Content-Type") == snapshotType {
		return initFrom(w, r)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := decode(r, &o); err != nil {
		return cluster.InitRequest{}, err
	}
	if o.JoinTokens < 0 || o.JoinTokens > maxJoinTokens {
		return cluster.InitRequest{}, bad("join_tokens", "join_tokens %d: want 0 to %d", o.JoinTokens, maxJoinTokens)
	}
	var rf uint32 // 0: the default
	if take(&rf, o.ReplicationFactor); o.ReplicationFactor != nil && rf == 0 {
		return cluster.InitRequest{}, bad("replication_factor", "replication factor 0: want at least 1")
	}
	settings := cluster.DefaultSettings()
	if o.TenantAuth != nil {
		auth, err := parseTenantAuth(*o.TenantAuth)
		if err != nil {
			return cluster.InitRequest{}, err
		}
		settings.TenantAuth = auth
		if auth == clusterpb.TenantAuth_AUTH_CERTIFICATE {
			settings.TenantCertificateField = "commonName" // it cannot be empty; PUT /settings chooses another
		}
	}
	if o.TenantLabel != "" {
		settings.TenantLabel = o.TenantLabel
	}
	if o.ReplicaLabel != "" {
		settings.ReplicaLabel = o.ReplicaLabel
	}
	c := callerOf(r)
	return cluster.InitRequest{
		Name: o.Name, ReplicationFactor: rf, Slots: o.Slots, Settings: settings,
		JoinTokens: o.JoinTokens, Actor: c.actor, Source: c.source,
	}, nil
}

// initFrom begins the cluster anew whose archive is the body. All but the number of
// join tokens is in it.
func initFrom(w http.ResponseWriter, r *http.Request) (cluster.InitRequest, error) {
	tokens := 0
	if v := r.URL.Query().Get("join_tokens"); v != "" {
		var err error
		if tokens, err = strconv.Atoi(v); err != nil || tokens < 0 || tokens > maxJoinTokens {
			return cluster.InitRequest{}, bad("join_tokens", "join_tokens %q: want 0 to %d", cut(v), maxJoinTokens)
		}
	}
	archive, err := archiveIn(w, r)
	if err != nil {
		return cluster.InitRequest{}, err
	}
	c := callerOf(r)
	return cluster.InitRequest{FromSnapshot: archive, JoinTokens: tokens, Actor: c.actor, Source: c.source}, nil
}

// join makes this node a member and answers when it is active.
func (a *api) join(w http.ResponseWriter, r *http.Request) {
	var o struct {
		Token   string `json:"token"`
		Address string `json:"address"`
		Replace bool   `json:"replace"`
		Weight  uint32 `json:"weight"`
		// ResetControlState gives up what this node has of the cluster, but for
		// its samples.
		ResetControlState bool `json:"reset_control_state"`
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	dry, err := isDryRun(r)
	if err == nil {
		err = decode(r, &o)
	}
	switch {
	case err != nil:
	case o.Token == "":
		err = bad("token", "a join token is wanted; `muster token create --role node` on a member makes one")
	case o.Address == "":
		err = bad("address", "host:port of a member's member door is wanted")
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.JoinTimeout)
	defer cancel()
	join := a.node.Join
	if dry {
		join = a.node.CheckJoin
	}
	if err := join(ctx, cluster.JoinRequest{Token: o.Token, Address: o.Address, Replace: o.Replace, Weight: o.Weight, ResetControlState: o.ResetControlState}); err != nil {
		a.fail(w, r, err)
		return
	}
	st := a.node.State()
	send(w, http.StatusOK, struct {
		Cluster string `json:"cluster"`
		ID      string `json:"id"`
		Node    string `json:"node"`
		DryRun  bool   `json:"dry_run,omitempty"`
	}{st.Cluster().GetName(), st.Cluster().GetId(), a.cfg.Name, dry})
}

// transfer hands leadership to the named voter, or to one of the leader's
// choice. Any node takes it to the leader, once.
func (a *api) transfer(w http.ResponseWriter, r *http.Request) {
	var o struct {
		Node string `json:"node"`
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	dry, err := isDryRun(r)
	if err == nil {
		err = decode(r, &o)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ChangeTimeout)
	defer cancel()
	leader, err := a.node.HandLeadership(ctx, o.Node, dry)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	out := a.outcome(r.Context())
	out.DryRun = dry
	send(w, http.StatusOK, struct {
		outcome
		Leader string `json:"leader"`
	}{out, leader})
}

// appliedWait is how long an answer waits for the live nodes to apply it, and
// appliedLook how often it looks.
const (
	appliedWait = 5 * time.Second
	appliedLook = 100 * time.Millisecond
)

// outcome is the answer to what was done without a command of its own: the
// revision that this node has, and who has applied it. Nodes report that; live
// ones are given a while to.
func (a *api) outcome(ctx context.Context) outcome {
	ctx, cancel := context.WithTimeout(ctx, appliedWait)
	defer cancel()
	revision := a.node.State().Revision()
	for {
		o, due := a.appliedAt(revision)
		if !due {
			return o
		}
		select {
		case <-time.After(appliedLook):
		case <-ctx.Done():
			return o
		}
	}
}

// appliedAt says who has applied a revision, and whether a live node is due to.
func (a *api) appliedAt(revision uint64) (o outcome, due bool) {
	o = outcome{Revision: revision, Applied: []string{}, Pending: []string{}}
	for _, h := range a.node.Health() {
		name := h.GetReport().GetNode()
		if name == a.cfg.Name || h.GetReport().GetApplied() >= revision {
			o.Applied = append(o.Applied, name)
			continue
		}
		o.Pending = append(o.Pending, name)
		due = due || alive(h)
	}
	slices.Sort(o.Applied)
	slices.Sort(o.Pending)
	return o, due
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// RecoverRequest is what `cluster recover --as-sole-voter` asks for.
type RecoverRequest struct {
	// Confirm is the cluster's name.
	Confirm string
	// Actor and Source are for the events.
	Actor, Source string
}

// RecoverResult is a recovered cluster.
type RecoverResult struct {
	Cluster     string `json:"cluster"`
	Node        string `json:"node"`
	Incarnation uint64 `json:"incarnation"`
	Revision    uint64 `json:"revision"`
	// Backup is where the control state is kept that was there before.
	Backup string `json:"backup"`
	// Rejoin are the members that must join again.
	Rejoin []string `json:"rejoin"`
}

// Recover makes this node the only voter, with the control state that it has, as
// the next incarnation of the cluster: for when most of the voters are lost. The
// process goes on, and so do reads and writes of samples. It is refused where
// there is a leader, could be one, or a node that answers knows more.
func (n *Node) Recover(ctx context.Context, r RecoverRequest) (*RecoverResult, error) {
	n.forming.Lock()
	defer n.forming.Unlock()
	old := n.engine.Load()
	if old == nil || n.State().Cluster() == nil {
		return nil, n.outside()
	}
	if name := n.State().Cluster().GetName(); r.Confirm != name {
		return nil, &RefusedError{invalid("confirm", "this is the cluster %s: --confirm %s says that you mean it", name, name)}
	}
	plan, err := n.RecoveryPlan(ctx)
	if err != nil {
		return nil, err
	}
	if plan.Refusal != "" {
		return nil, &RefusedError{unsafe("", "%s", plan.Refusal)}
	}
	n.log.Warn("the cluster is recovered by force", "cluster", plan.Cluster, "actor", r.Actor, "source", r.Source)
	result := &RecoverResult{
		Cluster: plan.Cluster, Node: n.cfg.Name, Backup: filepath.Join(n.cfg.Dir, bakName(time.Now())), Rejoin: []string{},
	}
	for _, s := range plan.Members {
		if !s.Here {
			result.Rejoin = append(result.Rejoin, s.Node)
		}
	}
	e, ca, err := n.recoverWith(ctx, old, r, result.Backup)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	n.engine.Store(e)
	n.startLoops(e)
	if err := n.settle(ctx, e, ca); err != nil {
		return nil, fmt.Errorf("recover: the cluster is recovered, restart this node: %w", err)
	}
	st := n.State()
	result.Incarnation, result.Revision = st.Cluster().GetIncarnation(), st.Revision()
	n.tidyBaks()
	n.log.Warn("the cluster is recovered", "incarnation", result.Incarnation, "revision", result.Revision, "backup", result.Backup)
	return result, nil
}

// recoverWith replaces the engine by one that is alone. Where that fails, the old
// one is started again.
func (n *Node) recoverWith(ctx context.Context, old *engine, r RecoverRequest, backup string) (*engine, *pki.CA, error) {
	again := func(err error) (*engine, *pki.CA, error) {
		e, failed := n.startEngine()
		if failed != nil {
			return nil, nil, errors.Join(err, fmt.Errorf("restart this node: %w", failed))
		}
		n.engine.Store(e)
		n.startLoops(e)
		return nil, nil, err
	}
	if err := old.Close(); err != nil {
		n.log.Error("stop raft", "err", err)
	}
	if err := copyControlState(ctx, n.raftDir(), backup); err != nil {
		return again(err)
	}
	ca, made, err := n.ownCA()
	if err != nil {
		return again(err)
	}
	store, err := openRaftStore(n.raftDir(), raftLogger(n.log))
	if err != nil {
		return again(err)
	}
	st, err := n.beAlone(store, r, made)
	if err != nil {
		return again(errors.Join(err, store.Close()))
	}
	n.fsm.Begin(st, store)
	e, err := n.runRaft(store)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("the cluster is recovered, restart this node: %w", err), store.Close())
	}
	if made == nil {
		ca = nil // this node's certificate is of it already
	}
	return e, ca, nil
}

// ownCA is the CA with its key. A node that never voted has none: then the
// cluster gets a new one, and made are the certificates to believe.
func (n *Node) ownCA() (ca *pki.CA, made []byte, err error) {
	if ca, err = n.pki.CA(); !errors.Is(err, pki.ErrAbsent) {
		return ca, nil, err
	}
	if ca, err = pki.NewCA(n.State().Cluster().GetId(), time.Now()); err != nil {
		return nil, nil, err
	}
	bundle, err := n.pki.Bundle()
	if err != nil {
		return nil, nil, err
	}
	both, err := pki.ParseBundle(append(bundle.PEM(), ca.Bundle().PEM()...))
	if err != nil {
		return nil, nil, fmt.Errorf("the CA's certificates: %w", err)
	}
	if err := errors.Join(n.pki.SaveBundle(both), n.pki.SaveCAKey(ca.Key())); err != nil {
		return nil, nil, err
	}
	n.log.Warn("the CA's key is lost with the other voters: the cluster gets a new CA", "ca", ca.Fingerprint().Short())
	return ca, both.PEM(), nil
}

// beAlone writes the recovered state, and with it the configuration, at once.
func (n *Node) beAlone(store *raftStore, r RecoverRequest, ca []byte) (*State, error) {
	st, err := store.Everything(n.fsm.speaks, n.fsm.step)
	if err != nil {
		return nil, err
	}
	last, _, err := store.Last()
	if err != nil {
		return nil, err
	}
	at, err := store.Written(last)
	if err != nil {
		return nil, err
	}
	next, res := st.Apply(last+revisionGap, &clusterpb.Command{
		Actor: r.Actor, Source: r.Source, TimeMs: max(time.Now().UnixMilli(), 0),
		Change: &clusterpb.Command_RecoverCluster{RecoverCluster: &clusterpb.RecoverCluster{
			Node: n.cfg.Name, Known: last, KnownMs: at, CaCertificates: ca,
		}},
	})
	if res.Refusal != nil {
		return nil, &RefusedError{res.Refusal}
	}
	return next, store.Rewrite(next, n.self(next))
}

// self is this node as Raft's only server.
func (n *Node) self(st *State) raft.Server {
	return raft.Server{Suffrage: raft.Voter, ID: serverOf(st, st.Member(n.cfg.Name)), Address: raft.ServerAddress(n.cfg.Name)}
}

// settle waits until this node leads, and gives it a certificate of the CA that
// others will be told to believe, where that is a new one.
func (n *Node) settle(ctx context.Context, e *engine, ca *pki.CA) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Ask)
	defer cancel()
	if err := n.awaitLead(ctx, e); err != nil {
		return err
	}
	if ca == nil {
		return nil
	}
	creds, err := n.certifySelf(ca)
	if err != nil {
		return err
	}
	n.cfg.Door.SetIdentity(creds)
	return nil
}

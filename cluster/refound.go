package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// refound begins the cluster of a snapshot anew on this node, with a new CA. What
// goes into the first log is a snapshot that holds all of it, so that there is a
// cluster or none.
func (n *Node) refound(ctx context.Context, r InitRequest) (*InitResult, error) {
	ca, result, next, err := n.prepareRefound(r)
	if err != nil {
		return nil, err
	}
	e, err := n.foundOn(next, ca)
	if err != nil {
		return nil, fmt.Errorf("create the cluster from a snapshot: %w", errors.Join(err, n.unform()))
	}
	err = n.awaitLead(ctx, e)
	if err == nil {
		err = n.complete(e, ca)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the cluster is created, start this node again to complete it: %w", err), e.Close())
	}
	result.Revision = n.State().Revision()
	n.log.Info("cluster created from a snapshot", "cluster", result.Name, "id", result.ID,
		"incarnation", n.State().Cluster().GetIncarnation(), "ca", ca.Fingerprint().Short())
	return result, nil
}

// prepareRefound is the state that the cluster begins with.
func (n *Node) prepareRefound(r InitRequest) (*pki.CA, *InitResult, *State, error) {
	st := r.FromSnapshot.State
	c := st.Cluster()
	if r.Name != "" && r.Name != c.GetName() {
		return nil, nil, nil, &RefusedError{invalid("name", "the snapshot is of the cluster %s, which keeps its name", c.GetName())}
	}
	if r.JoinTokens == 0 {
		r.JoinTokens = 2
		for _, ring := range st.Rings() {
			r.JoinTokens = max(r.JoinTokens, ring.RF()-1)
		}
	}
	key, err := n.pki.Key()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("this node's key: %w", err)
	}
	now := time.Now()
	ca, err := pki.NewCA(c.GetId(), now)
	if err != nil {
		return nil, nil, nil, err
	}
	result := &InitResult{Name: c.GetName(), ID: c.GetId(), Node: n.cfg.Name}
	tokens, err := result.addTokens(ca, r, now)
	if err != nil {
		return nil, nil, nil, err
	}
	known := max(st.Revision(), r.FromSnapshot.Header.Index)
	next, res := st.Apply(known+revisionGap, &clusterpb.Command{
		Actor: r.Actor, Source: r.Source, TimeMs: max(now.UnixMilli(), 0),
		Change: &clusterpb.Command_RefoundCluster{RefoundCluster: &clusterpb.RefoundCluster{
			Member: n.asMember(key.Hash()), StoreId: n.cfg.StoreID[:], CaCertificates: ca.Bundle().PEM(), Tokens: tokens, Known: known,
			KnownMs: r.FromSnapshot.Header.Time.UnixMilli(),
		}},
	})
	if res.Refusal != nil {
		return nil, nil, nil, &RefusedError{res.Refusal}
	}
	return ca, result, next, n.fsm.speaks.check(next)
}

// foundOn makes the log of a cluster that begins with this state.
func (n *Node) foundOn(st *State, ca *pki.CA) (*engine, error) {
	if err := errors.Join(n.pki.SaveBundle(ca.Bundle()), n.pki.SaveCAKey(ca.Key())); err != nil {
		return nil, err
	}
	store, err := openRaftStore(n.raftDir(), raftLogger(n.log))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(store.Rewrite(st, n.self(st)), store.Close()); err != nil {
		return nil, err
	}
	return n.startEngine()
}

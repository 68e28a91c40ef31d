package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// joinTokenLife is how long a join token may be used for the first time, and
// repeated.
const joinTokenLife = time.Hour

// InitRequest is what `cluster init` asks for. The zero value is a cluster with
// the defaults.
type InitRequest struct {
	// Name of the cluster; "" makes one up.
	Name string
	// ReplicationFactor and Slots of the ring `default`; 0: the defaults.
	ReplicationFactor, Slots uint32
	// Settings; nil: DefaultSettings.
	Settings *clusterpb.Settings
	// JoinTokens is how many are made; 0: one for each further replica, at
	// least two. Negative: none.
	JoinTokens int
	// TokenLife of these. Default 1h.
	TokenLife time.Duration
	// FromSnapshot begins the archive's cluster anew, as its next incarnation:
	// name, settings, rings, tenants and tokens are its own.
	FromSnapshot *Archive
	// Actor and Source are for the events.
	Actor, Source string
}

// InitResult is a new cluster.
type InitResult struct {
	Name, ID, Node string
	Revision       uint64
	// JoinTokens are texts that nobody can show again.
	JoinTokens []string
}

// Init creates a cluster with this node as its only member and its leader. It
// wraps ErrExists where this node belongs to one. Nothing is left behind by an
// Init that failed before the cluster was committed; one that was cut off
// afterwards is completed by the next Open, without the tokens' texts.
func (n *Node) Init(ctx context.Context, r InitRequest) (*InitResult, error) {
	n.forming.Lock()
	defer n.forming.Unlock()
	if err := n.mayForm(); err != nil {
		return nil, err
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	if r.FromSnapshot != nil {
		return n.refound(ctx, r)
	}
	ca, result, cmd, err := n.prepareInit(r)
	if err != nil {
		return nil, err
	}
	if _, res := EmptyState().Apply(1, cmd); res.Refusal != nil {
		return nil, &RefusedError{res.Refusal}
	}
	e, err := n.found(ctx, ca, cmd)
	if err != nil {
		return nil, fmt.Errorf("create the cluster: %w", err)
	}
	if err := n.complete(e, ca); err != nil {
		return nil, errors.Join(fmt.Errorf("the cluster is created, start this node again to complete it: %w", err), e.Close())
	}
	result.Revision = n.State().Revision()
	n.log.Info("cluster created", "cluster", result.Name, "id", result.ID, "ca", ca.Fingerprint().Short())
	return result, nil
}

// mayForm wants an open node that belongs to no cluster.
func (n *Node) mayForm() error {
	switch {
	case n.ctx.Err() != nil:
		return ErrClosed
	case n.pki == nil:
		return errors.New("node is not open")
	case n.engine.Load() != nil:
		if c := n.State().Cluster(); c != nil {
			return fmt.Errorf("%w: %s", ErrExists, c.GetName())
		}
		return ErrExists
	}
	return nil
}

// prepareInit makes everything that a new cluster has secrets in.
func (n *Node) prepareInit(r InitRequest) (*pki.CA, *InitResult, *clusterpb.Command, error) {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	id := hex.EncodeToString(raw)
	if r.Name == "" {
		r.Name = "muster-" + id[:4]
	}
	if r.Settings == nil {
		r.Settings = DefaultSettings()
	}
	if r.JoinTokens == 0 {
		r.JoinTokens = max(int(r.ReplicationFactor)-1, 2)
	}
	key, err := n.pki.Key()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("this node's key: %w", err)
	}
	now := time.Now()
	ca, err := pki.NewCA(id, now)
	if err != nil {
		return nil, nil, nil, err
	}
	result := &InitResult{Name: r.Name, ID: id, Node: n.cfg.Name}
	init := &clusterpb.InitCluster{
		Name: r.Name, Id: id, CaCertificates: ca.Bundle().PEM(),
		Member: n.asMember(key.Hash()), StoreId: n.cfg.StoreID[:],
		Settings: r.Settings, ReplicationFactor: r.ReplicationFactor, Slots: r.Slots,
		ClusterVersion: n.fsm.speaks.newest,
	}
	if init.Tokens, err = result.addTokens(ca, r, now); err != nil {
		return nil, nil, nil, err
	}
	return ca, result, &clusterpb.Command{
		Actor: r.Actor, Source: r.Source, TimeMs: now.UnixMilli(),
		Change: &clusterpb.Command_Init{Init: init},
	}, nil
}

// addTokens makes the join tokens, whose texts only the result has.
func (res *InitResult) addTokens(ca *pki.CA, r InitRequest, now time.Time) ([]*clusterpb.Token, error) {
	var tokens []*clusterpb.Token
	for range max(r.JoinTokens, 0) {
		token, err := pki.NewToken(ca.Fingerprint())
		if err != nil {
			return nil, err
		}
		res.JoinTokens = append(res.JoinTokens, token.Text())
		tokens = append(tokens, &clusterpb.Token{
			Id: token.ID, Role: clusterpb.TokenRole_ROLE_NODE, Hash: token.Hash(),
			ExpiresMs: now.Add(cmp.Or(r.TokenLife, joinTokenLife)).UnixMilli(),
		})
	}
	return tokens, nil
}

// asMember is this node as it presents itself.
func (n *Node) asMember(keyHash []byte) *clusterpb.Member {
	return &clusterpb.Member{
		Name: n.cfg.Name, Zone: n.cfg.Zone, KeyHash: keyHash,
		Address:      n.cfg.Advertise(),
		HttpAddress:  called(n.cfg.HTTPAddress),
		WriteAddress: called(n.cfg.WriteAddress),
		StoreAddress: called(n.cfg.StoreAddress),
	}
}

// found makes the CA and the log and commits the cluster. Where that fails,
// everything is as before.
func (n *Node) found(ctx context.Context, ca *pki.CA, cmd *clusterpb.Command) (*engine, error) {
	if err := errors.Join(n.pki.SaveBundle(ca.Bundle()), n.pki.SaveCAKey(ca.Key())); err != nil {
		return nil, errors.Join(err, n.pki.Leave())
	}
	e, err := n.startEngine()
	if err != nil {
		return nil, errors.Join(err, n.unform())
	}
	err = e.bootstrap(n.cfg.Name)
	if err == nil {
		err = n.awaitLead(ctx, e)
	}
	if err == nil {
		err = n.commitInit(ctx, e, cmd)
	}
	if err != nil && n.State().Cluster() == nil {
		return nil, errors.Join(err, e.Close(), n.unform())
	}
	return e, nil
}

func (n *Node) commitInit(ctx context.Context, e *engine, cmd *clusterpb.Command) error {
	res, err := e.apply(ctx, cmd)
	if err != nil {
		return err
	}
	if res.Refusal != nil {
		return &RefusedError{res.Refusal}
	}
	return nil
}

// awaitLead waits until this node, the only voter, leads and has applied all.
func (n *Node) awaitLead(ctx context.Context, e *engine) error {
	for {
		_, err := n.barrierHere(ctx, e)
		if err == nil {
			return nil
		}
		if n.pause(ctx) != nil {
			return fmt.Errorf("wait to lead: %w", err)
		}
	}
}

// complete gives the first member its certificate, which names the revision of
// the cluster's creation, and takes its place.
func (n *Node) complete(e *engine, ca *pki.CA) error {
	m := n.State().Member(n.cfg.Name)
	if m == nil {
		return fmt.Errorf("node %s is no member of cluster %s", n.cfg.Name, n.State().Cluster().GetName())
	}
	creds, err := n.certifySelf(ca)
	if err != nil {
		return err
	}
	n.takePlace(e, creds)
	return nil
}

// resumeInit looks, on a node without a certificate, for what an Init left that
// was cut off. Where the cluster was committed the certificate is all that is
// missing; otherwise nobody has heard of that cluster, and it is undone.
func (n *Node) resumeInit(ctx context.Context) error {
	ca, err := n.pki.CA()
	if errors.Is(err, pki.ErrAbsent) {
		return n.refuseStrayLog()
	}
	if err != nil {
		return fmt.Errorf("this node's CA: %w", err)
	}
	if _, err := os.Stat(n.raftPath("raft.db")); errors.Is(err, fs.ErrNotExist) {
		return n.unform()
	}
	e, err := n.startEngine()
	if err != nil {
		return err
	}
	if n.State().Cluster() == nil && n.wasBootstrapped(e) {
		// Its own vote is all that it needs; no other node has to answer.
		ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Ask)
		defer cancel()
		if err := n.awaitLead(ctx, e); err != nil {
			return errors.Join(fmt.Errorf("resume `cluster init`: %w", err), e.Close())
		}
	}
	if n.State().Cluster() == nil {
		n.log.Info("a `cluster init` that was cut off is undone; run it again")
		return errors.Join(e.Close(), n.unform())
	}
	if err := n.complete(e, ca); err != nil {
		return errors.Join(fmt.Errorf("resume `cluster init`: %w", err), e.Close())
	}
	n.log.Info("a `cluster init` that was cut off is completed", "cluster", n.State().Cluster().GetName())
	return nil
}

func (n *Node) wasBootstrapped(e *engine) bool {
	return len(e.raft.GetConfiguration().Configuration().Servers) > 0
}

// refuseStrayLog refuses control state without the certificate that goes with it.
func (n *Node) refuseStrayLog() error {
	if _, err := os.Stat(n.raftPath("raft.db")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	store, err := openRaftStore(n.raftDir(), raftLogger(n.log))
	if err != nil {
		return err
	}
	used, err := store.Used()
	if err = errors.Join(err, store.Close()); err != nil || !used {
		return err
	}
	return fmt.Errorf("%s holds the control state of a cluster, but this node has no certificate of one: bring its pki folder back, or move raft away to join anew (samples are not in it)", n.raftDir())
}

// unform forgets a cluster that never was.
func (n *Node) unform() error {
	return errors.Join(os.RemoveAll(n.raftDir()), n.pki.Leave())
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// JoinRequest is what `cluster join` asks for.
type JoinRequest struct {
	// Token is a text that `cluster init` or `token create` has shown.
	Token string
	// Address is the member door of any member, host:port.
	Address string
	// Replace gives up the data directory that a member of this node's name had.
	Replace bool
	// Weight of this node; 0: the usual one.
	Weight uint32
	// ResetControlState gives up what this node has of an earlier membership of
	// the same cluster, but for its samples.
	ResetControlState bool
}

// Join makes this node a member and returns when it is active. It may be
// repeated, also after it was cut off: a node that belongs to the token's
// cluster only waits to be active. It wraps ErrExists where this node belongs to
// another cluster; a *RefusedError says why the cluster did not let it in.
func (n *Node) Join(ctx context.Context, r JoinRequest) error {
	token, err := pki.ParseClusterToken(r.Token)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if err := n.enter(ctx, r, token); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return n.awaitActive(ctx)
}

// enter gets this node its certificate and starts it as a server that waits to
// be called.
func (n *Node) enter(ctx context.Context, r JoinRequest, token pki.Token) error {
	n.forming.Lock()
	defer n.forming.Unlock()
	if c := n.held(); c != nil && r.ResetControlState {
		return n.rejoin(ctx, r, token)
	}
	late := false
	if creds := n.credentials(); creds != nil && n.engine.Load() != nil && creds.CAs.Has(token.CA) {
		n.hints.Add(r.Address) // where it belongs it may look for the others
		if err := n.greet(ctx, r.Address); err != nil {
			n.log.Debug("greet before joining", "err", err)
		}
		if err := n.Standing(); err != nil {
			return err
		}
		if late = time.Now().After(creds.Expires()); !late {
			return nil
		}
	} else if c := n.held(); c != nil {
		return n.holds(c)
	} else if err := n.mayForm(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	answer, err := n.askToJoin(ctx, r, token)
	if err != nil {
		return err
	}
	creds, err := n.keepMembership(answer, token)
	if err != nil {
		return err
	}
	n.log.Info("joined", "cluster", answer.GetClusterName(), "as", creds.Identity)
	if late { // its place it had all the time
		n.cfg.Door.SetIdentity(creds)
		n.trust.Ring()
		return nil
	}
	return n.begin(creds)
}

// askToJoin sends the token to a member that has shown the CA that the token
// names, and to nobody else.
func (n *Node) askToJoin(ctx context.Context, r JoinRequest, token pki.Token) (*clusterpb.JoinResponse, error) {
	key, err := n.pki.Key()
	if err != nil {
		return nil, fmt.Errorf("this node's key: %w", err)
	}
	csr, err := pki.NewRequest(key, n.cfg.Name)
	if err != nil {
		return nil, err
	}
	// The member looks whether it reaches this node before it lets it in.
	proof, err := key.Proof(n.cfg.Name, time.Now())
	if err != nil {
		return nil, err
	}
	defer n.cfg.Door.Expect(proof)()
	conn, err := door.JoinClient(ctx, r.Address, token.CA)
	var mismatch *door.MismatchError
	if errors.As(err, &mismatch) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot reach the member at %s: %w. Nothing was changed: the address is a member's as `muster cluster status` shows it there, and its --peer.address has to be let through the firewall", n.cfg.Name, r.Address, err)
	}
	defer conn.Close()
	me, held, revision := n.asMember(nil), n.held(), uint64(0)
	if held != nil {
		revision = n.State().Revision()
	}
	answer, err := clusterpb.NewJoinClient(conn).Join(ctx, &clusterpb.JoinRequest{
		ClusterVersionMin: n.fsm.speaks.oldest, ClusterVersionMax: n.fsm.speaks.newest,
		Token: token.Text(), Csr: csr, Name: me.GetName(), Address: me.GetAddress(), Zone: me.GetZone(),
		HeldClusterId: held.GetId(), HeldIncarnation: held.GetIncarnation(), HeldRevision: revision, ResetControlState: r.ResetControlState,
		StoreId: n.cfg.StoreID[:], Replace: r.Replace, Version: n.cfg.Version, Weight: r.Weight,
		HttpAddress: me.GetHttpAddress(), WriteAddress: me.GetWriteAddress(), StoreAddress: me.GetStoreAddress(),
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask %s: %w", r.Address, err)
	case answer.GetRefusal().GetKind() == clusterpb.Refusal_NO_LEADER:
		return nil, fmt.Errorf("%w: %s", ErrNoLeader, answer.GetRefusal().GetMessage())
	case answer.GetRefusal() != nil:
		return nil, &RefusedError{answer.GetRefusal()}
	}
	return answer, nil
}

// keepMembership writes down what a member is; the certificate last, since with
// it a node belongs to the cluster.
func (n *Node) keepMembership(answer *clusterpb.JoinResponse, token pki.Token) (*pki.Credentials, error) {
	bundle, err := pki.ParseBundle(answer.GetCaCertificates())
	if err != nil {
		return nil, fmt.Errorf("the cluster's CA: %w", err)
	}
	if !bundle.Has(token.CA) {
		return nil, errors.New("the cluster answered with another CA than the token's")
	}
	if err := os.MkdirAll(n.raftDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make the raft directory: %w", err)
	}
	if err := n.keepFloor(max(n.State().Revision(), answer.GetMember().GetVersion())); err != nil {
		return nil, err
	}
	if err := errors.Join(n.standing.Forget(), n.keepGeneration(answer.GetMember().GetServer()), n.peers.Follow(answer.GetMembers())); err != nil {
		return nil, err
	}
	if err := n.pki.SaveBundle(bundle); err != nil {
		return nil, err
	}
	creds, err := n.pki.SaveCertificate(answer.GetCertificate())
	if err != nil {
		return nil, fmt.Errorf("this node's certificate: %w", err)
	}
	return creds, nil
}

// awaitActive waits until the cluster has made this node active.
func (n *Node) awaitActive(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	for {
		seen := n.fsm.Applied()
		if n.isActive() && n.fsm.Doubted() == "" {
			return nil
		}
		if err := n.Standing(); err != nil {
			return err
		}
		if err := n.fsm.WaitApplied(ctx, seen+1); err != nil {
			if n.ctx.Err() != nil {
				return ErrClosed
			}
			return fmt.Errorf("join: this node is a member, but not active yet; it goes on by itself, and `cluster join` may be repeated: %w", err)
		}
	}
}

// isActive says whether the state has this node as an active member. While it
// hears of the past, it may meet another store of its name, which was active too.
func (n *Node) isActive() bool {
	st := n.State()
	m := st.Holder(storeOf(st.StoreByID(n.cfg.StoreID[:]).GetNumber()))
	return m.GetName() == n.cfg.Name && eligible(m)
}

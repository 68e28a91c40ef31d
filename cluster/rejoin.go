package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// fieldReset is of refusals that --reset-control-state is about.
const fieldReset = "reset_control_state"

// held is what a node has of an earlier membership.
func (n *Node) held() *clusterpb.Cluster {
	if n.engine.Load() == nil {
		return nil
	}
	return n.State().Cluster()
}

// holds says why a node with control state cannot simply join.
func (n *Node) holds(c *clusterpb.Cluster) error {
	return fmt.Errorf("%w: it holds control state of cluster %s (incarnation %d); its samples are not affected. To join again, repeat with --reset-control-state, which moves raft to raft.bak-<time>",
		ErrExists, c.GetName(), c.GetIncarnation())
}

// rejoin gives the control state up and joins with all samples kept. Nothing is
// moved before the cluster has let this node in.
func (n *Node) rejoin(ctx context.Context, r JoinRequest, token pki.Token) error {
	old := n.engine.Load()
	answer, err := n.askToJoin(ctx, r, token)
	if err != nil {
		return err
	}
	if err := old.Close(); err != nil {
		n.log.Error("stop raft", "err", err)
	}
	n.engine.Store(nil)
	to, err := n.setControlStateAside()
	if err != nil {
		return fmt.Errorf("restart this node: %w", err)
	}
	creds, err := n.keepMembership(answer, token)
	if err != nil {
		return err
	}
	n.dropKeptCAKey(to, creds)
	n.tidyBaks()
	n.log.Info("joined again", "cluster", answer.GetClusterName(), "as", creds.Identity, "aside", to)
	store, err := openRaftStore(n.raftDir(), raftLogger(n.log))
	if err != nil {
		return err
	}
	// What this node served by it goes on serving by, until it hears anew.
	n.fsm.BeginAnew(store, "this node has joined again")
	e, err := n.runRaft(store)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	n.takePlace(e, creds)
	return nil
}

// setControlStateAside moves raft/ to raft.bak-<time>, with the certificates and
// the CA's key that went with it, and leaves the cluster. This node's own key
// stays.
func (n *Node) setControlStateAside() (string, error) {
	if err := n.pki.KeepIn(n.raftPath("pki")); err != nil {
		return "", err
	}
	if err := errors.Join(n.pki.Leave(), n.peers.Forget()); err != nil {
		return "", fmt.Errorf("leave the cluster: %w", err)
	}
	to := filepath.Join(n.cfg.Dir, bakName(time.Now()))
	if err := os.Rename(n.raftDir(), to); err != nil {
		return "", fmt.Errorf("set the control state aside: %w", err)
	}
	return to, syncDir(n.cfg.Dir)
}

// dropKeptCAKey removes the CA's key from what was set aside, where the cluster
// goes on with that CA: it is for voters alone, and would outlast this one's vote.
func (n *Node) dropKeptCAKey(aside string, creds *pki.Credentials) {
	held := n.caKey.Load()
	if held == nil || !creds.CAs.Has(*held) {
		return
	}
	if err := pki.DropKept(filepath.Join(aside, "pki")); err != nil {
		n.log.Error("the CA's key that was set aside cannot be dropped: delete it", "aside", aside, "err", err)
	}
}

// judgeReset decides on a joiner that has control state, or has lost it: refused
// where it would bring another cluster's samples, or is ahead of this one.
func (n *Node) judgeReset(r *clusterpb.JoinRequest) *clusterpb.Refusal {
	st := n.State()
	c, id := st.Cluster(), r.GetHeldClusterId()
	switch reset := r.GetResetControlState(); {
	case id == "":
		return nil
	case !reset && (id != c.GetId() || r.GetHeldIncarnation() != c.GetIncarnation()):
		return refuse(clusterpb.Refusal_EXISTS, fieldReset, "this node holds control state of incarnation %d, the cluster %s is at %d; its samples are not affected. To join again, repeat with --reset-control-state, which moves raft to raft.bak-<time>",
			r.GetHeldIncarnation(), c.GetName(), c.GetIncarnation())
	case reset && id != c.GetId():
		return refuse(clusterpb.Refusal_EXISTS, fieldReset, "this node's samples are of another cluster (%s) and would mix with those of %s (%s): start it with an empty --data-dir, its old one keeps them",
			quote(id), c.GetName(), c.GetId())
	case reset && r.GetHeldRevision() > st.Revision():
		return unsafe(fieldReset, "this node knows revision %d, the cluster %s is at %d: that cluster was recovered from older state; look at both with `muster cluster recover --plan`",
			r.GetHeldRevision(), c.GetName(), st.Revision())
	}
	return nil
}

// resets says whether a joiner comes without the control state that it had: it
// says so, or has none though it was active.
func resets(st *State, r *clusterpb.JoinRequest) bool {
	m := st.Member(r.GetName())
	return r.GetResetControlState() || r.GetHeldClusterId() == "" && m != nil && m.GetState() != clusterpb.MemberState_JOINING
}

// awaitServerGone waits until the server that the member was before is no server
// any more, by a committed configuration: until then the log and the vote that it
// has given up may be counted on.
func (n *Node) awaitServerGone(ctx context.Context, name string) error {
	for {
		if n.onlyServer(name) {
			if _, err := n.Barrier(ctx); err != nil {
				return err
			}
			if n.onlyServer(name) {
				return nil
			}
		}
		if err := n.pause(ctx); err != nil {
			return fmt.Errorf("%w: %s is a server still that it was before", ErrUnknownOutcome, name)
		}
	}
}

func (n *Node) onlyServer(name string) bool {
	e, st := n.engine.Load(), n.State()
	m := st.Member(name)
	if e == nil || m == nil {
		return false
	}
	for _, s := range e.raft.GetConfiguration().Configuration().Servers {
		if nodeOf(s.ID) == name && s.ID != serverOf(st, m) {
			return false
		}
	}
	return true
}

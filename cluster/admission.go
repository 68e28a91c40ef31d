package cluster

import (
	"bytes"
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// knockTime bounds the look whether a joining node can be reached.
const knockTime = 3 * time.Second

// admission is the join service: any member lets a node in, by the leader's
// hand. Its callers are nobody yet; what they are depends on their token.
type admission struct {
	clusterpb.UnimplementedJoinServer
	node *Node
}

// Join judges the token, looks whether the joiner can be reached at the address
// that it names, and only then makes it a member. A refusal is an answer.
func (a *admission) Join(ctx context.Context, r *clusterpb.JoinRequest) (*clusterpb.JoinResponse, error) {
	n := a.node
	if !n.knowsToken(r.GetToken()) {
		if err := n.strangers.Wait(ctx); err != nil {
			return nil, status.FromContextError(err).Err()
		}
	}
	answer, refusal, err := n.admit(ctx, r)
	switch {
	case errors.Is(err, ErrNoLeader):
		refusal = refuse(clusterpb.Refusal_NO_LEADER, "", "%s", err.Error())
	case errors.Is(err, ErrUnknownOutcome):
		refusal = refuse(clusterpb.Refusal_UNKNOWN_OUTCOME, "", "the cluster has not answered in time: join again with the same token")
	case err != nil:
		n.log.Warn("join failed", "node", quote(r.GetName()), "err", err)
		refusal = refuse(clusterpb.Refusal_UNKNOWN_OUTCOME, "", "%s could not let the node in, see its log: join again with the same token", n.cfg.Name)
	}
	if refusal != nil {
		n.log.Info("join refused", "node", quote(r.GetName()), "reason", refusal.GetMessage())
		return &clusterpb.JoinResponse{Refusal: refusal}, nil
	}
	return answer, nil
}

func (n *Node) admit(ctx context.Context, r *clusterpb.JoinRequest) (*clusterpb.JoinResponse, *clusterpb.Refusal, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Ask)
	defer cancel()
	if err := n.Standing(); err != nil {
		return nil, refuse(clusterpb.Refusal_DENIED, "address", "%v: join through a member", err), nil
	}
	// The token may have been made a moment ago, on another node.
	if _, err := n.Barrier(ctx); err != nil {
		return nil, nil, err
	}
	cmd, refusal := n.judgeJoin(r)
	if refusal == nil {
		refusal = n.knock(ctx, r, cmd.GetAddMember().GetMember().GetKeyHash())
	}
	if refusal != nil {
		return nil, refusal, nil
	}
	if refusal, err := n.propose(ctx, cmd); refusal != nil || err != nil {
		return nil, refusal, err
	}
	if cmd.GetAddMember().GetResetControlState() {
		if err := n.awaitServerGone(ctx, r.GetName()); err != nil {
			return nil, nil, err
		}
	}
	chain, err := n.certify(ctx, r.GetCsr())
	if err != nil {
		return nil, nil, err
	}
	st := n.State()
	return &clusterpb.JoinResponse{
		Certificate: chain, CaCertificates: st.Cluster().GetCaCertificates(),
		ClusterId: st.Cluster().GetId(), ClusterName: st.Cluster().GetName(),
		Member: st.Member(r.GetName()), Members: st.Members(), ClusterIncarnation: st.Cluster().GetIncarnation(),
	}, nil, nil
}

// propose makes the joiner a member. One that replaces a node which was stopped a
// moment ago waits until the leader has noticed.
func (n *Node) propose(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.Refusal, error) {
	deadline := time.Now().Add(2*n.cfg.Timing.Fresh + n.cfg.Timing.Report)
	for {
		made, err := n.Propose(ctx, cmd)
		if err != nil {
			return nil, err
		}
		refusal := made.GetRefusal()
		if refusal.GetKind() != clusterpb.Refusal_UNSAFE || refusal.GetField() != fieldOldNode || time.Now().After(deadline) {
			return refusal, nil
		}
		if n.pause(ctx) != nil {
			return refusal, nil //nolint:nilerr // there is an answer, though no time for a better one
		}
	}
}

// fieldOldNode is of a refusal to replace a node that answers.
const fieldOldNode = "replace"

// guardReplace refuses to replace a data directory whose server answers.
func (n *Node) guardReplace(st *State, add *clusterpb.AddMember) *clusterpb.Refusal {
	m := st.Member(add.GetMember().GetName())
	if m == nil || !add.GetReplace() || bytes.Equal(st.Store(storeOf(m.GetStore())).GetId(), add.GetStoreId()) {
		return nil
	}
	name := m.GetName()
	switch now := time.Now(); {
	case n.health.Live(m, now):
		c, _ := n.health.Of(m)
		return unsafe(fieldOldNode, "%s answers with its other data directory (store %d) at %s: heard %v ago, without a break since %s. Stop that server first, or give this node another --node-name",
			name, m.GetStore(), m.GetAddress(), now.Sub(c.heard).Round(time.Millisecond), c.since.UTC().Format(time.RFC3339))
	case !n.health.Silent(m, now):
		return unsafe(fieldOldNode, "this leader has only begun and cannot tell yet whether %s answers with its other data directory: join again in %v", name, 2*n.cfg.Timing.Fresh)
	default:
		return nil
	}
}

// judgeJoin is the change that lets the node in, or why there is none.
func (n *Node) judgeJoin(r *clusterpb.JoinRequest) (*clusterpb.Command, *clusterpb.Refusal) {
	denied := func(format string, args ...any) (*clusterpb.Command, *clusterpb.Refusal) {
		return nil, refuse(clusterpb.Refusal_DENIED, "token", format, args...)
	}
	token, err := pki.ParseClusterToken(r.GetToken())
	if err != nil {
		return denied("%v", err)
	}
	if r := n.misspoken(r); r != nil {
		return nil, r
	}
	st := n.State()
	known := st.TokenByHash(token.Hash())
	if known == nil {
		return denied("token %s is not known here: it was revoked, its time is over, or it was not copied whole; `muster token create --role node` makes another", quote(token.ID))
	}
	req, err := pki.ParseRequest(r.GetCsr())
	if err != nil {
		return nil, invalid("csr", "%v", err)
	}
	if refusal := n.judgeReset(r); refusal != nil {
		return nil, refusal
	}
	for _, m := range st.Members() {
		if m.GetAddress() == r.GetAddress() && m.GetName() != r.GetName() {
			return nil, invalid("address", "%s is where %s is: see --advertise-address", quote(r.GetAddress()), m.GetName())
		}
	}
	cmd := &clusterpb.Command{
		Actor: "token " + known.GetId(), Source: r.GetAddress(), TimeMs: max(time.Now().UnixMilli(), 0),
		Change: &clusterpb.Command_AddMember{AddMember: &clusterpb.AddMember{
			Member: &clusterpb.Member{
				Name: r.GetName(), Address: r.GetAddress(), Zone: r.GetZone(), Weight: r.GetWeight(), KeyHash: req.KeyHash(),
				HttpAddress: r.GetHttpAddress(), WriteAddress: r.GetWriteAddress(), StoreAddress: r.GetStoreAddress(),
			},
			StoreId: r.GetStoreId(), Replace: r.GetReplace(), TokenId: known.GetId(), ResetControlState: resets(st, r),
		}},
	}
	// What the state would refuse is refused before anybody is dialled.
	_, res := st.Apply(st.Revision()+1, cmd)
	return cmd, res.Refusal
}

// knock looks whether the joining node can be reached at the address that it
// names: its door proves, by the key of its request, that it is the one.
func (n *Node) knock(ctx context.Context, r *clusterpb.JoinRequest, keyHash []byte) *clusterpb.Refusal {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	err := door.Knock(ctx, r.GetAddress(), keyHash)
	if err == nil {
		return nil
	}
	name, hint := text(r.GetName(), 64), "start %s with an --advertise-address at which %s reaches it"
	if !errors.Is(err, door.ErrAnother) {
		hint += ", and let its --peer.address through the firewall"
	}
	return unsafe("address", "%s has reached %s, but %s cannot reach %s back at %s: %v. Nothing was changed: "+hint+", then join again with the same token",
		name, n.cfg.Name, n.cfg.Name, name, quote(r.GetAddress()), err, name, n.cfg.Name)
}

// byRole are the other members, the leader and the voters first.
func (n *Node) byRole() []string {
	var first, rest []string
	leader, _ := n.Leader()
	e := n.engine.Load()
	if e == nil {
		return nil
	}
	roles := n.roles(e)
	for _, name := range n.memberNames() {
		switch {
		case name == leader:
			first = append([]string{name}, first...)
		case roles[name] == roleVoter:
			first = append(first, name)
		default:
			rest = append(rest, name)
		}
	}
	return append(first, rest...)
}

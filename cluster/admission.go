package cluster

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

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
	// The token may have been made a moment ago, on another node.
	if _, err := n.Barrier(ctx); err != nil {
		return nil, nil, err
	}
	cmd, refusal := n.judgeJoin(r)
	if refusal != nil {
		return nil, refusal, nil
	}
	if n.State().Member(r.GetName()) == nil {
		if err := n.knock(ctx, r.GetAddress()); err != nil {
			return nil, unsafe("address", "%s cannot reach the new node at %s: %v; see --advertise-address and its firewall", n.cfg.Name, quote(r.GetAddress()), err), nil
		}
	}
	made, err := n.Propose(ctx, cmd)
	if err != nil {
		return nil, nil, err
	}
	if made.GetRefusal() != nil {
		return nil, made.GetRefusal(), nil
	}
	chain, err := n.certify(ctx, r.GetCsr())
	if err != nil {
		return nil, nil, err
	}
	st := n.State()
	return &clusterpb.JoinResponse{
		Certificate: chain, CaCertificates: st.Cluster().GetCaCertificates(),
		ClusterId: st.Cluster().GetId(), ClusterName: st.Cluster().GetName(),
		Member: st.Member(r.GetName()), Members: st.Members(),
	}, nil, nil
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
			StoreId: r.GetStoreId(), Replace: r.GetReplace(), TokenId: known.GetId(),
		}},
	}
	// What the state would refuse is refused before anybody is dialled.
	_, res := st.Apply(st.Revision()+1, cmd)
	return cmd, res.Refusal
}

// knock looks whether a joining node's member door is at the address. A door
// without a certificate takes a connection and closes it without a word; that
// it is the joiner's own is shown later, when it answers with its certificate:
// before that it gets neither slots nor a vote.
func (n *Node) knock(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	var timeout net.Error
	switch {
	case err == nil, errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("what answers there is no member door that waits to join")
	case errors.Is(err, io.EOF):
		return nil
	default:
		return nil // reset: closed without a word as well
	}
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

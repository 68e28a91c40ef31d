package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Rehearse says what Propose would answer, by the leader's newest state and by
// what it hears of its members, and changes nothing. It asks once.
func (n *Node) Rehearse(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error) {
	e := n.engine.Load()
	if e == nil {
		return nil, n.outside()
	}
	if r := unspoken(n.State(), cmd); r != nil {
		return &clusterpb.ProposeResponse{Refusal: r}, nil
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	if e.raft.State() == raft.Leader {
		return n.rehearseHere(ctx, e, proto.CloneOf(cmd))
	}
	control, leader, err := n.leaderControl(ctx, e)
	if errors.Is(err, ErrNoLeader) {
		return nil, n.noLeader()
	}
	if err != nil {
		return nil, err
	}
	answer, err := control.Rehearse(ctx, &clusterpb.ProposeRequest{Command: cmd})
	if err != nil {
		return nil, fmt.Errorf("rehearse at %s: %w", leader, err)
	}
	return answer, nil
}

// rehearseHere carries the command out on a copy of the leader's state, which is
// then dropped.
func (n *Node) rehearseHere(ctx context.Context, e *engine, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error) {
	st, err := n.newest(ctx, e)
	if err != nil {
		return nil, err
	}
	if r := n.unsafeNow(ctx, e, cmd); r != nil {
		return &clusterpb.ProposeResponse{Revision: st.Revision(), Refusal: r}, nil
	}
	if r := n.stampRotation(cmd, pki.NewKey); r != nil {
		return &clusterpb.ProposeResponse{Revision: st.Revision(), Refusal: r}, nil
	}
	cmd.TimeMs = max(time.Now().UnixMilli(), 0)
	st.Place(cmd)
	_, res := st.Apply(st.Revision()+1, cmd)
	return &clusterpb.ProposeResponse{Revision: st.Revision(), Refusal: res.Refusal}, nil
}

// Rehearse does it where this node leads, and forwards nothing.
func (c *control) Rehearse(ctx context.Context, r *clusterpb.ProposeRequest) (*clusterpb.ProposeResponse, error) {
	_, e, err := c.caller(ctx)
	if err != nil {
		return nil, err
	}
	if e.raft.State() != raft.Leader {
		return refusedAnswer(clusterpb.Refusal_NO_LEADER, c.node.cfg.Name+" does not lead"), nil
	}
	answer, err := c.node.rehearseHere(ctx, e, proto.CloneOf(r.GetCommand()))
	if err != nil {
		return refusedAnswer(clusterpb.Refusal_NO_LEADER, err.Error()), nil
	}
	return answer, nil
}

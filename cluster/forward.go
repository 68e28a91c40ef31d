package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// forward sends a change to the leader, which makes it or refuses to: it is
// never forwarded again.
func (n *Node) forward(ctx context.Context, e *engine, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error) {
	ctx, cancel := n.whileItLeads(ctx, e)
	defer cancel()
	control, leader, err := n.leaderControl(ctx, e)
	if err != nil {
		return nil, err
	}
	req := &clusterpb.ProposeRequest{Command: cmd}
	if deadline, ok := ctx.Deadline(); ok {
		req.TimeoutMs = uint32(max(time.Until(deadline).Milliseconds(), 1))
	}
	answer, err := control.Propose(ctx, req)
	if err != nil {
		return nil, sortCallError(leader, err)
	}
	switch answer.GetRefusal().GetKind() {
	case clusterpb.Refusal_NO_LEADER:
		return nil, fmt.Errorf("%w: %s", ErrNoLeader, answer.GetRefusal().GetMessage())
	case clusterpb.Refusal_UNKNOWN_OUTCOME:
		return nil, fmt.Errorf("%w: %s", ErrUnknownOutcome, answer.GetRefusal().GetMessage())
	}
	n.sightings.Saw(leader, time.Now())
	return answer, nil
}

func (n *Node) forwardBarrier(ctx context.Context, e *engine) (uint64, error) {
	ctx, cancel := n.whileItLeads(ctx, e)
	defer cancel()
	control, leader, err := n.leaderControl(ctx, e)
	if err != nil {
		return 0, err
	}
	answer, err := control.Barrier(ctx, &clusterpb.BarrierRequest{})
	if err != nil {
		return 0, sortCallError(leader, err)
	}
	return answer.GetRevision(), nil
}

// leaderLook is how often a call to the leader is held against who leads now.
const leaderLook = 100 * time.Millisecond

// whileItLeads ends the context when this node hears of another leader than
// there is now. One whose machine has stalled answers nothing and closes
// nothing; what was asked of it is asked of its successor, with the same request
// id, and not when the connection is found dead.
func (n *Node) whileItLeads(ctx context.Context, e *engine) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	asked, known := n.leaderOf(e)
	if !known {
		return ctx, cancel
	}
	started := n.crew.Go(func() {
		tick := time.NewTicker(leaderLook)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now, known := n.leaderOf(e); known && now != asked {
				cancel()
				return
			}
		}
	})
	if !started {
		cancel()
	}
	return ctx, cancel
}

// leaderControl is a way to the leader, which is another node.
func (n *Node) leaderControl(ctx context.Context, e *engine) (clusterpb.ControlClient, string, error) {
	leader, ok := n.leaderOf(e)
	if !ok || leader == n.cfg.Name {
		return nil, "", ErrNoLeader
	}
	conn, err := n.cfg.Door.Dial(ctx, leader)
	if err == nil {
		err = connected(ctx, conn)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w: %s: %w", ErrNoLeader, leader, err)
	}
	return clusterpb.NewControlClient(conn), leader, nil
}

// connected waits until the connection stands: a call that fails before that
// has done nothing, which its caller wants to know.
func connected(ctx context.Context, conn *grpc.ClientConn) error {
	for {
		switch at := conn.GetState(); at {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return errors.New("no connection")
		default:
			conn.Connect()
			if !conn.WaitForStateChange(ctx, at) {
				return ctx.Err()
			}
		}
	}
}

// sortCallError tells a call that did nothing from one that may have.
func sortCallError(leader string, err error) error {
	switch status.Code(err) {
	case codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated:
		return fmt.Errorf("%w: %s: %w", ErrNoLeader, leader, err)
	default:
		return fmt.Errorf("%w: %s: %w", ErrUnknownOutcome, leader, err)
	}
}

// Leader is the node that leads, as far as this one knows.
func (n *Node) Leader() (string, bool) {
	e := n.engine.Load()
	if e == nil {
		return "", false
	}
	return n.leaderOf(e)
}

// leaderOf prefers what Raft says; a node that Raft does not reach, because its
// address has changed, hears it from the other members.
func (n *Node) leaderOf(e *engine) (string, bool) {
	if _, id := e.raft.LeaderWithID(); id != "" {
		return nodeOf(id), true
	}
	return n.view.Leader(time.Now(), n.cfg.Timing.Fresh)
}

// outside is why a node without an engine can do nothing.
func (n *Node) outside() error {
	if n.ctx.Err() != nil {
		return ErrClosed
	}
	return ErrNoCluster
}

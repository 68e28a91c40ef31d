package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// control is the control service, for members only: the door has checked who
// calls against the committed state.
type control struct {
	clusterpb.UnimplementedControlServer
	node *Node
}

// caller is the member that calls, and the engine that serves it.
func (c *control) caller(ctx context.Context) (door.Identity, *engine, error) {
	id, ok := door.Peer(ctx)
	if !ok || id.Role != pki.RoleNode {
		return id, nil, status.Error(codes.PermissionDenied, "members only")
	}
	e := c.node.engine.Load()
	if e == nil {
		return id, nil, status.Error(codes.FailedPrecondition, c.node.outside().Error())
	}
	return id, e, nil
}

// Propose makes a change that another node was asked for. It does not forward.
func (c *control) Propose(ctx context.Context, r *clusterpb.ProposeRequest) (*clusterpb.ProposeResponse, error) {
	_, e, err := c.caller(ctx)
	if err != nil {
		return nil, err
	}
	limit := c.node.cfg.Timing.Ask
	if ms := r.GetTimeoutMs(); ms > 0 {
		limit = min(limit, time.Duration(ms)*time.Millisecond)
	}
	limit -= limit / 10 // the answer needs time for its way back
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if e.raft.State() != raft.Leader {
		return refusedAnswer(clusterpb.Refusal_NO_LEADER, c.node.cfg.Name+" does not lead"), nil
	}
	answer, err := c.node.lead(ctx, e, proto.CloneOf(r.GetCommand()))
	switch {
	case err == nil:
		return answer, nil
	case errors.Is(err, ErrNoLeader):
		return refusedAnswer(clusterpb.Refusal_NO_LEADER, err.Error()), nil
	case errors.Is(err, ErrUnknownOutcome):
		return refusedAnswer(clusterpb.Refusal_UNKNOWN_OUTCOME, err.Error()), nil
	default:
		return refusedAnswer(clusterpb.Refusal_INVALID, err.Error()), nil
	}
}

func refusedAnswer(kind clusterpb.Refusal_Kind, message string) *clusterpb.ProposeResponse {
	return &clusterpb.ProposeResponse{Refusal: refuse(kind, "", "%s", message)}
}

// Barrier is the leader's part of a linearizable read.
func (c *control) Barrier(ctx context.Context, _ *clusterpb.BarrierRequest) (*clusterpb.BarrierResponse, error) {
	_, e, err := c.caller(ctx)
	if err != nil {
		return nil, err
	}
	if e.raft.State() != raft.Leader {
		return nil, status.Error(codes.FailedPrecondition, c.node.cfg.Name+" does not lead")
	}
	rev, err := c.node.barrier.Wait(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &clusterpb.BarrierResponse{Revision: rev}, nil
}

// Heartbeat hears how a member is. A node that does not lead says so by naming
// no clock, and tells whom it takes for the leader.
func (c *control) Heartbeat(ctx context.Context, r *clusterpb.HeartbeatRequest) (*clusterpb.HeartbeatResponse, error) {
	id, e, err := c.caller(ctx)
	if err != nil {
		return nil, err
	}
	report := r.GetReport()
	if report.GetNode() != id.Name || report.GetIncarnation() != id.Incarnation {
		return nil, status.Errorf(codes.PermissionDenied, "%s reports as %s", id.Name, quote(report.GetNode()))
	}
	st := c.node.State()
	d := st.dismissal(credential{
		name: id.Name, incarnation: id.Incarnation, keyHash: st.Member(id.Name).GetKeyHash(), store: report.GetStoreId(),
		cluster: report.GetClusterIncarnation(),
	})
	if d != nil {
		return &clusterpb.HeartbeatResponse{Revision: st.Revision(), Dismissal: d}, nil
	}
	return c.node.hear(e, report), nil
}

// Ping says who answers here.
func (c *control) Ping(ctx context.Context, _ *clusterpb.PingRequest) (*clusterpb.PingResponse, error) {
	if _, ok := door.Peer(ctx); !ok {
		return nil, status.Error(codes.PermissionDenied, "members only")
	}
	creds := c.node.credentials()
	if creds == nil {
		return nil, status.Error(codes.FailedPrecondition, ErrNoCluster.Error())
	}
	return &clusterpb.PingResponse{
		Node: creds.Identity.Name, Incarnation: creds.Identity.Incarnation, ClusterId: creds.Identity.Cluster,
		ClusterIncarnation: c.node.State().Cluster().GetIncarnation(),
	}, nil
}

// Log says how far this node's control state reaches.
func (c *control) Log(ctx context.Context, _ *clusterpb.LogRequest) (*clusterpb.LogResponse, error) {
	_, e, err := c.caller(ctx)
	if err != nil {
		return nil, err
	}
	return c.node.logHere(e), nil
}

// HandOver keeps the CA's key: this node has a vote or is about to get one. The
// key proves itself, by the committed certificate that it belongs to. An empty
// one takes it away again, which is the leader's.
func (c *control) HandOver(ctx context.Context, r *clusterpb.HandOverRequest) (*clusterpb.HandOverResponse, error) {
	id, e, err := c.caller(ctx)
	if err != nil {
		return nil, err
	}
	c.node.renewing.Lock()
	defer c.node.renewing.Unlock()
	leader, known := c.node.leaderOf(e)
	switch {
	case len(r.GetCaKey()) > 0:
		err = c.node.keepCAKey(r.GetCaKey())
	case !known || leader != id.Name:
		return nil, status.Errorf(codes.FailedPrecondition, "%s is not known here as the leader", id.Name)
	default:
		err = c.node.dropCAKey()
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &clusterpb.HandOverResponse{}, nil
}

// Renew signs a certificate for a member's key, or for one that is on record for
// somebody outside, whoever of the members asks.
func (c *control) Renew(ctx context.Context, r *clusterpb.RenewRequest) (*clusterpb.RenewResponse, error) {
	if _, _, err := c.caller(ctx); err != nil {
		return nil, err
	}
	chain, err := c.node.signHere(ctx, r)
	switch {
	case errors.Is(err, pki.ErrAbsent):
		return nil, status.Error(codes.FailedPrecondition, c.node.cfg.Name+" has no CA key")
	case err != nil:
		return nil, status.Error(codes.PermissionDenied, err.Error())
	}
	return &clusterpb.RenewResponse{Certificates: chain}, nil
}

package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// retryPause is how long a change waits before it looks for a leader again.
const retryPause = 50 * time.Millisecond

// Propose makes a change, on whichever node it is called. It answers after the
// commit, having waited a while for the live nodes to apply it. A refusal by
// the state is an answer, not an error. While no node leads, the change is held
// until ctx ends (15s where it has no deadline); then the error wraps
// ErrNoLeader, or ErrUnknownOutcome where it may have been made after all.
//
// The command may carry a request id, 16 bytes, if the caller wants to ask
// again; expected_version, actor and source are the caller's. The time is not.
func (n *Node) Propose(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error) {
	if r := unspoken(n.State(), cmd); r != nil { // an older leader would not know what it is
		return &clusterpb.ProposeResponse{Refusal: r}, nil
	}
	cmd = proto.CloneOf(cmd)
	if len(cmd.GetRequestId()) == 0 {
		cmd.RequestId = make([]byte, requestIDLen)
		_, _ = rand.Read(cmd.RequestId) // never fails
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	unknown := false // an attempt ended without an answer
	for {
		answer, err := n.attempt(ctx, cmd)
		switch {
		case err == nil:
			n.awaitApplied(ctx, answer)
			return answer, nil
		case errors.Is(err, ErrUnknownOutcome):
			unknown = true
		case !errors.Is(err, ErrNoLeader):
			return nil, err
		case !unknown && n.hopeless():
			return nil, n.noLeader()
		}
		if n.pause(ctx) != nil {
			return nil, n.unanswered(ctx, unknown)
		}
	}
}

// bounded gives a deadline to a request that has none.
func (n *Node) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, n.cfg.Timing.Ask)
}

// pause waits a moment; its error is the end of the request or of the node.
func (n *Node) pause(ctx context.Context) error {
	select {
	case <-time.After(retryPause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.ctx.Done():
		return ErrClosed
	}
}

// unanswered is the error of a request that was held until its end.
func (n *Node) unanswered(ctx context.Context, unknown bool) error {
	switch {
	case unknown:
		return ErrUnknownOutcome
	case n.ctx.Err() != nil:
		return ErrClosed
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	default:
		return n.noLeader()
	}
}

// attempt makes the change here where this node leads, else at the leader.
func (n *Node) attempt(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error) {
	e := n.engine.Load()
	switch {
	case e == nil:
		return nil, n.outside()
	case n.Standing() != nil:
		return nil, n.Standing()
	case e.raft.State() == raft.Leader:
		return n.lead(ctx, e, cmd)
	}
	return n.forward(ctx, e, cmd)
}

// lead makes a change as the leader and waits for the live nodes.
func (n *Node) lead(ctx context.Context, e *engine, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error) {
	if why := n.fsm.Halted(); why != "" {
		return nil, fmt.Errorf("%w: %s should, and applies nothing more: %s", ErrNoLeader, n.cfg.Name, why)
	}
	if refusal := n.unsafeNow(ctx, e, cmd); refusal != nil {
		return &clusterpb.ProposeResponse{Refusal: refusal}, nil
	}
	if refusal := n.stampRotation(cmd, n.pki.NextCAKey); refusal != nil {
		return &clusterpb.ProposeResponse{Refusal: refusal}, nil
	}
	res, err := commitPlaced(cmd,
		func() (*State, error) { return n.newest(ctx, e) },
		func() (Result, error) { return e.apply(ctx, cmd) })
	if err != nil {
		return nil, err
	}
	answer := &clusterpb.ProposeResponse{Revision: res.Revision, Version: res.Version, Refusal: res.Refusal}
	if res.Refusal != nil {
		return answer, nil
	}
	// Followers learn from the barrier's append that the change is committed.
	n.barrier.Start()
	n.reportHere(e)
	wait, cancel := context.WithTimeout(ctx, n.cfg.Timing.Wait)
	defer cancel()
	answer.Applied, answer.Pending = n.health.WaitApplied(wait, res.Revision, activeMembers(n.State()))
	return answer, nil
}

// newest is the leader's state with all that was committed before. Where it
// cannot be had nothing was done: the error wraps ErrNoLeader.
func (n *Node) newest(ctx context.Context, e *engine) (*State, error) {
	if _, err := n.barrierHere(ctx, e); err != nil {
		return nil, fmt.Errorf("%w: catch up before a ring is placed: %s", ErrNoLeader, err.Error())
	}
	return n.State(), nil
}

// activeMembers are the members that a change should reach.
func activeMembers(st *State) []*clusterpb.Member {
	var out []*clusterpb.Member
	for _, m := range st.Members() {
		if m.GetState() != clusterpb.MemberState_JOINING {
			out = append(out, m)
		}
	}
	return out
}

// apply commits a command through this engine's log.
func (e *engine) apply(ctx context.Context, cmd *clusterpb.Command) (Result, error) {
	cmd.TimeMs = max(time.Now().UnixMilli(), 0)
	text, err := EncodeCommand(cmd)
	if err != nil {
		return Result{}, err
	}
	limit := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline), time.Millisecond)
	}
	future := e.raft.Apply(text, limit)
	if err := e.wait(ctx, future); err != nil {
		return Result{}, err
	}
	switch r := future.Response().(type) {
	case Result:
		return r, nil
	case error:
		return Result{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, r)
	default:
		return Result{}, fmt.Errorf("raft answered a %T", r)
	}
}

// wait waits for a future of Raft, which knows no context, and sorts its errors:
// ErrNoLeader means that nothing was done.
func (e *engine) wait(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go answerOf(f, done)
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		return ErrUnknownOutcome
	case <-e.ctx.Done():
		return ErrUnknownOutcome
	}
	e.noteTransfer(err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout),
		errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNoLeader, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}

// answerOf waits for a future's answer. It is of no crew: a future that Raft had
// handed to its state machine when it was shut down is never answered (v1.7.3),
// and whoever waited for this goroutine would never end either.
func answerOf(f raft.Future, done chan<- error) { done <- f.Error() }

// awaitApplied waits until this node itself has applied what it answers with,
// so that whoever asked here reads here what was written.
func (n *Node) awaitApplied(ctx context.Context, answer *clusterpb.ProposeResponse) {
	if answer.GetRefusal() != nil {
		return
	}
	wait, cancel := context.WithTimeout(ctx, n.cfg.Timing.Wait)
	defer cancel()
	_ = n.fsm.WaitApplied(wait, answer.GetRevision())
}

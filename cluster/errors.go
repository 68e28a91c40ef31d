package cluster

import (
	"errors"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

var (
	// ErrNoLeader means that no voter leads: changes and linearizable reads
	// wait, samples do not. A NoLeaderError wraps it.
	ErrNoLeader = errors.New("no leader")
	// ErrUnknownOutcome means that a change may have been made or not. The same
	// request id asks again without making it twice.
	ErrUnknownOutcome = errors.New("unknown outcome: the change may have been made")
	// ErrNoCluster means that this node belongs to no cluster yet.
	ErrNoCluster = errors.New("this node belongs to no cluster; init one or join")
	// ErrExists means that this node belongs to a cluster already.
	ErrExists = errors.New("this node belongs to a cluster already")
	// ErrNotLeader means that another node leads.
	ErrNotLeader = errors.New("not the leader")
	// ErrClosed means that the node is closed.
	ErrClosed = errors.New("node is closed")
)

// RefusedError is a refusal where the caller wants an error.
type RefusedError struct{ Refusal *clusterpb.Refusal }

func (e *RefusedError) Error() string { return e.Refusal.GetMessage() }

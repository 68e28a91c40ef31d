package cluster

import (
	"errors"
	"fmt"
	"strings"
	"time"

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

// Voter is a node whose vote counts, and when this node last had word of it.
type Voter struct {
	Name    string
	Missing bool
	// Since is when it was last heard; zero: never since this node started.
	Since time.Time
}

// NoLeaderError says who is missing. It wraps ErrNoLeader.
type NoLeaderError struct {
	Voters []Voter
	// Since is when this node last knew a leader; zero: never since it started.
	Since time.Time
}

func (e *NoLeaderError) Unwrap() error { return ErrNoLeader }

func (e *NoLeaderError) Error() string {
	var missing []string
	for _, v := range e.Voters {
		if !v.Missing {
			continue
		}
		if v.Since.IsZero() {
			missing = append(missing, v.Name+" (not heard since this node started)")
		} else {
			missing = append(missing, fmt.Sprintf("%s (since %s)", v.Name, v.Since.UTC().Format(time.RFC3339)))
		}
	}
	text := fmt.Sprintf("no leader: %d voters, %d needed", len(e.Voters), len(e.Voters)/2+1)
	if len(missing) > 0 {
		text += ", missing " + strings.Join(missing, ", ")
	}
	return text
}

// RefusedError is a refusal where the caller wants an error.
type RefusedError struct{ Refusal *clusterpb.Refusal }

func (e *RefusedError) Error() string { return e.Refusal.GetMessage() }

package cluster

import (
	"context"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
)

// strangerEvery is the time that one call of somebody who has shown nothing yet
// takes from all the others like him.
const strangerEvery = 100 * time.Millisecond

// strangers lets callers of join/1 that nobody vouches for on one after the other:
// each of them may cost a line of the log and an entry of Raft's, and anybody who
// reaches the door may call as often as he likes.
type strangers chan struct{}

func newStrangers() strangers { return make(strangers, 1) }

// Wait returns when it is the caller's turn; its error is ctx's.
func (s strangers) Wait(ctx context.Context) error {
	select {
	case s <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s }()
	select {
	case <-time.After(strangerEvery):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// knowsToken says whether this node's state has the token, whatever it is good for.
func (n *Node) knowsToken(text string) bool {
	token, err := pki.ParseClusterToken(text)
	return err == nil && n.State().TokenByHash(token.Hash()) != nil
}

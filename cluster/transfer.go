package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// TransferLeadership hands leadership to a voter that was heard a moment ago;
// "" leaves the choice to the node. One transfer runs at a time, and none is
// tried twice: two transfers to a hung node can stop a leader for good
// (hashicorp/raft#696).
func (n *Node) TransferLeadership(ctx context.Context, to string) error {
	return n.transfer(ctx, to, 0)
}

// transfer hands over to a voter with so much room on its disk.
func (n *Node) transfer(ctx context.Context, to string, room int64) error {
	e := n.engine.Load()
	if e == nil {
		return n.outside()
	}
	if e.raft.State() != raft.Leader {
		leader, _ := n.leaderOf(e)
		return fmt.Errorf("transfer leadership: %w: %s is", ErrNotLeader, quote(leader))
	}
	if !n.transferring.CompareAndSwap(false, true) {
		return errors.New("transfer leadership: a transfer is under way")
	}
	defer n.transferring.Store(false)
	server, err := n.successor(e, to, room)
	if err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	if err := e.wait(ctx, e.raft.LeadershipTransferToServer(server.ID, server.Address)); err != nil {
		return fmt.Errorf("transfer leadership to %s: %w", nodeOf(server.ID), err)
	}
	n.log.Info("leadership handed over", "to", nodeOf(server.ID))
	return nil
}

// successor is the voter that may lead next: live, and as far as anybody.
func (n *Node) successor(e *engine, to string, room int64) (raft.Server, error) {
	st, now := n.State(), time.Now()
	var best raft.Server
	var reached uint64
	for _, server := range e.raft.GetConfiguration().Configuration().Servers {
		name := nodeOf(server.ID)
		m := st.Member(name)
		if server.Suffrage != raft.Voter || name == n.cfg.Name || m == nil || to != "" && name != to {
			continue
		}
		c, ok := n.health.Of(m)
		if !ok || now.Sub(c.heard) > n.cfg.Timing.Fresh || c.report.GetDiskFreeBytes() < room {
			continue
		}
		if best.ID == "" || c.report.GetApplied() > reached {
			best, reached = server, c.report.GetApplied()
		}
	}
	switch {
	case best.ID != "":
		return best, nil
	case to != "":
		return best, fmt.Errorf("%s is no voter that was heard in the last %s", quote(to), n.cfg.Timing.Fresh)
	case room > 0:
		return best, fmt.Errorf("no other voter that was heard in the last %s has %d MiB of disk left", n.cfg.Timing.Fresh, room>>20)
	default:
		return best, fmt.Errorf("no other voter was heard in the last %s", n.cfg.Timing.Fresh)
	}
}

package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// A follower of Raft looks whether it still hears its leader at moments of its
// own, one to two heartbeat timeouts apart, and refuses another's pre-vote until
// it has looked: with a timeout of two seconds a dead leader of three is replaced
// after 3.9 s in the median. So this node has Raft look as soon as there is
// something to see. The voters do so one after the other: the first finds the
// second still faithful, the second wins, and two do not meet in one election.
const (
	suspectParts = 4  // a leader is missed a quarter of the timeout after it
	turnParts    = 10 // between two voters' turns lies a tenth of it
	lookParts    = 20 // how often a node asks itself
)

// suspectLeader has Raft look for its leader when that is silent for too long.
func (n *Node) suspectLeader(ctx context.Context, e *engine) {
	tick := time.NewTicker(max(n.cfg.Timing.Heartbeat/lookParts, time.Millisecond))
	defer tick.Stop()
	var looked time.Time // the contact after which Raft was made to look
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if e.raft.State() != raft.Follower {
			continue
		}
		_, leader := e.raft.LeaderWithID()
		turn, votes := turnOf(e.raft.GetConfiguration().Configuration(), leader, e.local)
		contact := e.raft.LastContact()
		if leader == "" || !votes || contact.Equal(looked) || time.Since(contact) < silence(n.cfg.Timing.Heartbeat, turn) {
			continue
		}
		looked = contact
		if err := e.look(); err != nil {
			n.log.Warn("look for the leader", "err", err)
		}
	}
}

// silence is how long the voter of that turn hears nothing before it looks.
func silence(heartbeat time.Duration, turn int) time.Duration {
	return heartbeat + heartbeat/suspectParts + time.Duration(turn)*heartbeat/turnParts
}

// turnOf is the node's place among the voters that do not lead, by their ids,
// and whether it is one of them.
func turnOf(c raft.Configuration, leader, local raft.ServerID) (turn int, votes bool) {
	var voters []raft.ServerID
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter && s.ID != leader {
			voters = append(voters, s.ID)
		}
	}
	slices.SortFunc(voters, func(a, b raft.ServerID) int { return strings.Compare(string(a), string(b)) })
	turn = slices.Index(voters, local)
	return max(turn, 0), turn >= 0
}

// look has Raft judge at once whether its leader is silent for longer than the
// heartbeat timeout: it does when that timeout becomes shorter. Afterwards it is
// as it was, and a follower that hears its leader has done nothing.
func (e *engine) look() error {
	was := e.raft.ReloadableConfig()
	shorter := was
	shorter.HeartbeatTimeout -= time.Millisecond
	if err := e.raft.ReloadConfig(shorter); err != nil {
		return fmt.Errorf("shorten the heartbeat timeout: %w", err)
	}
	if err := e.raft.ReloadConfig(was); err != nil {
		return fmt.Errorf("restore the heartbeat timeout: %w", err)
	}
	return nil
}

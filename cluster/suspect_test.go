package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestVotersTakeTurnsInSuspecting(t *testing.T) {
	conf := raft.Configuration{Servers: []raft.Server{
		{ID: "d/4", Suffrage: raft.Voter},
		{ID: "b/2", Suffrage: raft.Voter},
		{ID: "a/1", Suffrage: raft.Voter},
		{ID: "c/3", Suffrage: raft.Nonvoter},
	}}
	for _, c := range []struct {
		leader, local raft.ServerID
		turn          int
		votes         bool
	}{
		{"b/2", "a/1", 0, true},
		{"b/2", "d/4", 1, true},
		{"a/1", "b/2", 0, true},
		{"", "d/4", 2, true},
		{"b/2", "c/3", 0, false},
		{"b/2", "e/5", 0, false},
	} {
		if turn, votes := turnOf(conf, c.leader, c.local); turn != c.turn || votes != c.votes {
			t.Errorf("under %q the turn of %s is %d, %v, want %d, %v", c.leader, c.local, turn, votes, c.turn, c.votes)
		}
	}
	first, second := silence(2*time.Second, 0), silence(2*time.Second, 1)
	if first != 2500*time.Millisecond || second != 2700*time.Millisecond {
		t.Errorf("a leader is missed after %v and %v", first, second)
	}
}

// TestLookingForALeaderThatIsThereDoesNothing: neither the term nor what Raft
// was told changes.
func TestLookingForALeaderThatIsThereDoesNothing(t *testing.T) {
	b := newRaftBed(t, "a", "b", "c")
	b.start(time.Minute, false)
	b.elect("a", "b")
	b.apply("a", "one")
	b.until("b applied one, and is of the leader's term", func() bool { return b.nodes["b"].fsm.has("one") })
	e := &engine{raft: b.nodes["b"].raft}
	roomy := e.raft.ReloadableConfig() // the lease may not be longer than the timeout
	roomy.HeartbeatTimeout, roomy.ElectionTimeout = 2*time.Minute, 2*time.Minute
	if err := e.raft.ReloadConfig(roomy); err != nil {
		t.Fatal(err)
	}
	was, term := e.raft.ReloadableConfig(), e.raft.CurrentTerm()
	for range 20 {
		if err := e.look(); err != nil {
			t.Fatal(err)
		}
	}
	b.apply("a", "two")
	b.until("b applied two", func() bool { return b.nodes["b"].fsm.has("two") })
	if got := e.raft.ReloadableConfig(); got != was {
		t.Errorf("Raft is told %+v, was told %+v", got, was)
	}
	if got := e.raft.CurrentTerm(); got != term {
		t.Errorf("term %d, want %d", got, term)
	}
	if s := e.raft.State(); s != raft.Follower {
		t.Errorf("b is a %s now", s)
	}
}

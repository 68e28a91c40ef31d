package cluster

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestAChangeDoesNotWaitForALeaderThatHangs: the leader has logged a follower's
// change, told another node of it, and hangs before it can answer. The follower
// asks its successor, and the change is made once.
func TestAChangeDoesNotWaitForALeaderThatHangs(t *testing.T) {
	b := newBed(t)
	b.timing.Ask = time.Hour // nothing but another leader ends the call
	b.cluster(3, InitRequest{})
	b.voters(3)
	old := b.leader()
	var others []*bedNode
	for _, n := range b.nodes {
		if n != old {
			others = append(others, n)
		}
	}
	asked, next := others[0], others[1]

	// Whoever watches the state holds up all that follows.
	hung, release := atomic.Bool{}, make(chan struct{})
	old.node.OnChange(func(c Change) {
		if c.New.Tenant("one") != nil {
			hung.Store(true)
			<-release
		}
	})
	defer close(release)
	answered := make(chan error, 1)
	go func() {
		_, err := asked.node.Propose(t.Context(), putTenant("one"))
		answered <- err
	}()
	b.eventually("the leader hangs", func() string {
		if !hung.Load() {
			return "it does not"
		}
		return ""
	})
	if err := old.node.TransferLeadership(old.ctx(), next.name); err != nil {
		t.Fatal(err)
	}
	var err error
	b.eventually("the change is answered while the former leader hangs", func() string {
		select {
		case err = <-answered:
			return ""
		default:
			return "no answer"
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, e := range next.node.State().Events(0) {
		if e.GetAction() == "tenant created" {
			made++
		}
	}
	if made != 1 {
		t.Errorf("the tenant was created %d times", made)
	}
}

package cluster

import (
	"reflect"
	"sync/atomic"
	"testing"
	"time"
	mem "unsafe"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"
)

// stick makes a leader's Raft refuse every change for a transfer in progress,
// as two transfers to a hung node leave it (hashicorp/raft#696).
func stick(r *raft.Raft) {
	flag := reflect.ValueOf(r).Elem().FieldByName("leaderState").FieldByName("leadershipTransferInProgress")
	atomic.StoreInt32((*int32)(mem.Pointer(flag.UnsafeAddr())), 1) // the library has no other way in
}

func TestALeaderThatRefusesEverythingStartsRaftAnew(t *testing.T) {
	b := newBed(t)
	b.timing.Patience = time.Second
	b.cluster(3, InitRequest{})
	b.voters(3)
	leader := b.leader()
	leader.propose(putTenant("before"))
	old := leader.node.engine.Load()
	stick(old.raft)
	began := time.Now()
	// The change is held, and made once the leader has helped itself.
	leader.propose(putTenant("held"))
	if leader.node.engine.Load() == old || leader.node.restarts.Load() != 1 {
		t.Errorf("raft was started anew %d times", leader.node.restarts.Load())
	}
	if took := time.Since(began); took < b.timing.Patience {
		t.Errorf("it lost its patience after %s", took)
	}
	for _, n := range b.nodes {
		n.propose(putTenant("by-" + n.name))
		if n != leader && n.node.restarts.Load() != 0 {
			t.Errorf("%s started raft anew, too", n.name)
		}
	}
	b.agree()
}

func TestAHungDiskIsToldAndNoReasonToStop(t *testing.T) {
	b := newBed(t)
	b.timing.Patience = 300 * time.Millisecond
	n := b.cluster(1, InitRequest{})[0]
	n.propose(putTenant("before"))
	e := n.node.engine.Load()
	silent := func() float64 {
		families, err := n.node.cfg.Reg.(prometheus.Gatherer).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "muster_cluster_raft_silent_seconds" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		t.Fatal("no such metric")
		return 0
	}
	// Whoever holds the only write transaction of the log is as a disk that hangs.
	log := (*bbolt.DB)(reflect.ValueOf(e.store.logs).Elem().FieldByName("conn").UnsafePointer())
	tx, err := log.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := n.node.Propose(n.ctx(), putTenant("held"))
		answer <- err
	}()
	b.eventually("it is told", func() string {
		for _, h := range n.node.Health() {
			if h.GetReport().GetGuards().GetStalledMs() > b.timing.Patience.Milliseconds() && silent() > 0 {
				return ""
			}
		}
		return "nothing is said"
	})
	if n.node.State().Tenant("before") == nil || n.node.engine.Load() != e {
		t.Error("it stopped")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Errorf("the held change: %v", err)
	}
	b.eventually("it answers again", func() string {
		if silent() < b.timing.Patience.Seconds() {
			return ""
		}
		return "it does not"
	})
}

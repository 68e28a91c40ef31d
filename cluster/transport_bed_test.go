package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/cluster/pki"
)

// raftBed is a set of nodes, each with a door of its own on loopback.
type raftBed struct {
	t     *testing.T
	ca    *pki.CA
	nodes map[string]*raftBedNode

	mu      sync.Mutex
	members map[string][]byte // key hash by name; who is not here is refused
}

type raftBedNode struct {
	name  string
	door  *door.Door
	cred  *pki.Credentials
	trans *faultyTransport
	raft  *raft.Raft
	fsm   *history
	disk  *stallingDisk
}

func newRaftBed(t *testing.T, names ...string) *raftBed {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, ignore, goleak.IgnoreAnyFunction("github.com/muster-metrics/muster/cluster.answerOf"))
	})
	ca, err := pki.NewCA("c0ffee", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b := &raftBed{t: t, ca: ca, nodes: map[string]*raftBedNode{}, members: map[string][]byte{}}
	for _, name := range names {
		n := &raftBedNode{name: name, cred: credentialsFor(t, ca, name)}
		b.members[name] = n.cred.KeyHash()
		b.nodes[name] = n
		b.openDoor(n)
	}
	return b
}

func credentialsFor(t *testing.T, ca *pki.CA, name string) *pki.Credentials {
	t.Helper()
	dir, err := pki.OpenDir(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := dir.Key()
	if err != nil {
		t.Fatal(err)
	}
	der, err := pki.NewRequest(key, name)
	if err != nil {
		t.Fatal(err)
	}
	req, err := pki.ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Sign(req, pki.Identity{Cluster: "c0ffee", Role: pki.RoleNode, Name: name, Incarnation: 1}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.SaveBundle(ca.Bundle()); err != nil {
		t.Fatal(err)
	}
	cred, err := dir.SaveCertificate(chain)
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

// openDoor gives the node a new door, at a new port.
func (b *raftBed) openDoor(n *raftBedNode) {
	b.t.Helper()
	d := door.New(door.Config{Addresses: b.address})
	d.SetIdentity(n.cred)
	d.SetMembers(b.allowed)
	if err := d.Listen("127.0.0.1:0"); err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	n.door = d
	b.mu.Unlock()
	b.t.Cleanup(d.Close)
}

func (b *raftBed) address(name string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[name]
	if n == nil {
		return "", false
	}
	return n.door.Addr().String(), true
}

func (b *raftBed) allowed(name string, _ uint64, keyHash []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if want, ok := b.members[name]; !ok || !bytes.Equal(want, keyHash) {
		return fmt.Errorf("%s is no member", name)
	}
	return nil
}

// remove takes the node out of the committed state of everybody.
func (b *raftBed) remove(name string) {
	b.mu.Lock()
	delete(b.members, name)
	b.mu.Unlock()
	for _, n := range b.nodes {
		n.door.Recheck()
	}
}

// start runs Raft on every node. timeout is the heartbeat and election timeout
// and the leader's lease: a long one means that elections happen only where a
// test calls elect.
func (b *raftBed) start(timeout time.Duration, plain bool, nonvoters ...string) {
	b.t.Helper()
	var conf raft.Configuration
	for name := range b.nodes {
		s := raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(name)}
		for _, n := range nonvoters {
			if n == name {
				s.Suffrage = raft.Nonvoter
			}
		}
		conf.Servers = append(conf.Servers, s)
	}
	for _, n := range b.nodes {
		n.trans = &faultyTransport{transport: newTransport(n.door, n.name, nil), plain: plain}
		c := raft.DefaultConfig()
		c.LocalID = raft.ServerID(n.name)
		c.Logger = raftLogger(nil)
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = timeout, timeout, timeout
		c.ShutdownOnRemove = false
		store, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
		if err := raft.BootstrapCluster(c, store, store, snaps, n.trans, conf); err != nil {
			b.t.Fatal(err)
		}
		n.fsm = &history{commands: map[uint64]string{}}
		n.disk = &stallingDisk{LogStore: store}
		r, err := raft.NewRaft(c, n.fsm, n.disk, store, snaps, n.trans)
		if err != nil {
			b.t.Fatal(err)
		}
		n.raft = r
		b.t.Cleanup(func() {
			if err := r.Shutdown().Error(); err != nil {
				b.t.Errorf("shut raft of %s down: %v", n.name, err)
			}
		})
	}
}

// elect makes the node a leader, by telling it that its time has come.
func (b *raftBed) elect(name, by string) {
	b.t.Helper()
	messenger := b.nodes[by].trans
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(by), Addr: []byte(by)}}
	b.until(name+" leads", func() bool {
		if b.nodes[name].raft.State() == raft.Leader {
			return true
		}
		if b.nodes[name].raft.State() == raft.Follower {
			_ = messenger.TimeoutNow(raft.ServerID(name), raft.ServerAddress(name), req, &raft.TimeoutNowResponse{})
		}
		return b.nodes[name].raft.State() == raft.Leader
	})
}

func (b *raftBed) until(what string, reached func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !reached() {
		select {
		case <-ctx.Done():
			b.t.Fatalf("not reached: %s", what)
		case <-tick.C:
		}
	}
}

func (b *raftBed) apply(name, command string) {
	b.t.Helper()
	if err := b.nodes[name].raft.Apply([]byte(command), 20*time.Second).Error(); err != nil {
		b.t.Fatalf("apply %q on %s: %v", command, name, err)
	}
}

// faultyTransport is ours with cables to pull.
type faultyTransport struct {
	*transport
	plain   bool         // hands the heartbeat handler on, as the library would
	cut     sync.Map     // names that nothing gets through to
	beating sync.Map     // names that only heartbeats get through to
	beats   atomic.Int64 // heartbeats that got through
}

var errCut = errors.New("the cable is cut")

func (t *faultyTransport) SetHeartbeatHandler(handle func(raft.RPC)) {
	if t.plain {
		t.NetworkTransport.SetHeartbeatHandler(handle)
		return
	}
	t.transport.SetHeartbeatHandler(handle)
}

func (t *faultyTransport) severed(id raft.ServerID, heartbeat bool) bool {
	if _, ok := t.cut.Load(id); ok {
		return true
	}
	_, ok := t.beating.Load(id)
	return ok && !heartbeat
}

func (t *faultyTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (t *faultyTransport) AppendEntries(id raft.ServerID, a raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	heartbeat := req.PrevLogEntry == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
	if t.severed(id, heartbeat) {
		return errCut
	}
	err := t.transport.AppendEntries(id, a, req, resp)
	if heartbeat && err == nil {
		t.beats.Add(1)
	}
	return err
}

func (t *faultyTransport) RequestVote(id raft.ServerID, a raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if t.severed(id, false) {
		return errCut
	}
	return t.transport.RequestVote(id, a, req, resp)
}

func (t *faultyTransport) RequestPreVote(id raft.ServerID, a raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if t.severed(id, false) {
		return errCut
	}
	return t.transport.RequestPreVote(id, a, req, resp)
}

// stallingDisk is a disk that can stop writing, and with it its node's Raft.
type stallingDisk struct {
	raft.LogStore
	stall sync.Mutex
}

func (d *stallingDisk) StoreLogs(logs []*raft.Log) error {
	d.stall.Lock()
	defer d.stall.Unlock()
	return d.LogStore.StoreLogs(logs)
}

func (d *stallingDisk) StoreLog(log *raft.Log) error { return d.StoreLogs([]*raft.Log{log}) }

// history is a state machine that remembers what it applied at which index.
type history struct {
	mu       sync.Mutex
	commands map[uint64]string
}

func (h *history) Apply(l *raft.Log) any {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commands[l.Index] = string(l.Data)
	return nil
}

func (h *history) read() map[uint64]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.commands)
}

func (h *history) has(command string) bool {
	for _, c := range h.read() {
		if c == command {
			return true
		}
	}
	return false
}

func (h *history) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("no snapshots here") }
func (h *history) Restore(r io.ReadCloser) error       { return r.Close() }

// applyAnywhere applies a command at whoever leads.
func (b *raftBed) applyAnywhere(command string) bool {
	for _, n := range b.nodes {
		if n.raft.State() == raft.Leader && n.raft.Apply([]byte(command), time.Second).Error() == nil {
			return true
		}
	}
	return false
}

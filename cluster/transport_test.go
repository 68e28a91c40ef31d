package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
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
}

func newRaftBed(t *testing.T, names ...string) *raftBed {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
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
		r, err := raft.NewRaft(c, n.fsm, store, store, snaps, n.trans)
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

// deposeUnnoticed lets b take over from a, which hears heartbeats of b and
// nothing else, and is asked for a command then. It stands for a leader whose
// process or machine was paused. It returns the three histories and what a said.
func deposeUnnoticed(t *testing.T, plain bool) (histories []map[uint64]string, answer error) {
	b := newRaftBed(t, "a", "b", "c")
	b.start(time.Minute, plain)
	b.elect("a", "c")
	b.apply("a", "one")
	for _, name := range []string{"b", "c"} {
		b.until(name+" applied one", func() bool { return b.nodes[name].fsm.has("one") })
	}

	b.nodes["a"].trans.cut.Store(raft.ServerID("b"), true)
	b.nodes["a"].trans.cut.Store(raft.ServerID("c"), true)
	b.nodes["b"].trans.beating.Store(raft.ServerID("a"), true)
	b.nodes["c"].trans.beating.Store(raft.ServerID("a"), true)
	b.elect("b", "c")
	b.until("a hears of the new term", func() bool {
		b.nodes["b"].raft.VerifyLeader() // beats at once
		return b.nodes["a"].raft.CurrentTerm() == b.nodes["b"].raft.CurrentTerm()
	})

	last := b.nodes["a"].raft.LastIndex()
	ghost := b.nodes["a"].raft.Apply([]byte("ghost"), 20*time.Second)
	refused := make(chan error, 1)
	go func() { refused <- ghost.Error() }()
	if plain { // it has logged the command, and waits
		b.until("a logged the ghost", func() bool { return b.nodes["a"].raft.LastIndex() > last })
	} else {
		answer = <-refused
	}
	b.apply("b", "two")

	b.nodes["a"].trans.cut.Clear()
	b.nodes["b"].trans.beating.Clear()
	b.nodes["c"].trans.beating.Clear()
	b.apply("b", "three")
	for name, n := range b.nodes {
		b.until(name+" applied three", func() bool { return n.fsm.has("three") })
	}
	if plain {
		answer = <-refused
	}
	for _, name := range []string{"a", "b", "c"} {
		histories = append(histories, b.nodes[name].fsm.read())
	}
	return histories, answer
}

func TestDeposedLeaderCommitsNothing(t *testing.T) {
	histories, answer := deposeUnnoticed(t, false)
	if !errors.Is(answer, raft.ErrNotLeader) && !errors.Is(answer, raft.ErrLeadershipLost) {
		t.Errorf("the deposed leader answered %v, want that it is no leader", answer)
	}
	for _, h := range histories[1:] {
		if !maps.Equal(h, histories[0]) {
			t.Errorf("histories differ: %v", histories)
		}
	}
	for _, command := range histories[0] {
		if command == "ghost" {
			t.Errorf("a command of the deposed leader was committed: %v", histories[0])
		}
	}
}

// TestHeartbeatFastPathDiverges shows what SetHeartbeatHandler is kept from. It
// is a test of the library: when it fails, the library has been mended.
func TestHeartbeatFastPathDiverges(t *testing.T) {
	if os.Getenv("MUSTER_TEST_RAFT_FAST_PATH") == "" {
		t.Skip("shows a fault of the library; set MUSTER_TEST_RAFT_FAST_PATH=1 after an upgrade of hashicorp/raft")
	}
	histories, _ := deposeUnnoticed(t, true)
	if maps.Equal(histories[0], histories[1]) && maps.Equal(histories[0], histories[2]) {
		t.Errorf("no divergence: %v", histories)
	}
}

func TestTransportKeepsPreVote(t *testing.T) {
	b := newRaftBed(t, "a")
	var trans raft.Transport = newTransport(b.nodes["a"].door, "a", nil)
	if _, ok := trans.(raft.WithPreVote); !ok {
		t.Error("the transport hides pre-vote from Raft")
	}
	if got := trans.LocalAddr(); got != "a" {
		t.Errorf("local address %q, want the node's name", got)
	}
	if err := trans.(raft.WithClose).Close(); err != nil {
		t.Error(err)
	}
}

func TestVerifyLeaderCountsNonvotersAndBarrierDoesNot(t *testing.T) {
	b := newRaftBed(t, "a", "b", "c", "n")
	b.start(time.Minute, false, "n")
	b.elect("a", "b")
	b.apply("a", "one")
	b.until("n applied one", func() bool { return b.nodes["n"].fsm.has("one") })

	leader := b.nodes["a"]
	leader.trans.cut.Store(raft.ServerID("b"), true)
	leader.trans.cut.Store(raft.ServerID("c"), true)
	if err := leader.raft.VerifyLeader().Error(); err != nil {
		t.Errorf("VerifyLeader = %v: the library has changed, it used to count the non-voter", err)
	}
	// The timeout of Barrier is for entering the queue: give its future a bound.
	barrier := make(chan error, 1)
	future := leader.raft.Barrier(time.Second)
	go func() { barrier <- future.Error() }()
	beats := leader.trans.beats.Load()
	b.until("three more heartbeats of the non-voter", func() bool {
		leader.raft.VerifyLeader()
		return leader.trans.beats.Load() >= beats+3
	})
	select {
	case err := <-barrier:
		t.Errorf("Barrier returned %v without a quorum of voters", err)
	default:
	}
	leader.trans.cut.Clear()
	if err := <-barrier; err != nil && !errors.Is(err, raft.ErrLeadershipLost) {
		t.Errorf("Barrier with the voters back: %v", err)
	}
}

func TestRaftFollowsANodeToItsNewAddress(t *testing.T) {
	b := newRaftBed(t, "a", "b", "c")
	b.start(time.Minute, false)
	b.elect("a", "b")
	b.apply("a", "one")

	// c's port is gone; its Raft goes on with another door.
	c := b.nodes["c"]
	if err := c.raft.Shutdown().Error(); err != nil {
		t.Fatal(err)
	}
	c.door.Close()
	b.openDoor(c)
	trans := newTransport(c.door, "c", nil)
	t.Cleanup(func() { _ = trans.Close() })
	served := make(chan struct{})
	go func() {
		defer close(served)
		rpc := <-trans.Consumer()
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	}()
	b.until("the leader reaches c at its new address", func() bool {
		b.nodes["a"].raft.VerifyLeader()
		select {
		case <-served:
			return true
		default:
			return false
		}
	})
}

func TestRemovedNodeIsHeardNoMore(t *testing.T) {
	b := newRaftBed(t, "a", "b", "c")
	b.start(time.Minute, false)
	b.elect("a", "b")
	b.apply("a", "one")
	b.until("c applied one", func() bool { return b.nodes["c"].fsm.has("one") })

	b.remove("c")
	term := b.nodes["a"].raft.CurrentTerm()
	vote := &raft.RequestVoteRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("c"), Addr: []byte("c")},
		Term:      term + 5, LastLogIndex: 1 << 20, LastLogTerm: term + 4, LeadershipTransfer: true,
	}
	if err := b.nodes["c"].trans.RequestVote("a", "a", vote, &raft.RequestVoteResponse{}); err == nil {
		t.Error("a removed node was asked for its opinion")
	}
	b.apply("a", "two")
	if got := b.nodes["a"].raft.CurrentTerm(); got != term {
		t.Errorf("term %d, want %d: a removed node raised it", got, term)
	}
	if b.nodes["c"].fsm.has("two") {
		t.Error("a removed node was told a new command")
	}
}

func TestRaftStartsAgainOnTheSameDoor(t *testing.T) {
	b := newRaftBed(t, "a", "b")
	for range 2 {
		b.start(time.Minute, false)
		b.elect("a", "b")
		b.apply("a", "one")
		b.until("b applied one", func() bool { return b.nodes["b"].fsm.has("one") })
		for _, n := range b.nodes {
			if err := n.raft.Shutdown().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestTransportRefusesAnImpostor(t *testing.T) {
	b := newRaftBed(t, "a", "b", "c")
	b.start(time.Minute, false)
	b.mu.Lock()
	b.nodes["b"], b.nodes["c"] = b.nodes["c"], b.nodes["b"] // c answers where b is looked for
	b.mu.Unlock()
	s := stream{Listener: b.nodes["a"].door.Listener(door.ProtocolRaft), door: b.nodes["a"].door, name: "a"}
	conn, err := s.Dial("b", 10*time.Second)
	if err == nil {
		_ = conn.Close()
		t.Fatal("c passed for b")
	}
	if !strings.Contains(err.Error(), "it is c, want b") {
		t.Errorf("error %q does not say who answered", err)
	}
	var _ net.Listener = s
}

func TestRaftLogSpeaksSlog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	logger := raftLogger(log)
	logger.Named("raft").Warn("heartbeat failed", "peer", raft.ServerID("n2"), "odd")
	logger.Debug("for developers")
	if got := out.String(); !strings.Contains(got, `level=WARN msg="raft: heartbeat failed" peer=n2`) || strings.Contains(got, "developers") {
		t.Errorf("log: %s", got)
	}
	raftLogger(nil).Error("into the void")
}

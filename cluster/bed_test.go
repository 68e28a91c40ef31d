package cluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// testTiming is fast enough for a test and slow enough for two busy cores.
var testTiming = Timing{
	Heartbeat: 400 * time.Millisecond, Election: 400 * time.Millisecond, Lease: 300 * time.Millisecond,
	Report: 100 * time.Millisecond, Round: 100 * time.Millisecond, Fresh: 1500 * time.Millisecond,
	Stable: 200 * time.Millisecond, Spare: 5 * time.Second, Batch: 100 * time.Millisecond,
	Ask: 30 * time.Second,
}

const patience = 60 * time.Second

// bed is a cluster of real nodes, each with its own address, door and disk.
type bed struct {
	t     *testing.T
	net   byte // third byte of the addresses: beds do not meet
	nodes []*bedNode
	// timing is that of nodes to come.
	timing Timing
	// adjust changes the i-th node before it is opened.
	adjust func(n *Node, i int)
	// skew is how far the clocks of nodes are ahead.
	skew map[string]time.Duration
}

// bedNode is one node, through its restarts.
type bedNode struct {
	bed     *bed
	name    string
	zone    string
	dir     string
	address string
	store   [16]byte
	timing  Timing
	hint    string

	node *Node
	door *door.Door
	grpc *grpc.Server
	run  chan struct{}
	// last is the newest revision that a watcher has heard of, before a stop too.
	last      atomic.Uint64
	backwards atomic.Bool
}

var beds atomic.Uint32

// TestMain looks for goroutines that are left when all beds are gone: they run
// beside each other, since most of their time is waiting.
func TestMain(m *testing.M) {
	// Raft leaves a future unanswered where it is shut down at the wrong moment.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/muster-metrics/muster/cluster.answerOf"))
}

func newBed(t *testing.T) *bed {
	t.Helper()
	t.Parallel()
	t.TempDir() // so that it is removed after the nodes are stopped
	b := &bed{t: t, net: byte(beds.Add(1)), timing: testTiming}
	t.Cleanup(func() {
		for _, n := range b.nodes {
			n.stop()
			if n.backwards.Load() {
				t.Errorf("%s: a watcher saw the state go backwards", n.name)
			}
		}
	})
	return b
}

// add makes a node that belongs to no cluster and starts it.
func (b *bed) add(name string) *bedNode {
	b.t.Helper()
	n := &bedNode{
		bed: b, name: name, dir: filepath.Join(b.t.TempDir(), name), timing: b.timing,
		address: fmt.Sprintf("127.41.%d.%d:0", b.net, len(b.nodes)+1),
	}
	if _, err := rand.Read(n.store[:]); err != nil {
		b.t.Fatal(err)
	}
	b.nodes = append(b.nodes, n)
	n.start()
	return n
}

// start opens the node, at the address that it had.
func (n *bedNode) start() {
	n.bed.t.Helper()
	if err := n.tryStart(); err != nil {
		n.bed.t.Fatalf("start %s: %v", n.name, err)
	}
}

func (n *bedNode) tryStart() error {
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("MUSTER_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("on", n.name)
	}
	var node atomic.Pointer[Node]
	n.door = door.New(door.Config{Log: log, Addresses: func(name string) (string, bool) {
		if x := node.Load(); x != nil {
			return x.AddressOf(name)
		}
		return "", false
	}})
	if err := n.door.Listen(n.address); err != nil {
		return err
	}
	n.address = n.door.Addr().String()
	var err error
	n.node, err = New(Config{
		Dir: n.dir, Name: n.name, Zone: n.zone, Advertise: func() string { return n.address },
		StoreID: n.store, Door: n.door, Log: log, Version: "test", Ballast: 1 << 20, Timing: n.timing, Hint: n.hint,
		Clock: func() time.Time { return time.Now().Add(n.bed.skew[n.name]) },
	})
	if err != nil {
		return err
	}
	node.Store(n.node)
	if n.bed.adjust != nil {
		n.bed.adjust(n.node, slices.Index(n.bed.nodes, n))
	}
	served := n.last.Swap(0)
	n.node.OnChange(func(c Change) {
		if n.node.fsm.Doubted() != "" && c.New.Revision() == n.last.Load() {
			return // a state found wrong is replaced by another of its revision
		}
		if c.New.Revision() <= n.last.Swap(c.New.Revision()) || n.node.fsm.Applied() >= c.New.Revision() {
			n.backwards.Store(true)
		}
	})
	err = n.node.Open(n.bed.t.Context())
	if err != nil {
		_ = n.node.Close()
		n.door.Close()
		n.node = nil
		return err
	}
	if st := n.node.State(); st.Revision() < served {
		n.bed.t.Errorf("%s has served by revision %d and comes back at %d", n.name, served, st.Revision())
	}
	n.grpc = grpc.NewServer(n.door.ServerOptions()...)
	n.node.RegisterControl(n.grpc)
	n.run = make(chan struct{})
	go func() {
		defer close(n.run)
		_ = n.grpc.Serve(n.door.Listener(door.ProtocolGRPC))
	}()
	return nil
}

// stop is as hard as a process can be to itself: nothing is handed over.
func (n *bedNode) stop() {
	n.bed.t.Helper()
	if n.node == nil {
		return
	}
	if err := n.node.Close(); err != nil {
		n.bed.t.Errorf("close %s: %v", n.name, err)
	}
	n.grpc.Stop()
	n.door.Close()
	<-n.run
	n.node = nil
}

func (n *bedNode) restart() {
	n.bed.t.Helper()
	n.stop()
	n.start()
}

func (n *bedNode) ctx() context.Context {
	ctx, cancel := context.WithTimeout(n.bed.t.Context(), patience)
	n.bed.t.Cleanup(cancel)
	return ctx
}

// init makes the node the first of a cluster.
func (n *bedNode) init(r InitRequest) *InitResult {
	n.bed.t.Helper()
	res, err := n.node.Init(n.ctx(), r)
	if err != nil {
		n.bed.t.Fatalf("init on %s: %v", n.name, err)
	}
	return res
}

func (n *bedNode) join(token string, via *bedNode) {
	n.bed.t.Helper()
	if err := n.node.Join(n.ctx(), JoinRequest{Token: token, Address: via.address}); err != nil {
		n.bed.t.Fatalf("join of %s: %v", n.name, err)
	}
	if st := n.node.State(); !n.node.isActive() {
		n.bed.t.Fatalf("%s has joined and is not active: %v", n.name, st.Member(n.name))
	}
}

// propose makes a change that must not be refused.
func (n *bedNode) propose(cmd *clusterpb.Command) *clusterpb.ProposeResponse {
	n.bed.t.Helper()
	answer, err := n.node.Propose(n.ctx(), cmd)
	if err != nil {
		n.bed.t.Fatalf("propose on %s: %v", n.name, err)
	}
	if r := answer.GetRefusal(); r != nil {
		n.bed.t.Fatalf("propose on %s: refused: %s", n.name, r.GetMessage())
	}
	return answer
}

func putTenant(id string) *clusterpb.Command {
	return &clusterpb.Command{Change: &clusterpb.Command_PutTenant{PutTenant: &clusterpb.PutTenant{Id: id}}}
}

// reaches makes changes until the answer to one names these nodes as those that
// have applied it: a leader that has just begun has not heard of all yet.
func (n *bedNode) reaches(names ...string) {
	n.bed.t.Helper()
	try := 0
	n.bed.eventually(fmt.Sprintf("a change on %s reaches %v", n.name, names), func() string {
		try++
		id := fmt.Sprintf("reach-%s-%d", n.name, try)
		answer := n.propose(putTenant(id))
		for _, other := range n.bed.running() {
			if slices.Contains(answer.GetApplied(), other.name) && other.node.State().Tenant(id) == nil {
				n.bed.t.Errorf("%s does not know %s, though the answer says so", other.name, id)
			}
		}
		if slices.Equal(answer.GetApplied(), names) {
			return ""
		}
		return fmt.Sprintf("applied by %v, pending %v", answer.GetApplied(), answer.GetPending())
	})
}

// cluster makes a cluster of n nodes, n1 and so on, all active.
func (b *bed) cluster(n int, r InitRequest) []*bedNode {
	b.t.Helper()
	if r.JoinTokens == 0 {
		r.JoinTokens = n
	}
	if r.Slots == 0 {
		r.Slots = 64
	}
	first := b.add("n1")
	tokens := first.init(r).JoinTokens
	for i := 1; i < n; i++ {
		b.add(fmt.Sprintf("n%d", i+1)).join(tokens[i-1], first)
	}
	return b.nodes
}

// eventually polls until f answers "", which is what is still wrong otherwise.
func (b *bed) eventually(what string, f func() string) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		wrong := f()
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not so after %s: %s", what, patience, wrong)
		}
		<-tick.C
	}
}

// running are the nodes that are not stopped.
func (b *bed) running() []*bedNode {
	return slices.DeleteFunc(slices.Clone(b.nodes), func(n *bedNode) bool { return n.node == nil })
}

// agree waits until all running nodes have one state.
func (b *bed) agree() {
	b.t.Helper()
	b.eventually("all nodes have one state", func() string {
		var lines []string
		same := true
		var first *State
		for _, n := range b.running() {
			st := n.node.State()
			if first == nil {
				first = st
			}
			same = same && st.Revision() == first.Revision() && st.Hash() == first.Hash() && st.Revision() > 0
			lines = append(lines, fmt.Sprintf("%s at %d (%x)", n.name, st.Revision(), st.Hash()))
		}
		if same {
			return ""
		}
		return strings.Join(lines, ", ")
	})
}

// leader waits until a running node leads, and all others know it.
func (b *bed) leader() *bedNode {
	b.t.Helper()
	var leader *bedNode
	b.eventually("a leader that all know", func() string {
		leader = nil
		name := ""
		for i, n := range b.running() {
			l, _ := n.node.Leader()
			if l == "" || i > 0 && l != name {
				return fmt.Sprintf("%s says %q, others %q", n.name, l, name)
			}
			name = l
		}
		for _, n := range b.running() {
			if n.name == name && n.node.engine.Load().raft.State().String() == "Leader" {
				leader = n
				return ""
			}
		}
		return name + " does not lead"
	})
	return leader
}

// voters waits until so many nodes have a vote, as the log of every node says: a
// leader may know of a vote that its successors have not heard of.
func (b *bed) voters(want int) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("%d voters", want), func() string {
		for _, n := range b.running() {
			e := n.node.engine.Load()
			if e == nil {
				return n.name + " has stopped"
			}
			have := 0
			servers := e.raft.GetConfiguration().Configuration().Servers
			for _, s := range servers {
				if s.Suffrage == 0 {
					have++
				}
			}
			if have != want {
				return fmt.Sprintf("on %s %d of %d servers vote", n.name, have, len(servers))
			}
		}
		return ""
	})
}

// settled waits until each slot of each ring has as many replicas as it should,
// evenly spread, and no epoch is open.
func (b *bed) settled() {
	b.t.Helper()
	b.eventually("every slot has its replicas", func() string {
		st := b.running()[0].node.State()
		for _, r := range st.Rings() {
			nodes := st.Eligible(r)
			want := min(r.RF(), len(nodes))
			for i := range r.Table.Slots() {
				if got := r.Table.At(i).Replicas.Len(); got != want {
					return fmt.Sprintf("ring %s slot %d has %d replicas, want %d", r.Spec.GetName(), i, got, want)
				}
			}
			if open := r.Table.Open(); len(open) > 0 {
				return fmt.Sprintf("ring %s has %d open epochs", r.Spec.GetName(), len(open))
			}
			held := r.Table.Held()
			for _, node := range nodes {
				fair := r.Table.Slots() * want / len(nodes)
				if got := held[node.Store]; got < fair || got > fair+1 {
					return fmt.Sprintf("ring %s store %d holds %d slots, want %d or one more", r.Spec.GetName(), node.Store, got, fair)
				}
			}
		}
		return ""
	})
}

// copyDir copies a data directory as a crash at this moment would leave it.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func storeID(n uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

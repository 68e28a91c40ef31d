package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Node is this process' place in the cluster: the state that the members agree
// on, Raft beneath it, and the member door's control and join services.
//
//	New ── Open ─┬─ belongs to no cluster ──── Init or Join ─┐
//	             └─ has a certificate: serves its state at ──┴─ Run ── Close
//	                once, leader or not
type Node struct {
	cfg Config
	log *slog.Logger

	ctx   context.Context // the node's life, from New to Close
	end   context.CancelFunc
	crew  crew
	once  sync.Once
	close error

	pki       *pki.Dir
	fsm       *fsm
	health    *health
	demand    *demand
	view      view
	sightings sightings
	peers     *peers
	hints     hints
	standing  standing
	barrier   *barrier
	planned   *planned
	pace      *pace // the leader's loop's
	// moving says that the last look at the rings found slots to move; the leader's loop alone uses it.
	moving   bool
	disk     *disk
	schedule *schedule

	reporting bell // something to tell the leader
	rounds    bell // something for the leader to do

	// forming serialises Init, Join and Close.
	forming sync.Mutex
	engine  atomic.Pointer[engine]
	joins   *grpc.Server

	// renewing serialises what is done to certificate, CAs and the CA's key.
	renewing sync.Mutex
	renewed  time.Time // keepCredentials' own: when it last tried
	trust    bell      // what this node believes or shows may have to change
	late     latecomers
	// strangers are callers that nobody vouches for.
	strangers strangers
	// caKey is the CA whose key this node has; nil: none.
	caKey atomic.Pointer[pki.Fingerprint]

	metrics      *metrics
	transferring atomic.Bool
	yielding     spell
	restarts     atomic.Int64 // of Raft in this process, by the watchdog
	pulse        pulse
	// diverged is what the leader last said of this node's state.
	diverged atomic.Pointer[string]
	failed   atomic.Pointer[lastTransfer]
	// routed says that no past route of a tenant is open, as far as a leader
	// has looked; a ring that changes ends that.
	routed atomic.Bool
	// process is a random number of this Node, told in its reports.
	process    uint64
	collectors []prometheus.Collector
}

// New keeps cfg; nothing runs and nothing is read.
func New(cfg Config) (*Node, error) {
	switch {
	case cfg.Dir == "":
		return nil, errors.New("cluster: no data directory")
	case !ValidName(cfg.Name):
		return nil, fmt.Errorf("node name %s: want letters, digits, '.', '_' or '-', at most 63, beginning with a letter or a digit", quote(cfg.Name))
	case cfg.Door == nil:
		return nil, errors.New("cluster: no member door")
	case cfg.Advertise == nil:
		return nil, errors.New("cluster: no address to advertise")
	case cfg.StoreID == [16]byte{}:
		return nil, errors.New("cluster: no store id")
	}
	n := &Node{
		cfg:       cfg.withDefaults(),
		reporting: newBell(),
		rounds:    newBell(),
		trust:     newBell(),
		planned:   newPlanned(),
		strangers: newStrangers(),
		process:   rand.Uint64() | 1, // 0 is no process
	}
	n.log = n.cfg.Log
	n.ctx, n.end = context.WithCancel(context.Background())
	n.fsm = newFSM(n.ctx, n.log, n.stirred)
	n.health = newHealth(n.cfg.Timing.Fresh)
	n.demand = newDemand(n.cfg.Timing)
	n.pace = newPace(n.cfg.Timing.Batch)
	n.barrier = &barrier{run: n.barrierOnce, spawn: n.crew.Go}
	n.disk = newDisk(n.raftDir(), n.cfg.Ballast)
	n.peers = openPeers(n.raftPath("peers.json"))
	n.standing.path = n.raftPath("dismissed.json")
	n.hints.Add(n.cfg.Hint)
	n.sightings.Load(n.raftPath("seen.json"))
	n.schedule = n.takesSnapshots()
	n.fsm.Watch(n.follow)
	n.fsm.Watch(n.logChange)
	if err := n.register(); err != nil {
		n.end()
		return nil, err
	}
	return n, nil
}

func (n *Node) raftDir() string             { return filepath.Join(n.cfg.Dir, "raft") }
func (n *Node) raftPath(name string) string { return filepath.Join(n.raftDir(), name) }

// stirred is called whenever the state has moved.
func (n *Node) stirred() {
	n.reporting.Ring()
	n.rounds.Ring()
}

// Open serves the state that this node had when it stopped, if it belongs to a
// cluster, and begins to take part. It waits for no leader and no other node.
func (n *Node) Open(ctx context.Context) error {
	n.forming.Lock()
	defer n.forming.Unlock()
	var err error
	if n.pki, err = pki.OpenDir(filepath.Join(n.cfg.Dir, "pki")); err != nil {
		return err
	}
	if _, err := n.pki.Key(); err != nil {
		return fmt.Errorf("this node's key: %w", err)
	}
	if err := n.standing.Load(); err != nil {
		return err
	}
	if err := n.Standing(); err != nil {
		n.log.Error("this node takes no part any more: " + err.Error())
	}
	n.cfg.Door.SetMembers(n.authorize)
	creds, err := n.pki.Credentials()
	switch {
	case errors.Is(err, pki.ErrAbsent):
		err = n.resumeInit(ctx)
	case err != nil:
		err = fmt.Errorf("this node's certificate: %w", err)
	case creds.Identity.Name != n.cfg.Name:
		err = fmt.Errorf("this data directory is node %s of cluster %s, not %s: start it with --node-name %s",
			creds.Identity.Name, creds.Identity.Cluster, n.cfg.Name, creds.Identity.Name)
	default:
		err = n.begin(creds)
	}
	if err != nil {
		return err
	}
	n.serveJoins()
	n.crew.Go(func() { n.schedule.Run(n.ctx) })
	n.crew.Go(n.keepCredentials)
	return nil
}

// begin takes this node's place in its cluster.
func (n *Node) begin(creds *pki.Credentials) error {
	e, err := n.startEngine()
	if err != nil {
		return err
	}
	n.takePlace(e, creds)
	return nil
}

// Run blocks until ctx ends or the node is closed. A leader that ends hands
// over, so that its cluster need not wait for an election.
func (n *Node) Run(ctx context.Context) error {
	select {
	case <-n.ctx.Done():
		return nil
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*n.cfg.Timing.Election)
	defer cancel()
	if err := n.TransferLeadership(ctx, ""); err != nil && !errors.Is(err, ErrNotLeader) {
		n.log.Info("leadership not handed over", "err", err)
	}
	return nil
}

// Close ends what Open began, hard: nothing is handed over. It may be called
// twice, and does not close the door.
func (n *Node) Close() error {
	n.once.Do(func() {
		n.end()
		n.forming.Lock()
		if n.joins != nil {
			n.joins.Stop()
		}
		if e := n.engine.Swap(nil); e != nil {
			n.close = e.Close()
		}
		n.forming.Unlock()
		n.crew.Dismiss()
		n.unregister()
	})
	return n.close
}

// State is the control state at this node's revision. It is never nil and never
// goes backwards; whoever needs the newest calls Barrier first.
func (n *Node) State() *State { return n.fsm.State() }

// OnChange calls f for each change, in order, before the node counts the
// revision as applied; and at once with the state that there is. f must return
// soon and not call Propose, Barrier or OnChange.
func (n *Node) OnChange(f func(Change)) { n.fsm.Watch(f) }

// credentials are what this node shows; nil without a cluster.
func (n *Node) credentials() *pki.Credentials { return n.cfg.Door.Credentials() }

// follow is the node's own watcher: it keeps what follows from the members.
func (n *Node) follow(c Change) {
	if c.Keys.Rings {
		n.routed.Store(false) // tenants may have moved with it
	}
	if c.Old.Cluster() == nil || !bytes.Equal(c.Old.Cluster().GetCaCertificates(), c.New.Cluster().GetCaCertificates()) {
		n.trust.Ring()
	}
	if !c.Keys.Members || c.New.Cluster() == nil {
		return
	}
	n.sightings.Keep(func(name string) bool { return c.New.Member(name) != nil })
	if err := n.peers.Follow(c.New.Members()); err != nil {
		n.log.Warn("list of peers not kept", "err", err)
	}
	n.judgeSelf(c.New)
	// The door asks the state, which is published already.
	n.cfg.Door.Recheck()
}

// RegisterControl registers the control service on the member door's gRPC
// server.
func (n *Node) RegisterControl(s grpc.ServiceRegistrar) {
	clusterpb.RegisterControlServer(s, &control{node: n})
}

// serveJoins serves join/1, as long as the door does.
func (n *Node) serveJoins() {
	n.joins = grpc.NewServer(n.cfg.Door.JoinServerOptions()...)
	clusterpb.RegisterJoinServer(n.joins, &admission{node: n})
	listener := n.cfg.Door.Listener(door.ProtocolJoin)
	n.crew.Go(func() {
		if err := n.joins.Serve(listener); err != nil && n.ctx.Err() == nil {
			n.log.Warn("join service ended", "err", err)
		}
	})
}

package fencing

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// Config of a run.
type Config struct {
	Binary string // path of muster
	Dir    string // data folders and logs go below it
	Nodes  int
	Factor int // the replication factor; 0: 3
	Seed   uint64
	// Hold is how much longer than it must be a fault lasts, so that all nodes are
	// asked meanwhile.
	Hold time.Duration
	// Say hears what happens; nil: nobody does.
	Say func(format string, args ...any)
}

// Scene is a cluster of processes to which stories happen, one after the other.
type Scene struct {
	cfg   Config
	fleet *fleet.Fleet
	rng   *rand.Rand
	told  int
}

// Open starts the cluster.
func Open(ctx context.Context, cfg Config) (*Scene, error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	if cfg.Factor == 0 {
		cfg.Factor = 3
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	f, err := fleet.Start(ctx, fleet.Config{
		Binary: cfg.Binary, Dir: cfg.Dir, Nodes: cfg.Nodes, Factor: cfg.Factor, Wired: true,
		Network: fmt.Sprintf("127.%d.%d", 20+rand.IntN(200), rand.IntN(250)),
		Args:    []string{"--grpc.tls", "off"}, // each store is asked by itself
	})
	if err != nil {
		return nil, fmt.Errorf("start the fleet: %w", err)
	}
	return &Scene{cfg: cfg, fleet: f, rng: rand.New(rand.NewPCG(cfg.Seed, 4))}, nil
}

// Close ends the processes.
func (s *Scene) Close() {
	for _, n := range s.fleet.Nodes {
		n.Thaw()
	}
	s.fleet.Stop()
}

// Logs are the files that the nodes log to.
func (s *Scene) Logs() []string {
	var files []string
	for _, n := range s.fleet.Nodes {
		files = append(files, n.LogFile())
	}
	return files
}

// act is one story while it happens.
type act struct {
	*Scene
	ledger  *ledger
	load    *load
	readers *readers
	before  table
	// leader, voters and others are the nodes by their part in Raft when the story
	// begins; the leader is not among the voters.
	leader         *fleet.Node
	voters, others []*fleet.Node
	weights        map[string]bool // that are not the usual ones
	excluded       bool            // the ring may not use every node
	// leaver, where it is not nil, is neither written to nor asked.
	leaver *fleet.Node

	running  sync.WaitGroup
	stopLoad context.CancelFunc

	mu        sync.Mutex
	witness   *fleet.Node // who is asked for the table
	chronicle chronicle
	stale     float64            // verdicts of fences, counted so far
	counters  map[string]float64 // by node, as read last
}

// begin waits for a calm cluster and looks who is who.
func (s *Scene) begin(ctx context.Context) (*act, error) {
	if err := s.fleet.Settle(ctx); err != nil {
		return nil, err
	}
	a := &act{Scene: s, ledger: &ledger{}, chronicle: chronicle{}, weights: map[string]bool{}, counters: map[string]float64{}}
	all, err := membersOf(ctx, s.fleet.Nodes[0])
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		switch n := s.node(m.Name); {
		case n == nil:
			return nil, fmt.Errorf("%s is no process of this fleet", m.Name)
		case m.Role == "leader":
			a.leader = n
		case m.Role == "voter":
			a.voters = append(a.voters, n)
		default:
			a.others = append(a.others, n)
		}
	}
	if a.leader == nil {
		return nil, errors.New("a settled cluster has no leader")
	}
	s.rng.Shuffle(len(a.voters), func(i, j int) { a.voters[i], a.voters[j] = a.voters[j], a.voters[i] })
	s.rng.Shuffle(len(a.others), func(i, j int) { a.others[i], a.others[j] = a.others[j], a.others[i] })
	a.witness = a.leader
	return a, a.await(ctx, "all epochs are closed", func(t table) bool {
		a.before = t
		return t.OpenEpochs == 0 && t.Moving == 0
	})
}

func (s *Scene) node(name string) *fleet.Node {
	for _, n := range s.fleet.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// patience bounds every wait of a story.
const patience = 90 * time.Second

// await looks at the table until ok likes it.
func (a *act) await(ctx context.Context, what string, ok func(table) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		t, err := a.look(ctx)
		if err == nil && ok(t) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for: %s; the last look at the table: %d moving, %d epochs open, waiting for %v (%w)",
				what, t.Moving, t.OpenEpochs, t.WaitingFor, errors.Join(err, ctx.Err()))
		case <-time.After(lookPace):
		}
	}
}

const lookPace = 150 * time.Millisecond

// look asks the witness for the table and notes it in the chronicle.
func (a *act) look(ctx context.Context) (table, error) {
	a.mu.Lock()
	n := a.witness
	a.mu.Unlock()
	began := time.Now()
	t, err := tableOf(ctx, n)
	if err != nil {
		return t, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.load != nil && n == a.witness {
		a.chronicle.note(a.load.slots(), t, began, time.Now())
	}
	return t, nil
}

func (a *act) ask(n *fleet.Node) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.witness = n
}

// start writes to every node, asks every node, and watches the slots.
func (a *act) start(ctx context.Context, metric string, watched []int) error {
	all := make([]series, 0, len(watched))
	for _, n := range watched {
		s, err := seriesIn(metric, n, len(a.before.Slots))
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	a.load = newLoad(metric, all, a.ledger)
	a.readers = newReaders(a.load)
	for i := 0; ; i++ { // the first write creates the tenant, and may lose a race for that
		p := a.load.one(ctx, a.leader, -1)
		if p.acked() {
			break
		}
		if i == 50 || ctx.Err() != nil {
			return fmt.Errorf("the first write is refused: %d %s", p.status, p.says)
		}
		<-time.After(100 * time.Millisecond)
	}
	a.ledger.mu.Lock()
	a.ledger.posts = nil // it was no part of the story
	a.ledger.mu.Unlock()
	a.countStale(ctx)
	a.mu.Lock()
	a.stale = 0
	a.mu.Unlock()
	ctx, a.stopLoad = context.WithCancel(ctx)
	for i, n := range a.fleet.Nodes {
		if n != a.leaver {
			a.running.Go(func() { a.load.through(ctx, n, 5*i) })
			a.running.Go(func() { a.readers.ask(ctx, n) })
		}
	}
	a.running.Go(func() {
		for ctx.Err() == nil {
			_, _ = a.look(ctx) // a witness that does not answer has nothing to tell
			select {
			case <-ctx.Done():
			case <-time.After(lookPace):
			}
		}
	})
	return nil
}

// lull lets the load go on for a while.
func (a *act) lull(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// countStale adds up the verdicts of the fences of all nodes that answer.
func (a *act) countStale(ctx context.Context) {
	for _, n := range a.fleet.Nodes {
		v, err := staleOf(ctx, n)
		if err != nil {
			continue
		}
		a.mu.Lock()
		if v < a.counters[n.Name] { // it has started anew
			a.counters[n.Name] = 0
		}
		a.stale += v - a.counters[n.Name]
		a.counters[n.Name] = v
		a.mu.Unlock()
	}
}

// staleOf is how many series and shares a node's fence has called stale.
func staleOf(ctx context.Context, n *fleet.Node) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	sum := 0.0
	err := n.Metrics(ctx, func(name string, v float64) {
		if name == "muster_ingest_stale_series_total" || name == `muster_ingest_shares_refused_total{reason="stale"}` {
			sum += v
		}
	})
	return sum, err
}

// cli runs a command on the leader of the beginning, again where it is not
// leading any more and nobody else is yet.
func (a *act) cli(ctx context.Context, args ...string) error {
	for {
		_, err := a.leader.CLI(ctx, args...)
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "no leader") {
			return err
		}
		<-time.After(300 * time.Millisecond)
	}
}

// end gives every node its usual weight and its place in the ring again, waits for a calm cluster, and
// stops the load.
func (a *act) end(ctx context.Context) error {
	if a.excluded {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := a.spread(ctx, ""); err != nil {
			return err
		}
	}
	for name, other := range a.weights {
		if other {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			if err := a.weigh(ctx, a.node(name), usual); err != nil {
				return err
			}
		}
	}
	if err := a.fleet.Settle(ctx); err != nil {
		return err
	}
	a.ask(a.leader)
	if err := a.await(ctx, "all epochs are closed", func(t table) bool { return t.OpenEpochs == 0 && t.Moving == 0 }); err != nil {
		return err
	}
	a.countStale(ctx)
	a.stopLoad()
	a.running.Wait()
	return nil
}

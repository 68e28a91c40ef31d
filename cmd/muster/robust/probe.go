package robust

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
	"github.com/muster-metrics/muster/cmd/muster/load"
)

// probe looks at the nodes again and again: it aims the load at those that are
// ready, as a load balancer does, and remembers what their metrics say.
type probe struct {
	load   *load.Load
	say    func(string, ...any)
	moving atomic.Int64 // slots, as was heard last

	mu       sync.Mutex
	nodes    []*fleet.Node
	leaver   string
	since    time.Time          // when its removal was asked
	readings map[string]reading // those of nodes that are gone stay
	head     int64              // the most since begin
	aimed    string
}

// reading is what one node says, or all of them together.
type reading struct {
	head   int64
	cpu    time.Duration
	counts map[string]float64
}

// counted are the metrics that tell what a change costs, by how a report calls
// them; a metric's labels are part of its name here.
var counted = map[string]string{
	`muster_ingest_shares_refused_total{reason="stale"}`:                     "stale shares",
	`muster_ingest_shares_refused_total{reason="behind"}`:                    "behind shares",
	`muster_ingest_stale_series_total`:                                       "stale series",
	`muster_ingest_rerouted_series_total`:                                    "rerouted series",
	`muster_ingest_peer_missed_samples_total{outcome="sent"}`:                "missed, sent later",
	`muster_ingest_peer_missed_samples_total{outcome="dropped"}`:             "missed, dropped",
	`muster_ingest_waits_seconds_count{for="revision"}`:                      "waits for a revision",
	`muster_ingest_waits_seconds_sum{for="revision"}`:                        "waited for a revision (s)",
	`muster_ingest_waits_seconds_count{for="reroute"}`:                       "waits for a newer table",
	`muster_ingest_waits_seconds_sum{for="reroute"}`:                         "waited for a newer table (s)",
	`thanos_receive_forward_requests_total{result="error"}`:                  "forwards failed",
	`muster_ingest_shares_sent_total`:                                        "shares sent",
	`prometheus_tsdb_head_out_of_order_samples_appended_total{type="float"}`: "out of order",
}

func newProbe(l *load.Load, nodes []*fleet.Node, say func(string, ...any)) *probe {
	return &probe{load: l, say: say, nodes: slices.Clone(nodes), readings: map[string]reading{}}
}

// reach replaces the nodes that are looked at.
func (p *probe) reach(nodes []*fleet.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, r := range p.readings {
		if !slices.ContainsFunc(nodes, func(n *fleet.Node) bool { return n.Name == name }) {
			r.head = 0
			p.readings[name] = r
		}
	}
	p.nodes = slices.Clone(nodes)
}

// leaves says that the removal of a node is asked.
func (p *probe) leaves(n *fleet.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaver, p.since = n.Name, time.Now()
}

// wasLeaving says whether the answer is of the node whose removal had been asked.
func (p *probe) wasLeaving(r load.Refusal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leaver == r.Target && !r.At.Before(p.since)
}

func (p *probe) all() []*fleet.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.nodes)
}

// run looks until ctx ends.
func (p *probe) run(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		p.aim(ctx)
		if n%8 == 0 {
			p.look(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// aim sends the load to the nodes that call themselves ready; where none does,
// it stays.
func (p *probe) aim(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var ready []*fleet.Node
	var names []string
	for _, n := range p.all() {
		if err := n.Get(ctx, "http://"+n.HTTP+"/-/ready"); err == nil {
			ready = append(ready, n)
			names = append(names, n.Name)
		} else if ctx.Err() != nil {
			return
		}
	}
	if len(ready) == 0 {
		return
	}
	p.load.Aim(targetsOf(ready))
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := strings.Join(names, " "); now != p.aimed {
		p.aimed = now
		p.say("samples go to %s", now)
	}
}

// look reads every node now and adds up.
func (p *probe) look(ctx context.Context) reading {
	for _, n := range p.all() {
		r, err := read(ctx, n)
		if err != nil {
			continue // it is on its way out; the last reading counts
		}
		p.mu.Lock()
		if slices.Contains(p.nodes, n) {
			p.readings[n.Name] = r
		}
		p.mu.Unlock()
	}
	return p.latest()
}

// latest adds up what was read last.
func (p *probe) latest() reading {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := reading{counts: map[string]float64{}}
	for _, r := range p.readings {
		all.head += r.head
		all.cpu += r.cpu
		for k, v := range r.counts {
			all.counts[k] += v
		}
	}
	p.head = max(p.head, all.head)
	return all
}

// begin forgets the most series that the heads had.
func (p *probe) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.head = 0
}

func (p *probe) most() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.head
}

func read(ctx context.Context, n *fleet.Node) (reading, error) {
	out := reading{counts: map[string]float64{}}
	usage, err := fleet.UsageOf(n.PID())
	if err != nil {
		return out, err
	}
	out.cpu = usage.CPU()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = n.Metrics(ctx, func(name string, v float64) {
		if name == "muster_tsdb_head_series" {
			out.head = int64(v)
		}
		if as, ok := counted[name]; ok {
			out.counts[as] += v
		}
	})
	return out, err
}

// profile takes CPU profiles of all nodes until stop, for a minute at most.
func (g *growing) profile(ctx context.Context, name string, wanted bool) (stop func()) {
	if !g.Profile || !wanted {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	for _, n := range g.fleet.Nodes {
		work.Go(func() {
			for i := 0; ctx.Err() == nil && i < 20; i++ {
				if err := keepProfile(ctx, n, filepath.Join(g.Dir, fmt.Sprintf("cpu-%s-%s-%02d.pb.gz", name, n.Name, i))); err != nil && ctx.Err() == nil {
					g.Say("profile of %s: %v", n.Name, err)
					return
				}
			}
		})
	}
	return func() {
		cancel()
		work.Wait()
	}
}

// keepProfile keeps a CPU profile of a few seconds.
func keepProfile(ctx context.Context, n *fleet.Node, path string) error {
	c := newClient(n)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://muster/debug/pprof/profile?seconds=5", nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

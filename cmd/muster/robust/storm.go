package robust

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
	"github.com/muster-metrics/muster/cmd/muster/load"
)

// Storm is a cluster on which calm tenants write by the clock while one sends as
// much as it can.
type Storm struct {
	Config
	// Budget is each node's --memory-budget, in bytes.
	Budget int64
	// Calm tenants share Series evenly, CalmRequest of one of them a request, and
	// write Rate samples a second together.
	Calm, Series, CalmRequest int
	Rate                      float64
	// The storm has so many series, PerRequest of them a request, and InFlight
	// senders that do nothing but send.
	StormSeries, PerRequest, InFlight int
	// Each is how long each phase lasts.
	Each time.Duration
	// Flood adds a phase in which the storm's series are new ones, until every
	// node has refused some for want of memory, and one in which they must take
	// writes again. It wants a short block duration, which is how a head shrinks.
	Flood bool
	// Block is the nodes' --tsdb.block-duration; 0: their default.
	Block time.Duration
}

// storming is a storm under way.
type storming struct {
	Storm
	fleet       *fleet.Fleet
	calm, storm *load.Load
	report      StormReport
	acked       map[string]int64 // by tenant
	writes      []load.Write     // of the calm
	refusals    []load.Refusal
	began       time.Time
	round       int
	next        int // first of the series that the flood has not sent

	mu   sync.Mutex
	most map[string]int64 // memory by node, since take
}

const stormTenant = "storm"

// Rage runs a storm on a cluster of c.Nodes nodes, replication factor 3.
func Rage(ctx context.Context, c Storm) (StormReport, error) {
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
	s := &storming{Storm: c, acked: map[string]int64{}, began: time.Now(), most: map[string]int64{}}
	if err := s.start(ctx); err != nil {
		return s.report, fmt.Errorf("start the fleet: %w", err)
	}
	defer s.fleet.Stop()
	defer s.calm.Close()
	defer s.storm.Close()
	defer http.DefaultClient.CloseIdleConnections()
	watching, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() { s.watch(watching) })
	if err := s.play(ctx); err != nil {
		return s.report, err
	}
	return s.report, s.countBack(ctx)
}

func (s *storming) start(ctx context.Context) (err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	args := []string{"--memory-budget", fmt.Sprintf("%dB", s.Budget)}
	if s.Block > 0 {
		args = append(args, "--tsdb.block-duration", s.Block.String())
	}
	s.fleet, err = fleet.Start(ctx, fleet.Config{
		Binary: s.Binary, Dir: s.Dir, Nodes: s.Nodes, Factor: 3, Network: someNetwork(), Args: args,
	})
	if err != nil {
		return err
	}
	var tenants []string
	for i := range s.Calm {
		tenants = append(tenants, fmt.Sprintf("calm-%d", i+1))
	}
	to := targetsOf(s.fleet.Nodes)
	s.calm, err = load.New(load.Config{Tenants: tenants, Series: s.Series, Labels: 10, PerRequest: s.CalmRequest}, to)
	if err == nil {
		s.storm, err = load.New(load.Config{
			Tenants: []string{stormTenant}, Series: s.StormSeries, Labels: 10, PerRequest: s.PerRequest, InFlight: s.InFlight,
		}, to)
	}
	if err != nil {
		s.fleet.Stop()
	}
	return err
}

// play is the calm before the storm, in it, while a node hangs in it, and after.
func (s *storming) play(ctx context.Context) error {
	// Both exist before anything is measured: what is new costs more.
	s.calm.Closed(ctx, s.calm.Rounds(0, 2, clock()))
	s.storm.Closed(ctx, s.storm.Rounds(0, 1, clock()))
	s.note()
	s.round = 2
	open := s.calm.Open(ctx, s.Rate, s.round)
	defer func() { open.Stop() }()
	for _, p := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"before", func(ctx context.Context) error { return rest(ctx, s.Each) }},
		{"storm", s.blow},
		{"hanging", s.hang},
		{"after", func(ctx context.Context) error { return rest(ctx, s.Each) }},
	} {
		if err := s.phase(ctx, p.name, p.do); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if s.Flood {
		if err := s.phase(ctx, "flood", s.flood); err != nil {
			return fmt.Errorf("flood: %w", err)
		}
		if err := s.phase(ctx, "ebb", s.ebb); err != nil {
			return fmt.Errorf("ebb: %w", err)
		}
	}
	open.Stop()
	s.note()
	s.sort()
	return ctx.Err()
}

// blow lets the storm send for a while. What it has begun is acknowledged in the
// end, so that it can be counted back.
func (s *storming) blow(ctx context.Context) error {
	end := time.Now().Add(s.Each)
	at := clock()
	s.storm.Closed(ctx, func(yield func(load.Request) bool) {
		for r := range s.storm.Rounds(s.round, math.MaxInt, at) {
			s.round = r.Round + 1
			if time.Now().After(end) || !yield(r) {
				return
			}
		}
	})
	return ctx.Err()
}

// hang is blow while one node is frozen: what it owes the others is theirs to
// wait for in the background, and nobody's but its own to pay.
func (s *storming) hang(ctx context.Context) error {
	frozen := s.fleet.Nodes[len(s.fleet.Nodes)-1]
	awake := targetsOf(s.fleet.Nodes[:len(s.fleet.Nodes)-1])
	s.calm.Aim(awake)
	s.storm.Aim(awake)
	// What was on its way there is answered first: it is not sent elsewhere.
	if err := rest(ctx, time.Second); err != nil {
		return err
	}
	frozen.Freeze()
	defer frozen.Thaw()
	s.Say("%s hangs", frozen.Name)
	return s.blow(ctx)
}

// floodRounds bounds the flood: a node that has room for all this has no budget.
const floodRounds = 200

// flood sends series that nobody has seen, until each node has said that it has
// no memory for them.
func (s *storming) flood(ctx context.Context) error {
	short := map[string]bool{}
	s.next = s.StormSeries
	for range floodRounds {
		more, err := s.newcomers()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		more.Closed(ctx, more.Rounds(0, 1, clock()))
		cancel()
		more.Close()
		writes, refusals := more.Taken()
		s.count(writes)
		s.report.Flooded += load.Samples(writes)
		for _, r := range refusals {
			short[r.Target] = short[r.Target] || wantsMemory(r)
		}
		s.report.Drained = len(short)
		if len(short) == len(s.fleet.Nodes) {
			return nil
		}
		if ctx.Err() == context.Canceled {
			return ctx.Err()
		}
	}
	return nil
}

var errNoEbb = errors.New("the nodes take no writes again")

// ebb waits until every node takes the calm tenants' writes.
func (s *storming) ebb(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*s.Block)
	defer cancel()
	began := time.Now()
	for {
		open := 0
		for _, n := range s.fleet.Nodes {
			held, budget := 0.0, 0.0
			err := n.Metrics(ctx, func(name string, v float64) {
				switch name {
				case "muster_ingest_memory_held_bytes":
					held = v
				case "muster_ingest_memory_budget_bytes":
					budget = v
				}
			})
			if err == nil && held < budget*11/16 {
				open++
			}
		}
		if open == len(s.fleet.Nodes) {
			s.report.Ebbed = time.Since(began)
			return rest(ctx, s.Each)
		}
		if rest(ctx, time.Second) != nil {
			return fmt.Errorf("%w after %v", errNoEbb, time.Since(began).Round(time.Second))
		}
	}
}

// newcomers are series that the storm has not sent yet.
func (s *storming) newcomers() (*load.Load, error) {
	more, err := load.New(load.Config{Tenants: []string{stormTenant}, InFlight: s.InFlight}, targetsOf(s.fleet.Nodes))
	if err != nil {
		return nil, err
	}
	for range 2 * s.InFlight {
		t, err := load.NewTemplate(stormTenant, s.next, s.PerRequest, 10)
		if err != nil {
			return nil, err
		}
		more.Templates = append(more.Templates, t)
		s.next += s.PerRequest
	}
	return more, nil
}

// countBack asks every node for all that was acknowledged.
func (s *storming) countBack(ctx context.Context) error {
	if err := s.fleet.Settle(ctx); err != nil {
		return err
	}
	s.report.Acknowledged = s.acked
	s.report.Counted = map[string]map[string]int64{}
	for _, n := range s.fleet.Nodes {
		got := map[string]int64{}
		for tenant := range s.acked {
			all, err := tallied(ctx, n, tenant, s.began)
			if err != nil {
				return fmt.Errorf("count back: %w", err)
			}
			got[tenant] = all
		}
		s.report.Counted[n.Name] = got
	}
	return nil
}

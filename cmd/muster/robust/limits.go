package robust

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// Limited is tenants that send more series than they may.
type Limited struct {
	Config
	// Tenants each may have Series active series, and send a fifth more.
	Tenants, Series int
	// PerRequest series are sent at once, two requests at a time.
	PerRequest int
	// Rounds of one sample of each series, before, while and after a node is
	// killed and started again.
	Rounds int
}

const (
	overLimit    = 1.2
	atOnce       = 2
	limitsFactor = 3
	// exactly and spread are what P10 promises: the accepted series are the limit
	// within max(1 %, 3/√series per node).
	exactly = 0.01
	spread  = 3
)

// LimitsReport is what was accepted.
type LimitsReport struct {
	// Accepted series by tenant, in the last round, Bound how far from the limit
	// they may be, as a part of it.
	Accepted []int
	Limit    int
	Bound    float64
	// Worst is the tenant farthest from its limit, as a part of it: below 0 where
	// fewer were accepted.
	Worst float64
	// Repeated counts answers that asked for a repetition, or that did not come.
	Repeated int
	Findings []string
}

// Limits has tenants send more series than they may through all nodes in turn,
// kills a node meanwhile and starts it again, and counts what was accepted.
func Limits(ctx context.Context, c Limited) (LimitsReport, error) {
	r := LimitsReport{Limit: c.Series}
	perNode := float64(c.Series) * float64(min(limitsFactor, c.Nodes)) / float64(c.Nodes)
	r.Bound = max(exactly, spread/math.Sqrt(perNode))
	f, err := fleet.Start(ctx, fleet.Config{Binary: c.Binary, Dir: c.Dir, Nodes: c.Nodes, Factor: limitsFactor, Network: someNetwork()})
	if err != nil {
		return r, fmt.Errorf("start the fleet: %w", err)
	}
	defer f.Stop()
	senders, err := c.senders(ctx, f)
	if err != nil {
		return r, err
	}
	defer http.DefaultClient.CloseIdleConnections()
	c.Say("%d tenants, %d series each where %d are allowed, %d nodes", c.Tenants, senders[0].series, c.Series, c.Nodes)
	if err := sendRounds(ctx, senders, c.Rounds); err != nil {
		return r, err
	}
	if err := c.restart(ctx, f, senders); err != nil {
		return r, err
	}
	if err := sendRounds(ctx, senders, c.Rounds); err != nil {
		return r, err
	}
	for _, s := range senders {
		r.add(s)
	}
	return r, nil
}

// restart kills a node, sends meanwhile, and starts it again.
func (c *Limited) restart(ctx context.Context, f *fleet.Fleet, senders []*overSender) error {
	rng := rand.New(rand.NewPCG(c.Seed, 4))
	victim := f.Nodes[rng.IntN(len(f.Nodes))]
	others := slices.DeleteFunc(slices.Clone(f.Nodes), func(n *fleet.Node) bool { return n == victim })
	for _, s := range senders {
		s.nodes = others
	}
	victim.Kill()
	c.Say("%s is killed", victim.Name)
	err := sendRounds(ctx, senders, c.Rounds)
	if err := errors.Join(err, victim.Start(ctx)); err != nil {
		return err
	}
	if err := f.Settle(ctx); err != nil {
		return err
	}
	c.Say("%s is back", victim.Name)
	for _, s := range senders {
		s.nodes = f.Nodes
	}
	return nil
}

func (r *LimitsReport) add(s *overSender) {
	r.Accepted = append(r.Accepted, s.accepted)
	r.Repeated += s.repeated
	r.Findings = append(r.Findings, s.findings...)
	off := float64(s.accepted)/float64(r.Limit) - 1
	if math.Abs(off) > math.Abs(r.Worst) {
		r.Worst = off
	}
	if math.Abs(off) > r.Bound {
		r.Findings = append(r.Findings, fmt.Sprintf("%s: %d series were accepted where %d are allowed: %+.2f %%, at most %.2f %% are promised", s.tenant, s.accepted, r.Limit, 100*off, 100*r.Bound))
	}
}

// overSender sends more series than its tenant may have.
type overSender struct {
	tenant     string
	series     int
	perRequest int
	nodes      []*fleet.Node
	client     *http.Client
	round      int

	mu       sync.Mutex
	accepted int // in the last round
	repeated int
	findings []string
}

func (c *Limited) senders(ctx context.Context, f *fleet.Fleet) ([]*overSender, error) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: http.DefaultTransport}
	var all []*overSender
	for i := range c.Tenants {
		s := &overSender{
			tenant: fmt.Sprintf("over-%02d", i+1), series: int(overLimit * float64(c.Series)),
			perRequest: c.PerRequest, nodes: f.Nodes, client: client,
		}
		if _, err := f.Nodes[i%len(f.Nodes)].CLI(ctx, "tenant", "create", s.tenant, "--active-series", strconv.Itoa(c.Series)); err != nil {
			return nil, fmt.Errorf("create %s: %w", s.tenant, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// sendRounds lets all senders send so many rounds, each at its own pace.
func sendRounds(ctx context.Context, senders []*overSender, rounds int) error {
	var wg sync.WaitGroup
	for _, s := range senders {
		wg.Go(func() {
			for range rounds {
				s.send(ctx)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// send sends one sample of each series, some requests at a time, each until it is
// answered for good.
func (s *overSender) send(ctx context.Context) {
	s.round++
	s.accepted = 0
	at := time.Now().UnixMilli()
	firsts := make(chan int)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for first := range firsts {
				s.request(ctx, first, at)
			}
		})
	}
	for first := 0; first < s.series; first += s.perRequest {
		firsts <- first
	}
	close(firsts)
	wg.Wait()
}

func (s *overSender) request(ctx context.Context, first int, at int64) {
	last := min(first+s.perRequest, s.series)
	body, err := s.body(first, last, at)
	for attempt := 0; err == nil && ctx.Err() == nil; attempt++ {
		n := s.nodes[(s.round+first/s.perRequest+attempt)%len(s.nodes)]
		status, says := n.Post(ctx, s.client, s.tenant, body, attempt)
		if status/100 == 2 || status == http.StatusBadRequest {
			s.answered(status, says, last-first)
			return
		}
		s.mu.Lock()
		s.repeated++
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// answered counts what an answer for good says is stored.
func (s *overSender) answered(status int, says string, sent int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status != http.StatusBadRequest {
		s.accepted += sent
		return
	}
	var refused, of, stored int
	if _, err := fmt.Sscanf(says, "%d of %d samples refused for good, %d stored", &refused, &of, &stored); err != nil || refused+stored != sent || !strings.Contains(says, "active_series") {
		s.findings = append(s.findings, fmt.Sprintf("%s: an answer that does not tell: %q", s.tenant, says))
	}
	s.accepted += stored
}

func (s *overSender) body(first, last int, at int64) ([]byte, error) {
	var req prompb.WriteRequest
	for i := first; i < last; i++ {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: "over"}, {Name: "series", Value: strconv.Itoa(i)}},
			Samples: []prompb.Sample{{Value: float64(s.round), Timestamp: at}},
		})
	}
	raw, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	return snappy.Encode(nil, raw), nil
}

package robust

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
	"github.com/muster-metrics/muster/cmd/muster/load"
)

// Growth is a cluster that takes a node in and lets one go while samples are
// written by a schedule.
type Growth struct {
	Config
	// Series are shared by the Tenants evenly, PerRequest of one of them a request.
	Series, Tenants, PerRequest int
	// Rate is how many samples a second are written; 0: the part Share of what
	// the machine takes, which a closed loop of InFlight requests finds out in
	// the time Calibrate.
	Rate, Share float64
	InFlight    int
	Calibrate   time.Duration
	// Pace is the cluster's move_series_per_second; 0: its default.
	Pace int
	// Baseline is how long the cluster is watched before, Pause after each change.
	Baseline, Pause time.Duration
	// Watch is how long the series in the heads may take to come back to
	// headBound of before. The load is a tenth then.
	Watch time.Duration
	// Until ends the watch early: the counting back must be done then. The zero
	// time: nothing does.
	Until time.Time
	// Unhurried goes on where the machine does not keep up with the load.
	Unhurried bool
	// Profile keeps CPU profiles of all nodes below Dir: of the baseline and of
	// each change.
	Profile bool
}

// growing is a growth under way.
type growing struct {
	Growth
	fleet  *fleet.Fleet
	load   *load.Load
	probe  *probe
	report GrowthReport
	acked  map[string]int64 // by tenant
	began  time.Time
	round  int
	notes  notes
	ended  reading // at the end of the last phase
}

// Grow runs a growth on a cluster of c.Nodes nodes, replication factor 3, with a
// bucket, so that who leaves ships what it holds.
func Grow(ctx context.Context, c Growth) (GrowthReport, error) {
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
	g := &growing{Growth: c, acked: map[string]int64{}, began: time.Now()}
	if err := g.start(ctx); err != nil {
		return g.report, fmt.Errorf("start the fleet: %w", err)
	}
	defer g.fleet.Stop()
	defer g.load.Close()
	defer http.DefaultClient.CloseIdleConnections()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.probe.run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	if err := g.calibrate(ctx); err != nil {
		return g.report, err
	}
	if err := g.change(ctx); err != nil {
		return g.report, err
	}
	return g.report, g.countBack(ctx)
}

func (g *growing) start(ctx context.Context) error {
	bucket := filepath.Join(g.Dir, "bucket")
	if err := os.MkdirAll(bucket, 0o700); err != nil {
		return err
	}
	f, err := fleet.Start(ctx, fleet.Config{
		Binary: g.Binary, Dir: g.Dir, Nodes: g.Nodes, Factor: 3, Network: someNetwork(),
		Args: []string{"--objstore.config", fmt.Sprintf("{type: FILESYSTEM, config: {directory: %q}}", bucket)},
	})
	if err != nil {
		return err
	}
	g.fleet = f
	if g.Pace > 0 {
		if _, err := f.Nodes[0].CLI(ctx, "settings", "set", fmt.Sprintf("move_series_per_second=%d", g.Pace)); err != nil {
			f.Stop()
			return fmt.Errorf("set the pace: %w", err)
		}
	}
	var tenants []string
	for i := range g.Tenants {
		tenants = append(tenants, fmt.Sprintf("growth-%d", i+1))
	}
	g.load, err = load.New(load.Config{
		Tenants: tenants, Series: g.Series, Labels: 10, PerRequest: g.PerRequest, InFlight: g.InFlight,
	}, targetsOf(f.Nodes))
	if err != nil {
		f.Stop()
		return err
	}
	g.probe = newProbe(g.load, f.Nodes, g.Say)
	return nil
}

// chunkSamples is how many samples a series has in a chunk. A load is steady when
// the series end their chunks one after the other: all at once it takes a second
// in which nobody is answered, and that says nothing of a change.
const chunkSamples = 120

// calibrate creates the series and finds out what the machine takes.
func (g *growing) calibrate(ctx context.Context) error {
	at := clock()
	g.round = chunkSamples
	if g.Unhurried {
		g.round = 2
	}
	g.load.Closed(ctx, g.load.Staggered(0, g.round, at))
	g.note()
	if g.report.Rate = g.Rate; g.Rate > 0 {
		return ctx.Err()
	}
	g.Say("%d series exist on %d nodes; what does the machine take?", g.Series, g.Nodes)
	began := time.Now()
	before := sum(g.acked)
	rounds := g.load.Rounds(g.round, math.MaxInt, at)
	g.load.Closed(ctx, func(yield func(load.Request) bool) {
		for r := range rounds {
			g.round = r.Round + 1
			if time.Since(began) >= g.Calibrate || !yield(r) {
				return
			}
		}
	})
	took := time.Since(began)
	g.note()
	g.report.Most = float64(sum(g.acked)-before) / took.Seconds()
	g.report.Rate = g.Share * g.report.Most
	g.Say("%.0f samples a second with %d requests in flight; from now on %.0f by the clock", g.report.Most, g.InFlight, g.report.Rate)
	return ctx.Err()
}

// clock gives times for rounds, each later than the one before.
func clock() func(int) int64 {
	last := int64(0)
	return func(int) int64 {
		last = max(last+1, time.Now().UnixMilli())
		return last
	}
}

// change is the cluster before, while a node joins, while one leaves, and after.
func (g *growing) change(ctx context.Context) error {
	open := g.load.Open(ctx, g.report.Rate, g.round)
	defer func() { open.Stop() }()
	if err := rest(ctx, g.Pause); err != nil { // what the calibration left is stored
		return err
	}
	g.note()
	if err := g.phase(ctx, "before", false, func(ctx context.Context) error { return rest(ctx, g.Baseline) }); err != nil {
		return err
	}
	if err := g.keepsUp(); err != nil {
		return err
	}
	g.report.HeadBefore = g.report.Before().Head
	for _, p := range []struct {
		name   string
		change bool
		do     func(context.Context) error
	}{
		{"join", true, g.join},
		{"joined", false, func(ctx context.Context) error { return rest(ctx, g.Pause) }},
		{"remove", true, g.remove},
		{"after", false, func(ctx context.Context) error { return rest(ctx, g.Pause) }},
	} {
		if err := g.phase(ctx, p.name, p.change, p.do); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	ended := time.Now().Add(-g.Pause)
	rounds := g.round + int(time.Since(g.began).Seconds()*g.report.Rate) // values only: more than were sent
	open.Stop()
	open = g.load.Open(ctx, g.report.Rate/10, rounds)
	if err := g.phase(ctx, "watch", false, func(ctx context.Context) error { return g.watch(ctx, ended) }); err != nil {
		return err
	}
	open.Stop()
	g.note()
	g.sort()
	return nil
}

// ErrOverloaded means that the machine does not take the load before anything
// has changed: what came afterwards would show nothing.
var ErrOverloaded = errors.New("the machine does not take this load")

// keepsUp wants what was due in the baseline to be acknowledged in it, but for
// what was under way at its end.
func (g *growing) keepsUp() error {
	if g.Unhurried {
		return nil
	}
	g.note()
	before := g.report.Phases[0]
	acked := int64(0)
	for _, w := range g.notes.writes {
		if !w.Due.Before(before.Began) && w.Due.Add(w.Took).Before(before.Ended) {
			acked += int64(w.Samples)
		}
	}
	due := g.report.Rate * before.Took.Seconds()
	if float64(acked) < keptUp*due-float64(2*g.PerRequest) {
		return fmt.Errorf("%w: %.0f samples a second were due, %.0f acknowledged: something else runs here, or the rate is too high", ErrOverloaded, g.report.Rate, float64(acked)/before.Took.Seconds())
	}
	return nil
}

// keptUp is the least part of the baseline's samples that must be acknowledged in it.
const keptUp = 0.98

// join takes a node in and returns when its slots are there.
func (g *growing) join(ctx context.Context) error {
	n, err := g.fleet.Add(ctx, g.fleet.Nodes[1])
	if err != nil {
		return err
	}
	g.Say("%s has joined", n.Name)
	g.probe.reach(g.fleet.Nodes)
	return g.settled(ctx, n)
}

// settled waits until no slot moves, as the node says.
func (g *growing) settled(ctx context.Context, n *fleet.Node) error {
	c := newClient(n)
	for {
		st, err := c.confirmed(ctx)
		g.probe.moving.Store(int64(st.moving()))
		if err == nil && st.moving() == 0 {
			return nil
		}
		if err := rest(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// remove lets the first node go in good order.
func (g *growing) remove(ctx context.Context) error {
	gone, through := g.fleet.Nodes[0], g.fleet.Nodes[1]
	g.probe.leaves(gone)
	if _, err := through.CLI(ctx, "cluster", "remove", gone.Name, "--timeout", "15m"); err != nil {
		return err
	}
	g.Say("%s is out", gone.Name)
	g.probe.reach(g.fleet.Nodes[1:])
	gone.Stop()
	if err := g.fleet.Drop(gone); err != nil {
		return err
	}
	return g.settled(ctx, through)
}

// watch waits for the heads to shrink.
func (g *growing) watch(ctx context.Context, ended time.Time) error {
	g.report.Within = -1
	for {
		g.report.Watched = time.Since(ended)
		g.report.HeadAfter = g.probe.look(ctx).head
		if float64(g.report.HeadAfter) <= headBound*float64(g.report.HeadBefore) {
			g.report.Within = time.Since(ended)
			return nil
		}
		if late := !g.Until.IsZero() && time.Now().Add(g.counting()).After(g.Until); late || time.Since(ended) >= g.Watch {
			return nil
		}
		if err := rest(ctx, time.Second); err != nil {
			return err
		}
	}
}

// counting is about how long the counting back takes.
func (g *growing) counting() time.Duration {
	return time.Duration(float64(sum(g.acked)) * float64(len(g.fleet.Nodes)) / countedRate * float64(time.Second))
}

// countedRate is how many samples a second a cluster counts on a small machine.
const countedRate = 4e6

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// countBack asks every node for all that was acknowledged.
func (g *growing) countBack(ctx context.Context) error {
	g.report.Acknowledged = sum(g.acked)
	if err := g.refusedForGood(); err != nil {
		return err
	}
	// A node may be asked a moment before it has heard of the others.
	if err := g.fleet.Settle(ctx); err != nil {
		return err
	}
	g.report.Counted = map[string]int64{}
	for _, n := range g.fleet.Nodes {
		got, err := g.counted(ctx, n)
		if err != nil {
			return fmt.Errorf("count back: %w", err)
		}
		g.report.Counted[n.Name] = got
		g.Say("%s finds %d of %d samples", n.Name, got, g.report.Acknowledged)
	}
	return nil
}

var errRefused = errors.New("writes were refused for good")

func (g *growing) refusedForGood() error {
	if g.notes.lost > 0 {
		return fmt.Errorf("%w: %d requests answered 4xx", errRefused, g.notes.lost)
	}
	return nil
}

// counted is how many samples a node finds since the beginning.
func (g *growing) counted(ctx context.Context, n *fleet.Node) (int64, error) {
	var all int64
	for tenant := range g.acked {
		got, err := tallied(ctx, n, tenant, g.began)
		if err != nil {
			return all, err
		}
		all += got
	}
	return all, nil
}

// tallied is how many samples of a tenant a node finds since then, a metric's
// name at a time: that keeps the queries small.
func tallied(ctx context.Context, n *fleet.Node, tenant string, since time.Time) (int64, error) {
	var client http.Client
	defer client.CloseIdleConnections()
	now := time.Now()
	span := int(now.Sub(since).Seconds()) + 2
	var all int64
	for i := range load.Names {
		expr := fmt.Sprintf(`sum(count_over_time(%s[%ds]))`, load.Name(i), span)
		got, err := n.Ask(ctx, &client, tenant, expr, now)
		if err != nil {
			return all, err
		}
		all += got
	}
	return all, nil
}

func sum(by map[string]int64) int64 {
	var n int64
	for _, k := range by {
		n += k
	}
	return n
}

package robust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// LeaderReport is what the killing of leaders came to.
type LeaderReport struct {
	// Waits are from each kill to the next change that was accepted, in their order.
	Waits []time.Duration
	// Acknowledged samples, all of them counted back.
	Acknowledged int
	// Refused are answers other than 2xx of nodes that lived.
	Refused []string
	// Findings are what must not be.
	Findings []string
}

// Median and Worst of the waits.
func (r LeaderReport) Median() time.Duration {
	sorted := slices.Sorted(slices.Values(r.Waits))
	return sorted[len(sorted)/2]
}

// Worst is the longest wait.
func (r LeaderReport) Worst() time.Duration { return slices.Max(r.Waits) }

// reconnected is how long after its return a node is reached by all others
// again: they look for it several times a second. Whoever kills the next node
// before that takes two of three away.
const reconnected = time.Second

// KillLeaders kills the leader so many times, with SIGKILL, while a writer
// writes to each node, and measures how long changes wait for the next one.
func KillLeaders(ctx context.Context, c Config, times int) (LeaderReport, error) {
	var r LeaderReport
	f, err := c.start(ctx)
	if err != nil {
		return r, fmt.Errorf("start the fleet: %w", err)
	}
	defer f.Stop()
	writers := newWriters(f.Nodes)
	stop := writing(ctx, writers)
	defer stop()
	for i := range times {
		if err := f.Settle(ctx); err != nil {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(reconnected):
		}
		wait, err := killLeader(ctx, f, writers, i)
		if err != nil {
			return r, err
		}
		c.Say("%2d: a change was accepted after %v", i+1, wait.Round(time.Millisecond))
		r.Waits = append(r.Waits, wait)
	}
	stop()
	for _, w := range writers {
		r.Refused = append(r.Refused, w.refused...)
		r.Acknowledged += w.acknowledged()
	}
	if err := f.Settle(ctx); err != nil {
		return r, err
	}
	r.Findings, err = countBack(ctx, f.Nodes, writers)
	return r, err
}

// killLeader kills it, waits for a change to be accepted, and starts it again.
func killLeader(ctx context.Context, f *fleet.Fleet, writers []*writer, round int) (time.Duration, error) {
	leader := leaderOf(ctx, f)
	if leader == nil {
		return 0, errors.New("a settled cluster has no leader")
	}
	i := slices.Index(f.Nodes, leader)
	writers[i].to(nil)
	killed := time.Now()
	leader.Kill()
	wait, err := firstChange(ctx, f, leader, fmt.Sprintf("kill-%d", round), killed)
	if err != nil {
		return 0, err
	}
	if err := leader.Start(ctx); err != nil {
		return 0, err
	}
	if err := leader.AwaitReady(ctx); err != nil {
		return 0, err
	}
	writers[i].to(leader)
	return wait, nil
}

// firstChange asks every living node for a change, and again where it refuses,
// until one is accepted.
func firstChange(ctx context.Context, f *fleet.Fleet, dead *fleet.Node, id string, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	done := make(chan time.Duration, len(f.Nodes))
	var wg sync.WaitGroup
	for _, n := range f.Nodes {
		if n == dead {
			continue
		}
		wg.Go(func() {
			cl := newClient(n)
			for ctx.Err() == nil {
				if a := cl.do(ctx, "PUT", "/tenants/"+id+"-"+n.Name, nil, nil); a.status == 200 {
					done <- time.Since(since)
					return
				}
				<-time.After(10 * time.Millisecond)
			}
		})
	}
	defer wg.Wait()
	select {
	case d := <-done:
		cancel()
		return d, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("no change was accepted after %s was killed: %w", dead.Name, ctx.Err())
	}
}

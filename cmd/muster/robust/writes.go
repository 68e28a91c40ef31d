package robust

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// WritesReport is what became of samples while nodes were killed.
type WritesReport struct {
	Kills, Acknowledged, Refused int
	// Findings are what must not be.
	Findings []string
}

// Writes lets a writer write to each node while nodes are killed at any moment,
// coordinators and replicas alike, one or two at a time, for so many rounds; now
// and then another is frozen or cut off meanwhile. Every acknowledged sample must
// be found afterwards, on every node.
func Writes(ctx context.Context, c Config, rounds int) (WritesReport, error) {
	var r WritesReport
	f, err := c.start(ctx)
	if err != nil {
		return r, fmt.Errorf("start the fleet: %w", err)
	}
	defer f.Stop()
	rng := rand.New(rand.NewPCG(c.Seed, 1)) //nolint:gosec // dice that fall again the same way
	writers := newWriters(f.Nodes)
	stop := writing(ctx, writers)
	defer stop()
	for i := range rounds {
		killed, err := killSome(ctx, f, rng)
		if err != nil {
			return r, err
		}
		r.Kills += killed
		c.Say("%2d: killed %d", i+1, killed)
	}
	if err := f.Settle(ctx); err != nil {
		return r, err
	}
	stop()
	for _, w := range writers {
		r.Refused += len(w.refused)
		r.Acknowledged += w.acknowledged()
	}
	r.Findings, err = countBack(ctx, f.Nodes, writers)
	return r, err
}

// killSome kills one or two nodes and starts them again, at once or after a
// while: a node may be killed while it replays, too.
func killSome(ctx context.Context, f *fleet.Fleet, rng *rand.Rand) (int, error) {
	pause := func(most time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rng.Int64N(int64(most)))):
		}
	}
	pause(2 * time.Second)
	order := rng.Perm(len(f.Nodes))[:1+rng.IntN(min(2, len(f.Nodes)-1))]
	other := f.Nodes[rng.IntN(len(f.Nodes))]
	mend := func() {}
	switch rng.IntN(4) {
	case 0:
		other.Freeze()
		mend = other.Thaw
	case 1:
		for _, n := range f.Nodes {
			if n != other {
				f.Wires.Cut(n.Name, other.Name)
				f.Wires.Cut(other.Name, n.Name)
			}
		}
		broken := rng.IntN(2) == 0
		mend = func() { f.Wires.Heal(broken) }
	}
	for _, i := range order {
		f.Nodes[i].Kill()
		pause(500 * time.Millisecond)
	}
	pause(3 * time.Second)
	mend()
	var errs []error
	for _, i := range order {
		errs = append(errs, f.Nodes[i].Start(ctx))
	}
	return len(order), errors.Join(errs...)
}

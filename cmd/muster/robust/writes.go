package robust

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// WritesReport is what became of samples while nodes were killed.
type WritesReport struct {
	Kills, Replaced, Acknowledged, Refused int
	// Findings are what must not be.
	Findings []string
}

// Writes lets a writer write to each node while nodes are killed at any moment,
// coordinators and replicas alike, one or two at a time, for so many rounds; now
// and then another is frozen or cut off meanwhile. Halfway a further node joins
// and another is removed for good, while the killing goes on. Every acknowledged
// sample must be found afterwards, on every node.
func Writes(ctx context.Context, c Config, rounds int) (WritesReport, error) {
	var r WritesReport
	f, err := c.start(ctx)
	if err != nil {
		return r, fmt.Errorf("start the fleet: %w", err)
	}
	defer f.Stop()
	rng := rand.New(rand.NewPCG(c.Seed, 1))
	writers := newWriters(f.Nodes)
	stop := writing(ctx, writers)
	defer stop()
	replaced := make(chan error, 1)
	var leaver *fleet.Node
	for i := range rounds {
		if i == rounds/2 {
			if leaver, err = replace(ctx, f, rng, writers, replaced); err != nil {
				return r, err
			}
			c.Say("%2d: %s joins, %s is removed", i+1, f.Nodes[len(f.Nodes)-1].Name, leaver.Name)
		}
		killed, err := killSome(ctx, f, rng)
		if err != nil {
			return r, err
		}
		r.Kills += killed
		c.Say("%2d: killed %d", i+1, killed)
	}
	if leaver != nil {
		if err := <-replaced; err != nil {
			return r, err
		}
		if err := f.Drop(leaver); err != nil {
			return r, err
		}
		r.Replaced++
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

// removalTime bounds how long a removal goes on after the killing has ended.
const removalTime = 3 * time.Minute

// replace adds a node and has another, which it returns, removed in good order;
// done tells when it is out. The removal is asked for again where its command
// died with the node it was asked of.
func replace(ctx context.Context, f *fleet.Fleet, rng *rand.Rand, writers []*writer, done chan<- error) (leaver *fleet.Node, err error) {
	if err := f.Settle(ctx); err != nil {
		return nil, err
	}
	leaving := rng.IntN(len(f.Nodes))
	leaver = f.Nodes[leaving]
	asked := slices.DeleteFunc(slices.Clone(f.Nodes), func(n *fleet.Node) bool { return n == leaver })
	added, err := f.Add(ctx, asked[0])
	if err != nil {
		return leaver, err
	}
	writers[leaving].to(added)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, removalTime)
		defer cancel()
		for i := 0; ; i++ {
			_, err := asked[i%len(asked)].CLI(ctx, "cluster", "remove", leaver.Name)
			if err == nil || strings.Contains(err.Error(), "there is no node") || strings.Contains(err.Error(), "no member") {
				done <- nil
				return
			}
			select {
			case <-ctx.Done():
				done <- fmt.Errorf("remove %s: %w", leaver.Name, err)
				return
			case <-time.After(time.Second):
			}
		}
	}()
	return leaver, nil
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

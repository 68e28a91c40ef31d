package fencing

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// raise gives a node more slots. Without one, where every node holds every slot,
// a further one joins. It returns when all slots have moved that can: others wait
// for a node that is away.
func (a *act) raise(ctx context.Context, n *fleet.Node) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan error, 1)
	if n == nil {
		_, err := a.fleet.Add(ctx, a.leader)
		return err
	}
	go func() { done <- a.weigh(ctx, n, raised) }()
	if ended, err := a.calm(ctx, done); ended {
		return err
	}
	cancel()
	<-done //nolint:errcheck // cut short
	return nil
}

// exclude takes the ring away from a node, which stays a member. It returns as
// raise does.
func (a *act) exclude(ctx context.Context, n *fleet.Node) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a.excluded = true
	var names []string
	for _, o := range a.fleet.Nodes {
		if o != n {
			names = append(names, o.Name)
		}
	}
	done := make(chan error, 1)
	go func() { done <- a.spread(ctx, strings.Join(names, ",")) }()
	if ended, err := a.calm(ctx, done); ended {
		return err
	}
	cancel()
	<-done //nolint:errcheck // cut short
	return nil
}

// spread lets the ring use these nodes, "" for all.
func (a *act) spread(ctx context.Context, nodes string) error {
	if err := a.cli(ctx, "ring", "set", "default", "--nodes", nodes); err != nil {
		return err
	}
	return a.cli(ctx, "ring", "rebalance")
}

// remove takes a node out for good. It returns as raise does; the func that it
// returns waits until the node is out, and ends its process.
func (a *act) remove(ctx context.Context, n *fleet.Node) (gone func() error) {
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	go func() { done <- a.cli(ctx, "cluster", "remove", n.Name) }()
	ended, err := a.calm(ctx, done)
	if ended {
		done <- err
	}
	return func() error {
		defer cancel()
		if err := <-done; err != nil {
			return fmt.Errorf("remove %s: %w", n.Name, err)
		}
		return a.fleet.Drop(n)
	}
}

// calm waits until some watched slots have moved and no more do, or until what
// moves them has ended.
func (a *act) calm(ctx context.Context, done <-chan error) (ended bool, err error) {
	last, since := 0, time.Now()
	for {
		select {
		case err := <-done:
			return true, err
		case <-time.After(lookPace):
		}
		t, err := a.look(ctx)
		if err != nil {
			continue
		}
		if moved := a.moved(t); moved != last {
			last, since = moved, time.Now()
		}
		if last > 0 && time.Since(since) > calmTime {
			return false, nil
		}
	}
}

// calmTime is how long no slot moves where those that could have moved.
const calmTime = 3 * time.Second

// moved counts the watched slots that have.
func (a *act) moved(t table) int {
	n := 0
	for _, s := range a.load.slots() {
		if a.before.Slots[s].Changed != t.Slots[s].Changed {
			n++
		}
	}
	return n
}

// raised and usual are weights.
const (
	raised = 150
	usual  = 100
)

func (a *act) weigh(ctx context.Context, n *fleet.Node, weight int) error {
	a.weights[n.Name] = weight != usual
	if err := a.cli(ctx, "cluster", "set", n.Name, "--weight", strconv.Itoa(weight)); err != nil {
		return err
	}
	return a.cli(ctx, "ring", "rebalance")
}

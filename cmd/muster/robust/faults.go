package robust

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// faults happen to a fleet one after the other; each heals before the next.
type faults struct {
	fleet *fleet.Fleet
	rng   *rand.Rand
	nodes int // as many there shall be
	// reach is told who there is.
	reach func([]*fleet.Node)
	say   func(format string, args ...any)
}

// fault is one way for a cluster to suffer. Its weight says how often it comes.
type fault struct {
	name   string
	weight int
	do     func(*faults, context.Context) error
}

var allFaults = []fault{
	{"kill", 4, (*faults).kill},
	{"freeze", 4, (*faults).freeze},
	{"isolate", 3, (*faults).isolate},
	{"mute", 2, (*faults).mute},
	{"deafen", 2, (*faults).deafen},
	{"one pair", 2, (*faults).pair},
	{"transfer", 3, (*faults).transfer},
	{"members", 3, (*faults).members},
	{"kill a majority", 1, (*faults).killMajority},
}

// run makes faults until ctx ends, and heals the last one.
func (f *faults) run(ctx context.Context) {
	total := 0
	for _, k := range allFaults {
		total += k.weight
	}
	for ctx.Err() == nil {
		f.rest(ctx, 500*time.Millisecond, 2*time.Second)
		dice := f.rng.IntN(total)
		for _, k := range allFaults {
			if dice -= k.weight; dice >= 0 {
				continue
			}
			// What has begun is brought to its end: half a change of members is
			// another fault than the one that was meant.
			if err := k.do(f, ctx); err != nil && ctx.Err() == nil {
				f.say("%s: %v", k.name, err)
			}
			break
		}
	}
}

// rest waits a while between the two, or until ctx ends.
func (f *faults) rest(ctx context.Context, least, most time.Duration) time.Duration {
	d := least + time.Duration(f.rng.Int64N(int64(most-least)))
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return d
}

// victim is the leader every other time, since that hurts most.
func (f *faults) victim(ctx context.Context) *fleet.Node {
	if f.rng.IntN(2) == 0 {
		if l := leaderOf(ctx, f.fleet); l != nil {
			return l
		}
	}
	return f.someNode()
}

func (f *faults) someNode() *fleet.Node { return f.fleet.Nodes[f.rng.IntN(len(f.fleet.Nodes))] }

// leaderOf asks the nodes; nil: none knows.
func leaderOf(ctx context.Context, f *fleet.Fleet) *fleet.Node {
	for _, n := range f.Nodes {
		st, err := newClient(n).status(ctx)
		if err != nil || st.Leader == "" {
			continue
		}
		for _, m := range f.Nodes {
			if m.Name == st.Leader {
				return m
			}
		}
	}
	return nil
}

func (f *faults) kill(ctx context.Context) error {
	n := f.victim(ctx)
	f.say("kill %s", n.Name)
	n.Kill()
	f.rest(ctx, 0, 5*time.Second)
	return n.Start(context.WithoutCancel(ctx))
}

// killMajority takes the quorum away, and brings it back.
func (f *faults) killMajority(ctx context.Context) error {
	order := f.rng.Perm(len(f.fleet.Nodes))
	order = order[:1+f.rng.IntN(len(order))]
	var killed []*fleet.Node
	for _, i := range order {
		f.say("kill %s", f.fleet.Nodes[i].Name)
		f.fleet.Nodes[i].Kill()
		killed = append(killed, f.fleet.Nodes[i])
	}
	f.rest(ctx, 0, 4*time.Second)
	var errs []error
	for _, n := range killed {
		errs = append(errs, n.Start(context.WithoutCancel(ctx)))
	}
	return errors.Join(errs...)
}

// freeze stands for a stalled machine: nothing is closed, nothing answers, and
// it wakes with what it believed before.
func (f *faults) freeze(ctx context.Context) error {
	n := f.victim(ctx)
	n.Freeze()
	d := f.rest(ctx, 3*time.Second, 10*time.Second)
	n.Thaw()
	f.say("froze %s for %v", n.Name, d.Round(time.Millisecond))
	return nil
}

// isolate cuts a node off in both directions.
func (f *faults) isolate(ctx context.Context) error {
	return f.cut(ctx, "isolate", f.victim(ctx), true, true)
}

// mute lets a node hear and not be heard; deafen the other way round.
func (f *faults) mute(ctx context.Context) error {
	return f.cut(ctx, "mute", f.victim(ctx), true, false)
}

func (f *faults) deafen(ctx context.Context) error {
	return f.cut(ctx, "deafen", f.victim(ctx), false, true)
}

func (f *faults) cut(ctx context.Context, how string, n *fleet.Node, out, in bool) error {
	for _, m := range f.fleet.Nodes {
		if out && m != n {
			f.fleet.Wires.Cut(n.Name, m.Name)
		}
		if in && m != n {
			f.fleet.Wires.Cut(m.Name, n.Name)
		}
	}
	f.heal(ctx, how+" "+n.Name)
	return nil
}

// pair cuts the cable between two nodes that both reach the others.
func (f *faults) pair(ctx context.Context) error {
	a := f.victim(ctx)
	b := f.someNode()
	for b == a {
		b = f.someNode()
	}
	f.fleet.Wires.Cut(a.Name, b.Name)
	if f.rng.IntN(2) == 0 {
		f.fleet.Wires.Cut(b.Name, a.Name)
	}
	f.heal(ctx, "cut "+a.Name+"-"+b.Name)
	return nil
}

func (f *faults) heal(ctx context.Context, what string) {
	d := f.rest(ctx, 2*time.Second, 8*time.Second)
	f.fleet.Wires.Heal(f.rng.IntN(2) == 0)
	f.say("%s for %v", what, d.Round(time.Millisecond))
}

// transfer hands leadership over; only the leader can, and may not find anybody.
func (f *faults) transfer(ctx context.Context) error {
	l := leaderOf(ctx, f.fleet)
	if l == nil {
		return nil
	}
	f.say("transfer leadership from %s", l.Name)
	_, err := l.CLI(ctx, "cluster", "transfer-leader")
	return err
}

// members adds a node, or takes one away for good that was killed before.
func (f *faults) members(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if len(f.fleet.Nodes) <= f.nodes {
		return f.add(ctx)
	}
	return f.remove(ctx)
}

func (f *faults) add(ctx context.Context) error {
	n, err := f.fleet.Add(ctx, f.someNode())
	if n == nil {
		return err
	}
	f.say("add %s", n.Name)
	if err != nil {
		// It may have become a member or not: it goes as one that was.
		return errors.Join(err, f.removeNode(ctx, n))
	}
	f.reach(f.fleet.Nodes)
	return nil
}

func (f *faults) remove(ctx context.Context) error { return f.removeNode(ctx, f.victim(ctx)) }

func (f *faults) removeNode(ctx context.Context, n *fleet.Node) error {
	f.say("kill %s and remove it", n.Name)
	if err := f.fleet.Drop(n); err != nil {
		return err
	}
	f.reach(f.fleet.Nodes)
	for {
		_, err := f.someNode().CLI(ctx, "cluster", "remove", n.Name, "--force")
		if err == nil || strings.Contains(err.Error(), "no node") || strings.Contains(err.Error(), "no member") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s was not removed: %w", n.Name, err)
		case <-time.After(time.Second):
		}
	}
}

// end heals everything.
func (f *faults) end(ctx context.Context) error {
	f.fleet.Wires.Heal(false)
	var errs []error
	for _, n := range f.fleet.Nodes {
		n.Thaw()
		if !n.Running() {
			errs = append(errs, n.Start(ctx))
		}
	}
	return errors.Join(errs...)
}

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

// faults happen to a fleet one after the other; each heals before the next.
type faults struct {
	fleet *fleet.Fleet
	rng   *rand.Rand
	nodes int // as many there shall be
	// reach is told who there is.
	reach func([]*fleet.Node)
	say   func(format string, args ...any)
	done  int // how many have happened
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
	{"drain", 1, (*faults).drain},
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
			f.done++
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

// transfer hands leadership over, by whichever node is asked; there may be
// nobody to take it.
func (f *faults) transfer(ctx context.Context) error {
	n := f.someNode()
	f.say("transfer leadership, asked of %s", n.Name)
	_, err := n.CLI(ctx, "cluster", "transfer-leader")
	return err
}

// drain lets a node hand over what it leads, and takes that back.
func (f *faults) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	n, asked := f.victim(ctx), f.someNode()
	f.say("drain and undrain %s", n.Name)
	if _, err := asked.CLI(ctx, "cluster", "drain", n.Name); err != nil {
		return err
	}
	f.rest(ctx, 0, time.Second)
	_, err := f.someNode().CLI(ctx, "cluster", "undrain", n.Name)
	return err
}

// members adds a node, or takes one away for good: in good order while it runs,
// or by force after it was killed.
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

func (f *faults) remove(ctx context.Context) error {
	n := f.victim(ctx)
	if f.rng.IntN(2) == 0 {
		return f.removeNode(ctx, n)
	}
	asked := f.someNode()
	for asked == n {
		asked = f.someNode()
	}
	f.say("remove %s", n.Name)
	if _, err := asked.CLI(ctx, "cluster", "remove", n.Name, "--timeout", "30s"); err != nil {
		return errors.Join(err, f.removeNode(ctx, n))
	}
	f.reach(slices.DeleteFunc(slices.Clone(f.fleet.Nodes), func(m *fleet.Node) bool { return m == n }))
	return f.fleet.Drop(n)
}

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
	return errors.Join(append(errs, f.undrainAll(ctx))...)
}

// undrainAll ends drains whose end was cut short by another fault.
func (f *faults) undrainAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, n := range f.fleet.Nodes {
		for {
			st, err := newClient(n).status(ctx)
			if i := slices.IndexFunc(st.Nodes, func(m nodeStatus) bool { return m.Name == n.Name }); err == nil && i >= 0 {
				if st.Nodes[i].State != "draining" {
					break
				}
				_, err = n.CLI(ctx, "cluster", "undrain", n.Name)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("undrain %s: %w", n.Name, err)
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	return nil
}

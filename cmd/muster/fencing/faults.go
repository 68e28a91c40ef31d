package fencing

import (
	"context"
	"slices"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// freeze stops a node in the middle of what it does; the func lets it go on.
func (a *act) freeze(n *fleet.Node) (thaw func()) {
	running := a.ledger.frozen(n.Name)
	n.Freeze()
	return func() {
		running() // before it goes on: what it does from then on counts
		n.Thaw()
	}
}

// cut parts two groups of nodes; out and in say in which direction, seen from
// the first. Nothing heals but all together, by the func.
func (a *act) cut(these, those []*fleet.Node, out, in bool) (heal func(broken bool)) {
	var mended []func()
	for _, x := range these {
		for _, y := range those {
			if x == y || slices.Contains(these, y) {
				continue
			}
			mended = append(mended, a.ledger.severed(x.Name, y.Name))
			if out {
				a.fleet.Wires.Cut(x.Name, y.Name)
			}
			if in {
				a.fleet.Wires.Cut(y.Name, x.Name)
			}
		}
	}
	return func(broken bool) {
		a.fleet.Wires.Heal(broken)
		for _, f := range mended {
			f()
		}
	}
}

// deafen notes that a node hears of no change from now on.
func (a *act) deafen(ctx context.Context, n *fleet.Node) (mended func(), err error) {
	all, err := membersOf(ctx, a.leader)
	if err != nil {
		return nil, err
	}
	var newest uint64
	for _, m := range all {
		newest = max(newest, m.Applied)
	}
	return a.ledger.deaf(n.Name, newest), nil
}

package simulate

import (
	"fmt"
	"slices"

	"github.com/muster-metrics/muster/ring"
)

// Input is a cluster and what happens to it.
type Input struct {
	Nodes []Node
	// Add joins so many usual nodes, one after the other, the zones in turn;
	// then Remove takes away the first ones.
	Add, Remove int
	RF, Quorum  int
	Slots       int
	// Series of all tenants; Tenants of them share these with the exponent Zipf.
	Series  float64
	Tenants int
	Zipf    float64
	// Request is how many series a request has; Fail how many nodes are lost at
	// once, at most.
	Request float64
	Fail    int
	// Tries bounds how many combinations of lost nodes are looked at.
	Tries int
	Seed  uint64
}

// Result is what came of it, of one way of placing.
type Result struct {
	Name string
	Arcs int
	// Sets is the number of distinct replica sets before the change.
	Sets                 int
	Before, After        []float64 // series of each node
	EvenBefore, EvenThen Balance
	// Steps is what each join and each removal moved, as Layout.Moved tells.
	Steps  []float64
	Losses []Loss
}

// Check says what is wrong with an input.
func (in Input) Check() error {
	zones := map[int]bool{}
	for _, n := range in.Nodes {
		zones[n.Zone] = true
	}
	n := len(in.Nodes)
	switch {
	case n < 1 || n+in.Add > maxNodes:
		return fmt.Errorf("%d nodes: want 1 to %d", n+in.Add, maxNodes)
	case in.RF < 1 || in.RF > ring.MaxReplicas:
		return fmt.Errorf("replication factor %d: want 1 to %d", in.RF, ring.MaxReplicas)
	case in.RF > n:
		return fmt.Errorf("%d nodes for %d replicas", n, in.RF)
	case in.Quorum < 1 || in.Quorum > in.RF:
		return fmt.Errorf("quorum %d of %d replicas", in.Quorum, in.RF)
	case in.Slots < 1 || in.Slots > ring.MaxSlots || in.Slots&(in.Slots-1) != 0:
		return fmt.Errorf("slots %d: want a power of two, at most %d", in.Slots, ring.MaxSlots)
	case in.Add < 0 || in.Remove < 0 || in.Remove > n+in.Add-in.RF:
		return fmt.Errorf("add %d, remove %d: want none or more of both, and %d nodes at least that stay", in.Add, in.Remove, in.RF)
	case in.Tenants < 1 || in.Tenants > maxTenants || in.Series < 1:
		return fmt.Errorf("%d tenants with %.0f series: want at least one of each, and at most %d tenants", in.Tenants, in.Series, maxTenants)
	case !(in.Zipf >= 0 && in.Zipf <= maxZipf):
		return fmt.Errorf("zipf %g: want 0, where all tenants are alike, to %d", in.Zipf, maxZipf)
	case in.Series > maxSeries:
		return fmt.Errorf("%g series: want at most %g", in.Series, maxSeries)
	case !(in.Request >= 1 && in.Request <= maxRequest):
		return fmt.Errorf("a request of %g series: want 1 to %d", in.Request, maxRequest)
	case in.Fail < 0 || in.Fail > maxFail || in.Tries < 1:
		return fmt.Errorf("fail %d: want 0 to %d", in.Fail, maxFail)
	}
	return nil
}

// Bounds of an input, so that its answer comes in seconds.
const (
	maxNodes   = 2000
	maxTenants = 1_000_000
	maxFail    = 5
	maxZipf    = 10
	maxSeries  = 1e15
	maxRequest = 1_000_000
)

// Run simulates the slot table and its rivals.
func Run(in Input) ([]Result, error) {
	if err := in.Check(); err != nil {
		return nil, err
	}
	slots, err := in.slots()
	if err != nil {
		return nil, err
	}
	few := func(nodes []Node) (Layout, error) { return OfSlots(FewSets(nodes, in.RF, in.Slots)), nil }
	out := []Result{slots}
	for _, rival := range []struct {
		name string
		lay  func([]Node) (Layout, error)
	}{
		{"few replica sets", few},
		{"ketama, 1000 sections", func(n []Node) (Layout, error) { return Ketama(n, in.RF, 1000), nil }},
		{"128 random tokens", func(n []Node) (Layout, error) { return Tokens(n, in.RF, 128, in.Seed), nil }},
		{"512 random tokens", func(n []Node) (Layout, error) { return Tokens(n, in.RF, 512, in.Seed), nil }},
	} {
		r, err := in.run(rival.name, false, rival.lay)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// slots runs the table: each plan begins with the one before.
func (in Input) slots() (Result, error) {
	var table []ring.Set
	return in.run("slot table", true, func(nodes []Node) (l Layout, err error) {
		table, err = Slots(table, nodes, in.RF, in.Slots)
		return OfSlots(table), err
	})
}

// run lays the nodes out, changes them step by step and measures.
func (in Input) run(name string, weighted bool, lay func([]Node) (Layout, error)) (Result, error) {
	nodes := slices.Clone(in.Nodes)
	now, err := lay(nodes)
	if err != nil {
		return Result{}, fmt.Errorf("place by %s: %w", name, err)
	}
	r := Result{Name: name, Arcs: now.Arcs(), Sets: now.Distinct()}
	all := len(in.Nodes) + in.Add
	r.Before = now.Series(in.Series, all, in.Seed)
	r.EvenBefore = BalanceOf(nodes, r.Before, weighted)
	tenants := Zipf(in.Tenants, in.Zipf, in.Series)
	for k := 1; k <= in.Fail; k++ {
		r.Losses = append(r.Losses, now.Lose(nodes, k, in.RF, in.Quorum, in.Request, tenants, in.Tries, in.Seed))
	}
	for range in.Add + in.Remove {
		nodes = in.next(nodes, len(r.Steps))
		next, err := lay(nodes)
		if err != nil {
			return Result{}, fmt.Errorf("step %d by %s: %w", len(r.Steps)+1, name, err)
		}
		r.Steps = append(r.Steps, now.Moved(next))
		now = next
	}
	r.After = now.Series(in.Series, all, in.Seed)
	r.EvenThen = BalanceOf(nodes, r.After, weighted)
	return r, nil
}

// next is the nodes after one more step.
func (in Input) next(nodes []Node, step int) []Node {
	if step < in.Add {
		zones := 1
		for _, n := range in.Nodes {
			zones = max(zones, n.Zone+1)
		}
		return append(slices.Clone(nodes), Node{Zone: (len(in.Nodes) + step) % zones})
	}
	nodes = slices.Clone(nodes)
	nodes[step-in.Add].Gone = true
	return nodes
}

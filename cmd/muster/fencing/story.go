package fencing

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
	"github.com/muster-metrics/muster/ring"
)

// Story is something that happens to a cluster while slots move.
type Story struct {
	Name string
	// happen casts the nodes first, then starts the load, then does it.
	happen func(context.Context, *act) error
}

// Report is what became of a story.
type Report struct {
	Story string
	// Acknowledged requests, and how many of the watched slots moved.
	Acknowledged, Moved, Watched int
	// Unaffected writes were of slots that did not change, at nodes that reached a
	// quorum; Refused counts those of them that were refused, which is 0.
	Unaffected, Refused int
	// Moving writes were of slots that moved; MovingRefused have to be repeated.
	Moving, MovingRefused int
	// Stale counts the series and shares that fences refused, Closed the writes
	// that an unaware node could not have acknowledged in a closed epoch, Partly
	// the requests of which all was stored but what had moved, and Late the samples
	// that former owners were offered too late and do not have.
	Stale, Closed, Partly, Late int
	// Complete and Incomplete answers of queries meanwhile.
	Complete, Incomplete int
	// Incompletes are what the latter said, cut short.
	Incompletes []string
	Findings    []string
}

func (r Report) String() string {
	return fmt.Sprintf("%d requests acknowledged; %d of %d slots moved; %d writes of the others, %d refused; %d of those, %d to be repeated; "+
		"fences refused %d series, %d writes in closed epochs, %d requests in part, %d late samples; %d answers complete, %d not",
		r.Acknowledged, r.Moved, r.Watched, r.Unaffected, r.Refused, r.Moving, r.MovingRefused,
		r.Stale, r.Closed, r.Partly, r.Late, r.Complete, r.Incomplete)
}

// Play lets a story happen and judges it. The error means that it could not be
// judged.
func (s *Scene) Play(ctx context.Context, story Story) (Report, error) {
	r := Report{Story: story.Name}
	a, err := s.begin(ctx)
	if err != nil {
		return r, err
	}
	defer func() {
		if a.stopLoad != nil {
			a.stopLoad()
		}
		for _, n := range s.fleet.Nodes {
			n.Thaw() // a story that broke off
		}
		s.fleet.Wires.Heal(false)
		a.running.Wait()
	}()
	if err := story.happen(ctx, a); err != nil {
		return r, err
	}
	if err := a.end(ctx); err != nil {
		return r, fmt.Errorf("after the story: %w", err)
	}
	return a.judge(ctx, r)
}

// judge asks every node a last time and draws the sum.
func (a *act) judge(ctx context.Context, r Report) (Report, error) {
	for _, n := range a.fleet.Nodes {
		if err := a.lastAnswer(ctx, n); err != nil {
			r.Findings = append(r.Findings, err.Error())
		}
	}
	a.ask(a.leader)
	after, err := a.look(ctx)
	if err != nil {
		return r, err
	}
	v := judgeWrites(a.load, a.chronicle, a.before, after)
	_, late, findings, err := judgeStores(ctx, a.load, a.chronicle, a.fleet.Nodes)
	if err != nil {
		return r, err
	}
	for _, p := range a.ledger.all() {
		if p.acked() {
			r.Acknowledged++
		}
	}
	for _, n := range a.load.slots() {
		if a.before.Slots[n].Changed != after.Slots[n].Changed {
			r.Moved++
		}
	}
	r.Watched, r.Stale, r.Late = len(a.load.series), int(a.stale), late
	r.Unaffected, r.Refused, r.Moving, r.MovingRefused = v.unaffected, v.unaffectedRefused, v.moving, v.movingRefused
	r.Closed, r.Partly = v.closed, v.partly
	r.Complete, r.Incomplete = a.readers.complete, a.readers.incomplete
	for text, n := range a.readers.said {
		r.Incompletes = append(r.Incompletes, fmt.Sprintf("%d × %s", n, text))
	}
	slices.Sort(r.Incompletes)
	r.Findings = slices.Concat(r.Findings, a.readers.findings, v.findings, findings)
	if r.Stale == 0 {
		r.Findings = append(r.Findings, "no share met a fence: the story has shown nothing")
	}
	if r.Moved == 0 || r.Moved == r.Watched || r.Unaffected == 0 {
		r.Findings = append(r.Findings, "no slot moved, or all of them: the story has shown nothing")
	}
	return r, nil
}

// lastAnswer waits until a node of the healed cluster gives a complete answer.
func (a *act) lastAnswer(ctx context.Context, n *fleet.Node) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		ok, says := a.readers.once(ctx, n)
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s gives no complete answer though all is healed: %s", n.Name, says)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// watchedOf is how many slots of each kind a story writes to.
const watchedOf = 12

// watch chooses slots that will move when the nodes have these weights, and as
// many that will not. first, where it is not nil, chooses half of either.
func (a *act) watch(nodes []ring.Node, rf int, first func(slot) bool) []int {
	t, err := ringOf(a.before)
	if err != nil {
		return nil
	}
	target := ring.Plan(t, nodes, rf)
	var move, stay []int
	for i := range a.before.Slots {
		if t.At(i).Replicas.Same(target[i]) {
			stay = append(stay, i)
		} else {
			move = append(move, i)
		}
	}
	return append(a.choose(move, first), a.choose(stay, first)...)
}

func (a *act) choose(from []int, first func(slot) bool) []int {
	a.rng.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	if first != nil {
		slices.SortStableFunc(from, func(x, y int) int { return rank(first, a.before.Slots[x]) - rank(first, a.before.Slots[y]) })
		half := min(len(from), watchedOf/2)
		return append(slices.Clone(from[:half]), from[max(half, len(from)-watchedOf/2):]...)
	}
	return from[:min(len(from), watchedOf)]
}

func rank(first func(slot) bool, s slot) int {
	if first(s) {
		return 0
	}
	return 1
}

// ringOf is the table for the planner: a node's store is the number in its name,
// as they joined in that order.
func ringOf(t table) (*ring.Table, error) {
	slots := make([]ring.Slot, len(t.Slots))
	for i, s := range t.Slots {
		set := ring.Set{}
		for _, n := range s.Replicas {
			set = set.With(storeOf(n))
		}
		slots[i] = ring.Slot{Replicas: set, Quorum: s.Quorum, Changed: s.Changed}
	}
	return ring.New(slots, nil)
}

func storeOf(node string) ring.Store {
	var n uint32
	_, _ = fmt.Sscanf(node, "n%d", &n) // fleet names its nodes so
	return ring.Store(n)
}

// weighed are the nodes with their weights, where one has another; nil: where
// one more has joined.
func (a *act) weighed(heavy *fleet.Node) []ring.Node {
	var nodes []ring.Node
	if heavy == nil {
		nodes = append(nodes, ring.Node{Store: ring.Store(len(a.fleet.Nodes) + 1), Weight: usual})
	}
	for _, n := range a.fleet.Nodes {
		w := uint32(usual)
		if n == heavy {
			w = raised
		}
		nodes = append(nodes, ring.Node{Store: storeOf(n.Name), Weight: w})
	}
	return nodes
}

// without are the nodes when one has gone.
func (a *act) without(leaver *fleet.Node) []ring.Node {
	return slices.DeleteFunc(a.weighed(leaver), func(n ring.Node) bool { return n.Store == storeOf(leaver.Name) })
}

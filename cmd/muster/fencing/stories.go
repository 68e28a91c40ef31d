package fencing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// Frozen is this: a coordinator is frozen with requests in flight while slots move and
// their epochs close, and goes on with what it believed before.
var Frozen = Story{"a frozen coordinator", func(ctx context.Context, a *act) error {
	victim, gains := a.bystanders()
	if err := a.start(ctx, a.metric("frozen"), a.watch(a.weighed(gains), a.cfg.Factor, nil)); err != nil {
		return err
	}
	a.lull(ctx, 500*time.Millisecond)
	thaw := a.freeze(victim)
	wait := a.load.burst(ctx, victim)
	if err := a.raise(ctx, gains); err != nil {
		return err
	}
	if err := a.settled(ctx, func(slot) bool { return true }); err != nil {
		return err
	}
	a.lull(ctx, a.cfg.Hold+3*lookPace) // so that the chronicle is sure of it
	thaw()
	wait()
	a.lull(ctx, time.Second)
	return nil
}}

// Removed is Frozen while a further node is removed for good. Some of its slots
// can go to nobody but the frozen one, and wait for it.
var Removed = Story{"a frozen coordinator while a node is removed", func(ctx context.Context, a *act) error {
	var victim *fleet.Node
	if victim, a.leaver = a.bystanders(); a.leaver == nil {
		return fmt.Errorf("with %d nodes none may leave", len(a.fleet.Nodes))
	}
	if err := a.start(ctx, a.metric("removed"), a.watch(a.without(a.leaver), a.cfg.Factor, nil)); err != nil {
		return err
	}
	a.lull(ctx, 500*time.Millisecond)
	thaw := a.freeze(victim)
	wait := a.load.burst(ctx, victim)
	gone := a.remove(ctx, a.leaver)
	if err := a.settled(ctx, func(slot) bool { return true }); err != nil {
		return err
	}
	a.lull(ctx, 3*lookPace)
	thaw()
	wait()
	return gone()
}}

// CutOff, Muted and Deafened: a receiver is cut off from all others while slots
// move, both ways, or so that it is not heard, or hears nothing.
var (
	CutOff   = Story{"a receiver cut off", func(ctx context.Context, a *act) error { return a.receiver(ctx, "cutoff", true, true) }}
	Muted    = Story{"a receiver that is not heard", func(ctx context.Context, a *act) error { return a.receiver(ctx, "muted", true, false) }}
	Deafened = Story{"a receiver that hears nothing", func(ctx context.Context, a *act) error { return a.receiver(ctx, "deafened", false, true) }}
)

func (a *act) receiver(ctx context.Context, name string, out, in bool) error {
	victim, gains := a.bystanders()
	if err := a.start(ctx, a.metric(name), a.watch(a.weighed(gains), a.cfg.Factor, nil)); err != nil {
		return err
	}
	a.lull(ctx, 500*time.Millisecond)
	heal := a.cut([]*fleet.Node{victim}, a.fleet.Nodes, out, in)
	hears := func() {}
	if in {
		var err error
		if hears, err = a.deafen(ctx, victim); err != nil {
			return err
		}
	}
	if err := a.raise(ctx, gains); err != nil {
		return err
	}
	if err := a.settled(ctx, func(slot) bool { return true }); err != nil {
		return err
	}
	a.lull(ctx, a.cfg.Hold+3*lookPace)
	wait := a.load.burst(ctx, victim)
	a.lull(ctx, time.Second)
	hears()
	heal(a.rng.IntN(2) == 0 && !in)
	wait()
	a.lull(ctx, time.Second)
	return nil
}

// TwoCoordinators is this: one node hears nothing of the leader but reaches all others.
// It and they write the same series at the same time, by different revisions.
var TwoCoordinators = Story{"two coordinators", func(ctx context.Context, a *act) error {
	victim, gains := a.bystanders()
	if err := a.start(ctx, a.metric("two"), a.watch(a.weighed(gains), a.cfg.Factor, nil)); err != nil {
		return err
	}
	a.lull(ctx, 500*time.Millisecond)
	heal := a.cut([]*fleet.Node{victim}, []*fleet.Node{a.leader}, true, true)
	hears, err := a.deafen(ctx, victim)
	if err != nil {
		return err
	}
	if err := a.raise(ctx, gains); err != nil {
		return err
	}
	if err := a.settled(ctx, func(slot) bool { return true }); err != nil {
		return err
	}
	// A write waits five seconds for the leader's vote.
	a.lull(ctx, a.cfg.Hold+6500*time.Millisecond)
	hears()
	heal(false)
	a.lull(ctx, time.Second)
	return nil
}}

// Minority is this: two of five nodes are cut off together, with clients on their side,
// and the ring is taken away from one of them, so that no slot has a quorum there
// any more. By what the two know they go on acknowledging where they hold two of
// three replicas. Nobody may call these epochs closed, nor an answer complete,
// though a quorum of every slot's new replicas answers.
var Minority = Story{"a minority under an open epoch", func(ctx context.Context, a *act) error {
	if len(a.others) < 2 {
		return fmt.Errorf("a minority of two needs two nodes that do not vote, there are %d", len(a.others))
	}
	away := a.others[:2]
	theirs := func(s slot) bool { return has(s.Replicas, away[0]) && has(s.Replicas, away[1]) }
	if err := a.start(ctx, a.metric("minority"), a.watch(a.without(away[0]), a.cfg.Factor, theirs)); err != nil {
		return err
	}
	a.lull(ctx, 500*time.Millisecond)
	heal := a.cut(away, a.fleet.Nodes, true, true)
	hear := make([]func(), len(away))
	for i, n := range away {
		var err error
		if hear[i], err = a.deafen(ctx, n); err != nil {
			return err
		}
	}
	if err := a.exclude(ctx, away[0]); err != nil {
		return err
	}
	if err := a.settled(ctx, func(s slot) bool { return !theirs(s) }); err != nil {
		return err
	}
	begun := time.Now()
	a.insist(ctx, away, theirs, 3*time.Second)
	// Now there is something that an answer without them would lack.
	if err := a.readers.answered(ctx, append([]*fleet.Node{a.leader}, a.voters...), time.Now()); err != nil {
		return err
	}
	open, waitingFor, acked, err := a.openOf(ctx, theirs, away, begun)
	if err != nil {
		return err
	}
	for _, n := range away {
		if !slices.Contains(waitingFor, n.Name) {
			a.readers.note("%s keeps epochs open and is not named: waiting for %v", n.Name, waitingFor)
		}
	}
	if open == 0 || acked == 0 {
		a.readers.note("%d epochs of the minority's slots are open, %d writes were acknowledged there: the story has shown nothing", open, acked)
	}
	for _, f := range hear {
		f()
	}
	heal(a.rng.IntN(2) == 0)
	a.lull(ctx, time.Second)
	return nil
}}

// insist writes the series of some slots to nodes, one request after the other.
func (a *act) insist(ctx context.Context, to []*fleet.Node, which func(slot) bool, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		for i, s := range a.load.series {
			if !which(a.before.Slots[s.slot]) {
				continue
			}
			for _, n := range to {
				a.load.one(ctx, n, i)
			}
		}
		a.lull(ctx, writePace)
	}
}

// openOf looks at slots that have moved away from nodes that do not know: how
// many have an open epoch, whom the closing waits for, and how many writes these
// nodes have acknowledged since.
func (a *act) openOf(ctx context.Context, which func(slot) bool, away []*fleet.Node, since time.Time) (open int, waitingFor []string, acked int, err error) {
	t, err := a.look(ctx)
	if err != nil {
		return 0, nil, 0, err
	}
	moved := map[int]bool{}
	for i, s := range a.load.series {
		if was, is := a.before.Slots[s.slot], t.Slots[s.slot]; which(was) && was.Changed != is.Changed {
			moved[i] = true
			if is.OpenEpochs > 0 {
				open++
			} else {
				a.readers.note("the epoch of slot %d, of %v, is closed while a quorum of them cannot have announced its end", s.slot, was.Replicas)
			}
		}
	}
	for _, p := range a.ledger.all() {
		if p.acked() && moved[p.which] && p.began.After(since) && slices.ContainsFunc(away, func(n *fleet.Node) bool { return n.Name == p.node }) {
			acked++
		}
	}
	return open, t.WaitingFor, acked, nil
}

// Restart is this: in the middle of a move all voters are killed. One comes back, so
// that nobody leads; the others go on by the last state that each has. One of
// these has not heard of the move.
var Restart = Story{"a leaderless restart in the middle of a move", func(ctx context.Context, a *act) error {
	if len(a.others) < 2 || len(a.voters) < 2 {
		return fmt.Errorf("there are %d voters besides the leader and %d others, two of each are needed", len(a.voters), len(a.others))
	}
	deaf, hears, back := a.others[0], a.others[1], a.voters[0]
	if err := a.start(ctx, a.metric("restart"), a.watch(a.weighed(hears), a.cfg.Factor, func(s slot) bool { return has(s.Replicas, back) && has(s.Replicas, deaf) })); err != nil {
		return err
	}
	a.lull(ctx, 500*time.Millisecond)
	heal := a.cut([]*fleet.Node{deaf}, []*fleet.Node{a.leader}, true, true)
	told, err := a.deafen(ctx, deaf)
	if err != nil {
		return err
	}
	a.ask(hears)
	moving, cancel := context.WithCancel(ctx)
	moved := make(chan error, 1)
	go func() { moved <- a.raise(moving, hears) }()
	err = a.await(ctx, "some slots have moved", func(t table) bool {
		return slices.ContainsFunc(a.load.series, func(s series) bool { return t.Slots[s.slot].Changed != a.before.Slots[s.slot].Changed })
	})
	a.countStale(ctx)
	voters := append([]*fleet.Node{a.leader}, a.voters...)
	var up []func()
	for _, n := range voters {
		up = append(up, a.ledger.severed(n.Name, ""))
		n.Kill()
	}
	cancel()
	<-moved //nolint:errcheck // cut short
	if err != nil {
		return err
	}
	heal(true)
	if err := a.back(ctx, back); err != nil {
		return err
	}
	up[slices.Index(voters, back)]()
	a.lull(ctx, a.cfg.Hold+heard+4*time.Second)
	a.countStale(ctx)
	told() // whoever comes back may lead
	for i, n := range voters {
		if n == back {
			continue
		}
		if err := a.back(ctx, n); err != nil {
			return err
		}
		up[i]()
	}
	return nil
}}

// back starts a killed node and waits until it takes writes.
func (a *act) back(ctx context.Context, n *fleet.Node) error {
	if err := n.Start(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return n.AwaitReady(ctx)
}

// Silent is this: with a write quorum of one, a store that says nothing holds the moves
// of its slots up, and not their writes, and is named.
var Silent = Story{"a silent store and a quorum of one", func(ctx context.Context, a *act) error {
	victim, gains := a.bystanders()
	of := func(s slot) bool { return has(s.Replicas, victim) }
	if err := a.start(ctx, a.metric("silent"), a.watch(a.weighed(gains), a.cfg.Factor, of)); err != nil {
		return err
	}
	a.lull(ctx, 500*time.Millisecond)
	thaw := a.freeze(victim)
	wait := a.load.burst(ctx, victim)
	if err := a.raise(ctx, gains); err != nil {
		return err
	}
	if err := a.settled(ctx, func(s slot) bool { return !of(s) }); err != nil {
		return err
	}
	held, err := a.look(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(held.WaitingFor, []string{victim.Name}) {
		a.readers.note("%s holds %d epochs open, %v are named", victim.Name, held.OpenEpochs, held.WaitingFor)
	}
	// Back again: the slots of open epochs must stay, however long that is asked for.
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	err = a.weigh(short, gains, usual)
	cancel()
	if err == nil {
		a.readers.note("a rebalance returned while %s had not announced the step before", victim.Name)
	}
	now, err := a.look(ctx)
	if err != nil {
		return err
	}
	open := 0
	for _, n := range a.load.slots() {
		if held.Slots[n].OpenEpochs == 0 {
			continue
		}
		open++
		if now.Slots[n].Changed != held.Slots[n].Changed || now.Slots[n].OpenEpochs == 0 {
			a.readers.note("slot %d has gone on from revision %d to %d, %d epochs open, while %s was silent", n,
				held.Slots[n].Changed, now.Slots[n].Changed, now.Slots[n].OpenEpochs, victim.Name)
		}
	}
	if open == 0 {
		a.readers.note("no epoch was held open: the story has shown nothing")
	}
	thaw()
	wait()
	return nil
}}

// note keeps a finding of the story itself.
func (r *readers) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.findings = append(r.findings, fmt.Sprintf(format, args...))
}

// bystanders are a node to suffer and one to gain slots; neither leads. Where
// every node holds every slot the one that gains is still to come: nil.
func (a *act) bystanders() (suffers, gains *fleet.Node) {
	all := slices.Concat(a.voters, a.others)
	a.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if len(a.fleet.Nodes) == a.cfg.Factor {
		return all[0], nil
	}
	return all[0], all[1]
}

// settled waits until those of the watched slots that have moved, and which
// likes as they were before, have no open epoch.
func (a *act) settled(ctx context.Context, which func(slot) bool) error {
	return a.await(ctx, "the epochs of the slots that moved are closed", func(t table) bool {
		moved := 0
		for _, n := range a.load.slots() {
			if a.before.Slots[n].Changed == t.Slots[n].Changed {
				continue
			}
			if moved++; t.Slots[n].OpenEpochs > 0 && which(a.before.Slots[n]) {
				return false
			}
		}
		return moved > 0
	})
}

func has(replicas []string, n *fleet.Node) bool { return slices.Contains(replicas, n.Name) }

// metric is a name that no story before had.
func (a *act) metric(name string) string {
	a.told++
	return fmt.Sprintf("fence_%s_%d", strings.ToLower(name), a.told)
}

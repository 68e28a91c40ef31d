package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// observed is the hash of a node's state at a revision.
type observed struct{ revision, hash uint64 }

// observations are what a report says: the state now, and at the last check.
func observations(r *clusterpb.Report) []observed {
	var out []observed
	if r.GetStateHash() != 0 {
		out = append(out, observed{r.GetApplied(), r.GetStateHash()})
	}
	if at := (observed{r.GetCheckRevision(), r.GetCheckHash()}); at.hash != 0 && (len(out) == 0 || at != out[0]) {
		out = append(out, at)
	}
	return out
}

// divergent compares the hashes that members report at one revision. Whoever
// differs from what a majority of the voters has there is named; split are the
// revisions at which voters differ and none is the majority.
func divergent(reports []*clusterpb.Report, voters map[string]bool) (names map[string]uint64, split []uint64) {
	votes := map[observed]int{}
	hashes := map[uint64]int{} // different hashes of voters by revision
	for _, r := range reports {
		if !voters[r.GetNode()] {
			continue
		}
		for _, at := range observations(r) {
			if votes[at] == 0 {
				hashes[at.revision]++
			}
			votes[at]++
		}
	}
	truth := map[uint64]uint64{}
	for k, n := range votes {
		if n > len(voters)/2 {
			truth[k.revision] = k.hash
		}
	}
	names = map[string]uint64{}
	for _, r := range reports {
		for _, at := range observations(r) {
			if want, ok := truth[at.revision]; ok && at.hash != want {
				names[r.GetNode()] = max(names[r.GetNode()], at.revision)
			}
		}
	}
	for revision, n := range hashes {
		if _, ok := truth[revision]; !ok && n > 1 {
			split = append(split, revision)
		}
	}
	return names, split
}

// finding is what comparing the states has shown, by member, in words.
type finding struct {
	// diverged differ from the majority's; disputed are voters of whom none has
	// the majority's state, since there is none.
	diverged, disputed map[string]string
}

func (n *Node) compare(e *engine, now time.Time) finding {
	voters := map[string]bool{}
	for _, s := range e.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters[nodeOf(s.ID)] = true
		}
	}
	var reports []*clusterpb.Report
	for _, m := range n.State().Members() {
		if c, ok := n.health.Of(m); ok && now.Sub(c.heard) <= n.cfg.Timing.Fresh {
			reports = append(reports, c.report)
		}
	}
	names, split := divergent(reports, voters)
	f := finding{map[string]string{}, map[string]string{}}
	for name, revision := range names {
		f.diverged[name] = fmt.Sprintf("its control state differs from the majority's at revision %d", revision)
	}
	for _, revision := range split {
		for _, r := range reports {
			for _, at := range observations(r) {
				if voters[r.GetNode()] && at.revision == revision {
					f.disputed[r.GetNode()] = fmt.Sprintf("the voters' control states differ at revision %d and none is the majority's", revision)
				}
			}
		}
	}
	return f
}

// checkStates has every node note its state's hash at one revision, now and
// then: nodes that are never still at the same revision would not be compared
// otherwise.
func (n *Node) checkStates(ctx context.Context, e *engine) error {
	if !n.planned.CheckDue(n.State().Revision(), n.cfg.Timing.Check, time.Now()) {
		return nil
	}
	if err := n.commit(ctx, e, &clusterpb.Command{Change: &clusterpb.Command_CheckState{CheckState: &clusterpb.CheckState{}}}); err != nil {
		return err
	}
	n.planned.Checked(n.State().Revision())
	return nil
}

// compareStates raises the alarm, once for each finding, and acts where there
// is a majority to go by: a leader whose own state is wrong hands over; a voter
// whose state is wrong loses its vote, and then fetches its state anew (heal).
// Where there is none nobody knows who is right, and nobody is stopped.
func (n *Node) compareStates(ctx context.Context, e *engine) error {
	now := time.Now()
	f := n.compare(e, now)
	text := fmt.Sprint(f)
	if text != n.planned.Finding(text) {
		for name, why := range f.diverged {
			n.log.Error("control states differ", "node", name, "what", why)
		}
		for name, why := range f.disputed {
			n.log.Error("control states differ", "node", name, "what", why, "next", "compare `muster cluster events -o json` of these nodes, then restore a snapshot")
		}
	}
	if why := f.diverged[n.cfg.Name]; why != "" {
		return n.yield(ctx, e, why)
	}
	conf := e.raft.GetConfiguration()
	servers := conf.Configuration().Servers
	for _, s := range servers {
		if s.Suffrage != raft.Voter || f.diverged[nodeOf(s.ID)] == "" {
			continue
		}
		if !n.enoughWithout(servers, nodeOf(s.ID), f, now) {
			return fmt.Errorf("%s keeps its vote though %s: too few other voters are heard", nodeOf(s.ID), f.diverged[nodeOf(s.ID)])
		}
		return n.demote(ctx, e, s, conf.Index())
	}
	return nil
}

// enoughWithout says whether the voters other than this one are a quorum of
// themselves, as far as they are heard and of one state.
func (n *Node) enoughWithout(servers []raft.Server, without string, f finding, now time.Time) bool {
	others, well := 0, 0
	for _, s := range servers {
		name := nodeOf(s.ID)
		if s.Suffrage != raft.Voter || name == without {
			continue
		}
		others++
		if m := n.State().Member(name); m != nil && f.diverged[name] == "" && (name == n.cfg.Name || n.health.Live(m, now)) {
			well++
		}
	}
	return well > others/2
}

// yield hands leadership over, once in a while until somebody takes it: this
// node should not lead.
func (n *Node) yield(ctx context.Context, e *engine, why string) error {
	if _, err := n.successor(e, handOver{}); err != nil {
		n.log.Debug("this node leads and should not", "why", why, "err", err)
		return nil // nobody yet; the next round looks again
	}
	if !n.yielding.MayTry(time.Now()) {
		return nil
	}
	n.log.Error("this node leads and should not: it hands over", "why", why)
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Wait)
	defer cancel()
	return n.transfer(ctx, handOver{})
}

// mind takes from the leader's answer how this node's own state compares, and
// has it fetched anew where it is wrong.
func (n *Node) mind(e *engine, answer *clusterpb.HeartbeatResponse) {
	if answer.GetClockMs() == 0 {
		return // not from the leader: hearsay
	}
	why := ""
	for _, h := range answer.GetMembers() {
		if h.GetReport().GetNode() == n.cfg.Name {
			why = h.GetDiverged()
		}
	}
	n.diverged.Store(&why)
	if why == "" || n.fsm.Doubted() != "" || !n.hasNoVote(e) {
		return
	}
	n.crew.Go(func() { n.heal(e, why) })
}

// hasNoVote says whether it is committed that this node does not vote. A voter
// must not lose its log: the others count on it.
func (n *Node) hasNoVote(e *engine) bool {
	for _, servers := range [][]raft.Server{n.fsm.Configuration().Servers, e.raft.GetConfiguration().Configuration().Servers} {
		found := false
		for _, s := range servers {
			if s.ID == e.local {
				found = s.Suffrage == raft.Nonvoter
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// heal drops this node's part of the log and has the leader send it again, from
// a snapshot or the beginning. Samples are not touched, and the state that was
// served by so far is served by until a whole one is there. What is dropped is
// kept aside once, for whoever wants to know what has happened.
func (n *Node) heal(old *engine, why string) {
	n.forming.Lock()
	defer n.forming.Unlock()
	if n.ctx.Err() != nil || n.engine.Load() != old || n.fsm.Doubted() != "" {
		return
	}
	n.log.Error("the control state of this node is fetched anew from the leader; samples are not touched", "why", why, "aside", asideDir(n.raftDir()))
	if err := old.Close(); err != nil {
		n.log.Error("stop raft", "err", err)
	}
	e, err := n.beginAnew(why)
	if err != nil {
		// State and samples are served on; changes need a restart.
		n.log.Error("the control state cannot be fetched anew: restart this node", "err", err)
		return
	}
	n.engine.Store(e)
	n.startLoops(e)
}

func (n *Node) beginAnew(why string) (*engine, error) {
	if err := n.keepFloor(n.State().Revision()); err != nil {
		return nil, err
	}
	if err := setAside(n.raftDir()); err != nil {
		return nil, err
	}
	store, err := openRaftStore(n.raftDir(), raftLogger(n.log))
	if err != nil {
		return nil, err
	}
	n.fsm.BeginAnew(store, why)
	e, err := n.runRaft(store)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return e, nil
}

// Doubt is why the state that this node has is not the cluster's, as far as it was
// told; "": it is. A write that is placed by such a state may be acknowledged
// where no reader looks for it.
func (n *Node) Doubt() string {
	if e := n.engine.Load(); e != nil && e.raft.State() == raft.Leader {
		return n.fsm.Doubted() // what another leader said of it is over
	}
	return cmp.Or(n.fsm.Doubted(), textOf(n.diverged.Load()))
}

// Ailments are why this node should not be relied on, a line each: what its own
// safeguards say, and what the leader has last said of it.
func (n *Node) Ailments() []string {
	var lines []string
	if why := n.fsm.Halted(); why != "" {
		lines = append(lines, "applies nothing more: "+why)
	}
	if why := textOf(n.diverged.Load()); why != "" {
		lines = append(lines, why+"; it is fetched anew from the leader")
	} else if why := n.fsm.Doubted(); why != "" {
		lines = append(lines, "its control state is being fetched anew: "+why)
	}
	if n.disk.Low() {
		lines = append(lines, n.disk.shortage())
	}
	return lines
}

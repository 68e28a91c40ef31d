package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// candidate is a member as the choice of voters sees it.
type candidate struct {
	Name, Zone string
	Voter      bool
	Leader     bool
	// Active says that it was made active: joining nodes get no vote.
	Active bool
	// Leaving says that it is being removed: another votes in its place.
	Leaving bool
	// Stable says that it was heard without a break for long enough, and
	// follows the log.
	Stable bool
	// Silent says that it was not heard for so long that another should vote in
	// its place.
	Silent bool
}

// votersWanted is three, or five from seven nodes.
func votersWanted(nodes int) int {
	switch {
	case nodes >= 7:
		return 5
	default:
		return min(nodes, 3)
	}
}

// chooseVoter says which single change brings the voters closer to what they
// should be: as many as wanted, that are heard, one per zone first. It promotes
// before it demotes: for a moment there may be one too many, never one too few.
// Both names are empty when nothing is to be done.
func chooseVoter(all []candidate) (promote, demote string) {
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.Name, b.Name) })
	zones := map[string]int{} // voters that are heard
	active, voters, heard := 0, 0, 0
	for _, c := range all {
		if c.Active {
			active++
		}
		if c.Voter {
			voters++
		}
		if c.Voter && !c.Silent && !c.Leaving {
			heard++
			zones[c.Zone]++
		}
	}
	want := votersWanted(active)
	if voters > want {
		return "", surplus(all, zones)
	}
	if next := newcomer(all, zones); next != nil && (heard < want || zones[next.Zone] == 0 && crowded(all, zones) && heard == voters) {
		return next.Name, ""
	}
	return "", ""
}

// newcomer is the member to get the next vote: of the zone with the fewest.
func newcomer(all []candidate, zones map[string]int) *candidate {
	var best *candidate
	for i := range all {
		c := &all[i]
		if c.Voter || !c.Active || !c.Stable {
			continue
		}
		if best == nil || zones[c.Zone] < zones[best.Zone] {
			best = c
		}
	}
	return best
}

// crowded says whether a voter who does not lead shares a zone with another.
func crowded(all []candidate, zones map[string]int) bool {
	return slices.ContainsFunc(all, func(c candidate) bool {
		return c.Voter && !c.Silent && !c.Leaving && !c.Leader && zones[c.Zone] > 1
	})
}

// surplus is the voter to lose its vote: one that is being removed, else a
// silent one, else one of the zone with the most; never the leader. While a
// leader is being removed it is nobody: it hands over first.
func surplus(all []candidate, zones map[string]int) string {
	for _, c := range all {
		if c.Voter && c.Leaving && !c.Leader {
			return c.Name
		}
	}
	if slices.ContainsFunc(all, func(c candidate) bool { return c.Leader && c.Leaving }) {
		return ""
	}
	var worst *candidate
	for i := range all {
		c := &all[i]
		if !c.Voter || c.Leader {
			continue
		}
		switch {
		case worst == nil,
			c.Silent && !worst.Silent,
			c.Silent == worst.Silent && zones[c.Zone] >= zones[worst.Zone]:
			worst = c
		}
	}
	if worst == nil {
		return ""
	}
	return worst.Name
}

// candidates gathers what the choice is made from.
func (n *Node) candidates(e *engine, servers []raft.Server, now time.Time) []candidate {
	st := n.State()
	voters := map[raft.ServerID]bool{}
	for _, s := range servers {
		voters[s.ID] = s.Suffrage == raft.Voter
	}
	began := n.planned.Began()
	found := n.compare(e, now)
	var out []candidate
	for _, m := range st.Members() {
		voter, known := voters[serverOf(st, m)]
		if !known {
			continue
		}
		c := candidate{
			Name: m.GetName(), Zone: m.GetZone(), Voter: voter, Active: eligible(m),
			Leader: serverOf(st, m) == e.local, Leaving: m.GetState() == clusterpb.MemberState_REMOVING,
		}
		heard := began
		if h, ok := n.health.Of(m); ok {
			heard = h.heard
			c.Stable = now.Sub(h.heard) <= n.cfg.Timing.Fresh && now.Sub(h.since) >= n.cfg.Timing.Stable &&
				h.report.GetApplied()+n.cfg.Timing.SnapshotThreshold > st.Revision() &&
				found.diverged[m.GetName()]+h.report.GetGuards().GetHealing()+h.report.GetGuards().GetHalted() == ""
		}
		c.Silent = now.Sub(heard) > n.cfg.Timing.Spare
		out = append(out, c)
	}
	return out
}

// chooseVoters makes at most one change of votes.
func (n *Node) chooseVoters(ctx context.Context, e *engine) error {
	future := e.raft.GetConfiguration()
	servers := future.Configuration().Servers
	promote, demote := chooseVoter(n.candidates(e, servers, time.Now()))
	for _, s := range servers {
		switch nodeOf(s.ID) {
		case promote:
			return n.promote(ctx, e, s, future.Index())
		case demote:
			return n.demote(ctx, e, s, future.Index())
		}
	}
	return nil
}

// promote gives a vote, and before it the CA's key: whoever may lead must be
// able to let nodes in.
func (n *Node) promote(ctx context.Context, e *engine, s raft.Server, index uint64) error {
	name := nodeOf(s.ID)
	ca, err := n.newestCA()
	switch {
	case errors.Is(err, pki.ErrAbsent):
		// A leader without the key can still lead; who has it offers it.
	case err != nil:
		return fmt.Errorf("read the CA's key: %w", err)
	default:
		if err := n.handOver(ctx, name, ca.Key()); err != nil {
			return err
		}
	}
	if err := e.wait(ctx, e.raft.AddVoter(s.ID, s.Address, index, n.cfg.Timing.Wait)); err != nil {
		return fmt.Errorf("give %s a vote: %w", name, err)
	}
	n.log.Info("node has a vote", "node", name)
	n.rounds.Ring()
	return nil
}

func (n *Node) demote(ctx context.Context, e *engine, s raft.Server, index uint64) error {
	name := nodeOf(s.ID)
	if err := e.wait(ctx, e.raft.DemoteVoter(s.ID, index, n.cfg.Timing.Wait)); err != nil {
		return fmt.Errorf("take the vote of %s: %w", name, err)
	}
	n.log.Info("node has no vote any more", "node", name)
	n.rounds.Ring()
	// Only voters have the key. One that is silent gives it up when it is heard
	// again: placeCAKey.
	if err := n.handOver(ctx, name, nil); err != nil {
		n.log.Warn("CA key not taken back", "node", name, "err", err)
	}
	return nil
}

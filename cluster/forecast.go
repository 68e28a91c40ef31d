package cluster

import (
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// Forecast is what a member's leaving means, in numbers.
type Forecast struct {
	// How many more nodes may fail before Raft or some slot loses its quorum:
	// now, and when all that follows from the change is done.
	ToleranceBefore, ToleranceAfter int
	// Slots are the slot replicas that the member holds.
	Slots int
	// Warnings are what else there is to know, a line each.
	Warnings []string
}

// Forecast compares this state with the one after a change that takes the
// member away, for a while or for good. healths tell who is there.
func (s *State) Forecast(after *State, name string, healths []*clusterpb.Health) Forecast {
	m := s.Member(name)
	f := Forecast{Slots: s.Duties(storeOf(m.GetStore())).Slots}
	absent := absentBy(healths)
	f.ToleranceBefore = s.FailureTolerance(healths, func(m *clusterpb.Member) bool { return absent(m) != "" })
	if now := after.Member(name); now.GetState() == clusterpb.MemberState_DRAINING {
		f.ToleranceAfter = after.FailureTolerance(healths, func(m *clusterpb.Member) bool { return absent(m) != "" })
		if voters, live := votersOf(healths, after, absent); live < voters/2+1 {
			f.Warnings = append(f.Warnings, fmt.Sprintf("while %s is stopped %d of %d voters are left: the control state cannot change; samples are written and read", name, live, voters))
		}
		return f
	}
	f.ToleranceAfter = after.toleranceMoved(absent)
	f.Warnings = append(f.Warnings, unsaved(name, after.Member(name) == nil, healthOf(healths, name)))
	for _, r := range after.Rings() {
		spec := r.Spec.GetName()
		switch below, nodes := r.BelowQuorum(), len(after.Eligible(r)); {
		case below > 0 && nodes >= r.RF():
			f.Warnings = append(f.Warnings, fmt.Sprintf("ring %s: writes to %d of %d slots get 503 until others have taken them", spec, below, r.Table.Slots()))
		case below > 0:
			f.Warnings = append(f.Warnings, fmt.Sprintf("ring %s: writes to %d of %d slots get 503: %d nodes are left, and a write needs %d", spec, below, r.Table.Slots(), nodes, r.Quorum()))
		case nodes < r.RF():
			f.Warnings = append(f.Warnings, fmt.Sprintf("ring %s: %d nodes are left for %d replicas; writes go on, they need %d", spec, nodes, r.RF(), r.Quorum()))
		}
	}
	return f
}

// unsaved says what of a leaver is not in the bucket, as it told last, and what
// becomes of that.
func unsaved(name string, forced bool, h *clusterpb.Health) string {
	r := h.GetReport()
	what := fmt.Sprintf("%d blocks and the samples of %d series since are not in the bucket", r.GetUnshippedBlocks(), r.GetSeries())
	if !r.GetHasBucket() {
		what = fmt.Sprintf("it has no bucket, and %d series in memory", r.GetSeries())
	}
	switch {
	case forced && h.GetLastContactMs() < 0:
		return fmt.Sprintf("%s has not been heard by this leader: what it alone has is given up, and how much that is nobody can tell", name)
	case forced:
		return fmt.Sprintf("%s, when it was last heard: %s; what it alone has is given up", name, what)
	case r.GetHasBucket():
		return fmt.Sprintf("%s: %s; they go there first", name, what)
	default:
		return fmt.Sprintf("%s: %s; its blocks go to other nodes", name, what)
	}
}

// FailureTolerance is how many more nodes may fail, whichever they are, before
// Raft or some slot loses its quorum. It is never below 0.
func (s *State) FailureTolerance(healths []*clusterpb.Health, absent func(*clusterpb.Member) bool) int {
	voters, live := votersOf(healths, s, func(m *clusterpb.Member) string {
		if absent(m) {
			return "is absent"
		}
		return ""
	})
	slots := s.SlotTolerance(func(st ring.Store) bool {
		m := s.Holder(st)
		return m != nil && !absent(m)
	})
	return max(0, min(live-(voters/2+1), slots))
}

// votersOf counts the voters, and those of them that are there.
func votersOf(healths []*clusterpb.Health, s *State, absent absence) (voters, live int) {
	for _, h := range healths {
		if h.GetRole() != roleLeader && h.GetRole() != roleVoter {
			continue
		}
		voters++
		if m := s.Member(h.GetReport().GetNode()); m != nil && absent(m) == "" {
			live++
		}
	}
	return voters, live
}

// toleranceMoved is the failure tolerance when all slots and votes have gone
// where they will.
func (s *State) toleranceMoved(absent absence) int {
	active, there := 0, 0
	for _, m := range s.members {
		if !eligible(m) {
			continue
		}
		active++
		if absent(m) == "" {
			there++
		}
	}
	voters := votersWanted(active)
	least := min(voters, there) - (voters/2 + 1)
	for _, r := range s.Rings() {
		nodes := s.Eligible(r)
		if len(nodes) == 0 {
			return 0
		}
		for _, set := range ring.Plan(r.Table, nodes, r.RF()) {
			least = min(least, s.present(set, 0, absent)-r.Quorum())
		}
	}
	return max(0, least)
}

package cluster

import (
	"slices"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// fieldPlacement names what the leader adds to a PutRing, in refusals of it.
const fieldPlacement = "placement"

// Place stamps the planner's choice onto a command that would make a new ring
// of this state, and takes away what any other carries. The leader does it
// before it commits; applying computes nothing, so that nodes with different
// planners get one table.
func (s *State) Place(cmd *clusterpb.Command) {
	for _, put := range ringsIn(cmd) {
		s.placeRing(put)
	}
}

// ringsIn are the rings that a command may make.
func ringsIn(cmd *clusterpb.Command) []*clusterpb.PutRing {
	if put := cmd.GetPutRing(); put != nil {
		return []*clusterpb.PutRing{put}
	}
	var out []*clusterpb.PutRing
	for _, r := range slices.Concat(cmd.GetRestoreState().GetRings(), cmd.GetPutRings().GetRings()) {
		if r.GetRing() != nil && !r.GetDelete() {
			out = append(out, r.GetRing())
		}
	}
	return out
}

func (s *State) placeRing(put *clusterpb.PutRing) {
	put.Placement = nil
	e := &edit{next: *s}
	if s.cluster == nil || s.Ring(put.GetName()) != nil || e.checkRing(put) != nil {
		return
	}
	r := &Ring{Spec: specOfRing(put, 0)}
	empty, err := ring.Empty(slotsOf(put), r.Quorum(), 0, 0)
	if err != nil {
		return // applying says why
	}
	for slot, set := range ring.Plan(empty, s.Eligible(r), r.RF()) {
		if set.Len() > 0 {
			put.Placement = append(put.Placement, placing(slot, s.revision, set))
		}
	}
}

func placing(slot int, planned uint64, set ring.Set) *clusterpb.SlotStep {
	step := &clusterpb.SlotStep{Slot: uint32(slot), Base: planned, Replicas: make([]uint32, set.Len())}
	for i := range step.Replicas {
		step.Replicas[i] = uint32(set.At(i))
	}
	return step
}

// allOn is the placement of a ring with one node: no planner could choose
// otherwise.
func allOn(st ring.Store, slots int, rev uint64) []*clusterpb.SlotStep {
	out := make([]*clusterpb.SlotStep, slots)
	for i := range out {
		out[i] = placing(i, rev, ring.SetOf(st))
	}
	return out
}

// place fills the empty slots of a new ring as the command says, none where it
// says nothing: the leader's loop moves them then.
func (e *edit) place(r *Ring, placement []*clusterpb.SlotStep) *clusterpb.Refusal {
	if len(placement) > r.Table.Slots() {
		return invalid(fieldPlacement, "%d slots are placed, ring %s has %d", len(placement), r.Spec.GetName(), r.Table.Slots())
	}
	newest, may := uint64(0), map[ring.Store]bool{}
	for _, n := range e.next.Eligible(r) {
		may[n.Store] = true
		newest = max(newest, e.next.Holder(n.Store).GetActivated())
	}
	steps := make([]ring.Step, 0, len(placement))
	for _, p := range placement {
		if p.GetBase() < newest {
			// The planner did not know of it, and slots do not follow a node
			// that is older than their ring.
			return misplaced("ring %s was planned at %d, a node became active at %d: ask again", r.Spec.GetName(), p.GetBase(), newest)
		}
		set, refusal := checkPlaced(r, p, may)
		if refusal != nil {
			return refusal
		}
		steps = append(steps, ring.Step{Slot: int(p.GetSlot()), Replicas: set, Quorum: r.Quorum(), Base: e.rev})
	}
	table, err := r.Table.Apply(steps, e.rev, e.now)
	if err != nil {
		return invalid(fieldPlacement, "place ring %s: %v", r.Spec.GetName(), err)
	}
	r.Table = table
	return nil
}

// checkPlaced wants distinct stores that may hold the ring's slots, and no more
// of them than replicas.
func checkPlaced(r *Ring, p *clusterpb.SlotStep, may map[ring.Store]bool) (ring.Set, *clusterpb.Refusal) {
	var set ring.Set
	switch {
	case int64(p.GetSlot()) >= int64(r.Table.Slots()):
		return set, invalid(fieldPlacement, "slot %d: ring %s has %d", p.GetSlot(), r.Spec.GetName(), r.Table.Slots())
	case len(p.GetReplicas()) > r.RF():
		return set, invalid(fieldPlacement, "slot %d: %d replicas in a ring with replication factor %d", p.GetSlot(), len(p.GetReplicas()), r.RF())
	}
	for _, n := range p.GetReplicas() {
		st := storeOf(n)
		next := set.With(st)
		switch {
		case next == set:
			return set, invalid(fieldPlacement, "slot %d: the replicas %v are not distinct stores", p.GetSlot(), head(p.GetReplicas()))
		case !may[st]:
			return set, misplaced("slot %d: store %d is no active node's of ring %s: ask again", p.GetSlot(), n, r.Spec.GetName())
		}
		set = next
	}
	return set, nil
}

// misplaced refuses a placement that was right when it was planned.
func misplaced(format string, args ...any) *clusterpb.Refusal {
	return refuse(clusterpb.Refusal_CONFLICT_VERSION, fieldPlacement, format, args...)
}

// isMisplaced says whether a fresh plan may help. Such an answer is no answer to
// the request: it is not remembered.
func isMisplaced(r *clusterpb.Refusal) bool {
	return r.GetKind() == clusterpb.Refusal_CONFLICT_VERSION && r.GetField() == fieldPlacement
}

// placeTries is how often a new ring is planned: nodes come and go rarely.
const placeTries = 3

// commitPlaced commits a command, that of a new ring with its placement by the
// newest state, planned again where the nodes have changed in between.
func commitPlaced(cmd *clusterpb.Command, newest func() (*State, error), commit func() (Result, error)) (Result, error) {
	if len(ringsIn(cmd)) == 0 {
		return commit()
	}
	for try := 1; ; try++ {
		st, err := newest()
		if err != nil {
			return Result{}, err
		}
		st.Place(cmd)
		res, err := commit()
		if err != nil || !isMisplaced(res.Refusal) || try == placeTries {
			return res, err
		}
	}
}

// slotsOf is the number of slots that a new ring shall have.
func slotsOf(c *clusterpb.PutRing) int {
	if c.GetSlots() == 0 {
		return DefaultSlots
	}
	return int(c.GetSlots())
}

// specOfRing is a new ring's object.
func specOfRing(c *clusterpb.PutRing, rev uint64) *clusterpb.Ring {
	return &clusterpb.Ring{
		Name: c.GetName(), Id: rev, Tenants: slices.Clone(c.GetTenants()),
		ReplicationFactor: c.GetReplicationFactor(), WriteQuorum: c.GetWriteQuorum(),
		Nodes: slices.Clone(c.GetNodes()), Version: rev,
	}
}

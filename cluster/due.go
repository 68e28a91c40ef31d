package cluster

import (
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// follows is the newest revision at which a member became active in the ring or
// was removed, and the newest at which an operator changed what a plan depends
// on: the ring, weights, zones. Slots follow the former by themselves, the latter only when asked to.
func follows(st *State, r *Ring) (members, operator uint64) {
	operator = r.Spec.GetVersion()
	for _, m := range st.Members() {
		if !eligible(m) || !inList(r, m.GetName()) {
			continue
		}
		members = max(members, m.GetActivated())
		if m.GetWeighed() > m.GetActivated() {
			operator = max(operator, m.GetWeighed())
		}
	}
	for _, m := range st.RemovedMembers() {
		members = max(members, m.GetRevision())
	}
	return members, operator
}

// due is why the ring's slots move without being asked to: a member leaves, or
// nodes have joined or were removed since they last followed, or the ring has
// not what it promises. nil: they stay.
func (s *State) due(r *Ring) *clusterpb.BeginMove {
	move := &clusterpb.BeginMove{Ring: r.Spec.GetId()}
	if leaving := s.deserters(r); len(leaving) > 0 {
		move.Cause, move.Nodes, move.By = clusterpb.MoveCause_MOVE_REMOVAL, leaving, s.Member(leaving[0]).GetChangedBy()
		return move
	}
	unkept := s.unkept(r) > 0
	if members, operator := follows(s, r); members > r.Spec.GetFollowed() && (members > operator || unkept) {
		move.Cause, move.Nodes = clusterpb.MoveCause_MOVE_JOIN, s.joined(r)
		if len(move.Nodes) == 0 {
			move.Cause = clusterpb.MoveCause_MOVE_REMOVAL
		}
		return move
	}
	if unkept {
		move.Cause = clusterpb.MoveCause_MOVE_REPAIR
		return move
	}
	return nil
}

// unkept counts the slots that have not the replicas or the quorum that the ring
// promises, though there are nodes for it.
func (s *State) unkept(r *Ring) int {
	n, want := 0, min(r.RF(), len(s.Eligible(r)))
	for i := range r.Table.Slots() {
		slot := r.Table.At(i)
		if slot.Replicas.Len() != want || slot.Quorum != r.Quorum() {
			n++
		}
	}
	return n
}

// withLost counts the slots that have a replica on a store that is lost.
func (s *State) withLost(r *Ring) int {
	n := 0
	for i := range r.Table.Slots() {
		if set := r.Table.At(i).Replicas; s.alive(set) < set.Len() {
			n++
		}
	}
	return n
}

// alive counts the stores of a set that are not lost.
func (s *State) alive(set ring.Set) int {
	n := 0
	for i := range set.Len() {
		if !s.Lost(set.At(i)) {
			n++
		}
	}
	return n
}

// deserters are the members that are being removed and hold slots of the ring.
func (s *State) deserters(r *Ring) []string {
	var out []string
	var held map[ring.Store]int
	for _, m := range s.Members() {
		if m.GetState() != clusterpb.MemberState_REMOVING {
			continue
		}
		if held == nil {
			held = r.Table.Held()
		}
		if held[storeOf(m.GetStore())] > 0 {
			out = append(out, m.GetName())
		}
	}
	return out
}

// joined are the members that have become active in the ring since its slots
// last followed.
func (s *State) joined(r *Ring) []string {
	var out []string
	for _, m := range s.Members() {
		if eligible(m) && inList(r, m.GetName()) && m.GetActivated() > max(r.Spec.GetFollowed(), r.Born()) {
			out = append(out, m.GetName())
		}
	}
	return out
}

// away counts the slots that have not their target or not the ring's quorum.
func away(r *Ring, target []ring.Set) int {
	n := 0
	for i := range r.Table.Slots() {
		if s := r.Table.At(i); !s.Replicas.Same(target[i]) || s.Quorum != r.Quorum() {
			n++
		}
	}
	return n
}

// moves says whether the ring's slots are on their way, or will be without
// anybody asking.
func (s *State) moves(r *Ring) bool {
	return !r.Deleted() && (isUnderWay(r.Spec.GetMove()) || s.due(r) != nil)
}

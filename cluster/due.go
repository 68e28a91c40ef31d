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

// brokenPromise says whether some slot has not the replicas or the quorum that
// the ring promises, though there are nodes for it.
func brokenPromise(st *State, r *Ring) bool {
	want := min(r.RF(), len(st.Eligible(r)))
	for i := range r.Table.Slots() {
		if s := r.Table.At(i); s.Replicas.Len() != want || s.Quorum != r.Quorum() {
			return true
		}
	}
	return false
}

// isDue says whether the ring's slots move without being asked to: after a node
// has joined or was removed, which done tells that they have followed already,
// while one is leaving, and where the ring has not what it promises.
func isDue(st *State, r *Ring, done uint64) bool {
	members, operator := follows(st, r)
	return brokenPromise(st, r) || deserted(st, r) || members > operator && members > done
}

// deserted says whether a member that is being removed holds slots of the ring.
func deserted(st *State, r *Ring) bool {
	for _, m := range st.Members() {
		if m.GetState() == clusterpb.MemberState_REMOVING && r.Table.Held()[storeOf(m.GetStore())] > 0 {
			return true
		}
	}
	return false
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

// Moving counts the slots that the leader will give other replicas or another
// quorum without being asked, as far as the state tells. What an operator has
// changed since, a node list, weights or zones, waits for a rebalance.
func (s *State) Moving(r *Ring) int {
	nodes := s.Eligible(r)
	if r.Deleted() || len(nodes) == 0 || !isDue(s, r, 0) {
		return 0
	}
	return away(r, ring.Plan(r.Table, nodes, r.RF()))
}

package cluster

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// Members are all members, by name.
func (s *State) Members() []*clusterpb.Member { return s.members }

// Member is the member of that name; nil where there is none.
func (s *State) Member(name string) *clusterpb.Member {
	if i, ok := findMember(s.members, name); ok {
		return s.members[i]
	}
	return nil
}

// Removed tells when and how the name was last removed; nil where it never
// was, where it is a member again, or where 1,000 were removed since.
func (s *State) Removed(name string) *clusterpb.RemovedMember {
	if i, ok := findRemoved(s.removed, name); ok {
		return s.removed[i]
	}
	return nil
}

// RemovedMembers are the names that were members, by name.
func (s *State) RemovedMembers() []*clusterpb.RemovedMember { return s.removed }

// Stores are all stores there ever were, by number.
func (s *State) Stores() []*clusterpb.Store { return s.stores }

// Store is the store of that number; nil where there is none.
func (s *State) Store(n ring.Store) *clusterpb.Store {
	if i, ok := findStore(s.stores, uint32(n)); ok {
		return s.stores[i]
	}
	return nil
}

// StoreByID is the store of a data directory; nil where the cluster has never
// seen it.
func (s *State) StoreByID(id []byte) *clusterpb.Store {
	for _, st := range s.stores {
		if bytes.Equal(st.GetId(), id) {
			return st
		}
	}
	return nil
}

// Lost says whether the store was given up: its part of history will not come
// back. A store that the cluster does not know is lost.
func (s *State) Lost(n ring.Store) bool {
	st := s.Store(n)
	return st == nil || st.GetLost() != 0
}

// Holder is the member whose store this is now; nil where it is nobody's.
func (s *State) Holder(n ring.Store) *clusterpb.Member {
	m := s.Member(s.Store(n).GetNode())
	if m == nil || m.GetStore() != uint32(n) {
		return nil
	}
	return m
}

// eligible says whether a member may hold slots: it has been made active and
// is not on its way out. Being down or draining changes nothing.
func eligible(m *clusterpb.Member) bool {
	return m.GetState() == clusterpb.MemberState_ACTIVE || m.GetState() == clusterpb.MemberState_DRAINING
}

func findMember(list []*clusterpb.Member, name string) (int, bool) {
	return slices.BinarySearchFunc(list, name, func(m *clusterpb.Member, n string) int {
		return strings.Compare(m.GetName(), n)
	})
}

func findRemoved(list []*clusterpb.RemovedMember, name string) (int, bool) {
	return slices.BinarySearchFunc(list, name, func(m *clusterpb.RemovedMember, n string) int {
		return strings.Compare(m.GetName(), n)
	})
}

func findStore(list []*clusterpb.Store, number uint32) (int, bool) {
	return slices.BinarySearchFunc(list, number, func(st *clusterpb.Store, n uint32) int {
		return cmp.Compare(st.GetNumber(), n)
	})
}

// with is list with v at place i, which v takes over from the object that is
// there where found is set. The list itself stays as it is.
func with[T any](list []T, i int, found bool, v T) []T {
	out := make([]T, 0, len(list)+1)
	out = append(append(out, list[:i]...), v)
	if found {
		i++
	}
	return append(out, list[i:]...)
}

// without is list without the object at place i.
func without[T any](list []T, i int) []T {
	out := make([]T, 0, len(list))
	return append(append(out, list[:i]...), list[i+1:]...)
}

package ring

import "slices"

// Store numbers the data of one data directory. The numbers are committed by
// the cluster and never used again; 0 is no store.
type Store uint32

// MaxReplicas is the largest replication factor. More copies than five buy no
// safety that a second ring in another place would not buy cheaper.
const MaxReplicas = 5

// Set is the replicas of a slot, first choice first. It is a value: two sets
// with the same stores in the same order are equal by ==.
type Set struct {
	stores [MaxReplicas]Store
	n      uint8
}

// SetOf makes a set. Stores beyond MaxReplicas, the store 0 and repetitions
// are left out.
func SetOf(stores ...Store) Set {
	var s Set
	for _, st := range stores {
		s = s.With(st)
	}
	return s
}

// Len is the number of replicas.
func (s Set) Len() int { return int(s.n) }

// At is the i-th replica, counted from 0.
func (s Set) At(i int) Store { return s.stores[i] }

// Has says whether st is a replica.
func (s Set) Has(st Store) bool {
	for i := range s.n {
		if s.stores[i] == st {
			return true
		}
	}
	return false
}

// Append appends the replicas to dst, first choice first.
func (s Set) Append(dst []Store) []Store { return append(dst, s.stores[:s.n]...) }

// With is s and st as its last choice; s itself where st is in it or no room is left.
func (s Set) With(st Store) Set {
	if st == 0 || int(s.n) == MaxReplicas || s.Has(st) {
		return s
	}
	s.stores[s.n] = st
	s.n++
	return s
}

// Without is s without st; the others keep their order.
func (s Set) Without(st Store) Set {
	var out Set
	for i := range s.n {
		if s.stores[i] != st {
			out.stores[out.n] = s.stores[i]
			out.n++
		}
	}
	return out
}

// Replace is s with the replica to at the place of from.
func (s Set) Replace(from, to Store) Set {
	if i := slices.Index(s.stores[:s.n], from); i >= 0 && !s.Has(to) {
		s.stores[i] = to
	}
	return s
}

// Same says whether both hold the same stores, in whatever order.
func (s Set) Same(o Set) bool {
	if s.n != o.n {
		return false
	}
	for i := range s.n {
		if !o.Has(s.stores[i]) {
			return false
		}
	}
	return true
}

// distance is the number of replicas of s that o lacks, or of o that s lacks,
// whichever is larger: how many one-replica steps lead from one to the other.
func (s Set) distance(o Set) int {
	gone, come := 0, 0
	for i := range s.n {
		if !o.Has(s.stores[i]) {
			gone++
		}
	}
	for i := range o.n {
		if !s.Has(o.stores[i]) {
			come++
		}
	}
	return max(gone, come)
}

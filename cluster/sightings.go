package cluster

import (
	"sync"
	"time"
)

// sightings is when this node last had word of the others, first or second
// hand. It tells people who is missing; nothing is decided by it.
type sightings struct {
	mu     sync.Mutex
	seen   map[string]time.Time
	leader time.Time
}

// Saw notes that a node was heard at a time; an older one than known is dropped.
func (s *sightings) Saw(name string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]time.Time{}
	}
	if at.After(s.seen[name]) {
		s.seen[name] = at
	}
}

// SawLeader notes that there was a leader at a time.
func (s *sightings) SawLeader(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.After(s.leader) {
		s.leader = at
	}
}

// Last is when the node was last heard; zero: never.
func (s *sightings) Last(name string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[name]
}

// LastLeader is when a leader was last known; zero: never.
func (s *sightings) LastLeader() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leader
}

// Keep forgets all but the named nodes.
func (s *sightings) Keep(member func(string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.seen {
		if !member(name) {
			delete(s.seen, name)
		}
	}
}

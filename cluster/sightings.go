package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// rememberEvery is how often sightings are written down: after a crash they are
// so old at most.
const rememberEvery = time.Minute

// sightings is when this node last had word of the others, first or second
// hand, and why it had none since. It tells people who is missing; nothing is
// decided by it. It is kept in raft/seen.json, so that a node that starts
// without a leader can say since when there is none.
type sightings struct {
	mu     sync.Mutex
	seen   map[string]time.Time
	failed map[string]string // the last attempt to reach a node, since it was seen
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
		delete(s.failed, name)
	}
}

// Failed notes why a node could not be reached.
func (s *sightings) Failed(name, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = map[string]string{}
	}
	s.failed[name] = why
}

// Failure is why a node could not be reached since it was last heard; "": it
// was not tried.
func (s *sightings) Failure(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed[name]
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
	for name := range s.failed {
		if !member(name) {
			delete(s.failed, name)
		}
	}
}

// seenFile is the form of raft/seen.json: Unix milliseconds.
type seenFile struct {
	Leader int64            `json:"leader"`
	Nodes  map[string]int64 `json:"nodes"`
}

// Load takes what was written down; a missing or broken file is nothing.
func (s *sightings) Load(path string) {
	var f seenFile
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &f) != nil {
		return
	}
	s.SawLeader(time.UnixMilli(f.Leader))
	for name, at := range f.Nodes {
		s.Saw(name, time.UnixMilli(at))
	}
}

// Save writes everything down, where there is a directory for it.
func (s *sightings) Save(path string) error {
	s.mu.Lock()
	f := seenFile{Nodes: map[string]int64{}}
	if !s.leader.IsZero() {
		f.Leader = s.leader.UnixMilli()
	}
	for name, at := range s.seen {
		f.Nodes[name] = at.UnixMilli()
	}
	s.mu.Unlock()
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil //nolint:nilerr // this node belongs to nothing any more
	}
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode who was heard: %w", err)
	}
	if err := replaceFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("keep who was heard: %w", err)
	}
	return nil
}

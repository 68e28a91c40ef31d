package ingest

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// TestAReplicaTakesWhatAnotherHoldsWhileTheThirdIsAway: one has room for a series,
// one has not, and the one that would decide it does not answer.
func TestAReplicaTakesWhatAnotherHoldsWhileTheThirdIsAway(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	full, away := b.nodes[1], b.nodes[2]
	full.storage.set(func(s *promStorage) { s.judge = refuseAbove(5) })
	away.kill()
	n := b.nodes[0]
	n.mustPost(samplesOf(8, now(), 1), 204)
	for _, nd := range b.nodes[:2] {
		if got := nd.storage.count(tenantID); got != 8 {
			t.Errorf("%s has %d samples, want 8", nd.name, got)
		}
	}
	// What no replica holds is refused by none for another's sake.
	n.storage.set(func(s *promStorage) { s.judge = refuseAbove(0) })
	full.storage.set(func(s *promStorage) { s.judge = refuseAbove(0) })
	n.mustPost(samplesOf(8, now()+1, 1), 400)
	if got := full.storage.count(tenantID); got != 8 {
		t.Errorf("%d samples, want 8", got)
	}
}

// TestAnAppealThatFailsIsToBeSentAgain: a replica that does not take it either way.
func TestAnAppealThatFailsIsToBeSentAgain(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	b.nodes[1].storage.set(func(s *promStorage) {
		s.judge = func(labels.Labels) peerpb.Outcome { return peerpb.Outcome_SERIES_LIMIT }
		s.strict = true
	})
	b.nodes[2].kill()
	n := b.nodes[0]
	n.mustPost(samplesOf(8, now(), 1), 503)
	n.storage.mu.Lock()
	defer n.storage.mu.Unlock()
	if n.storage.shares != 2 {
		t.Errorf("its own storage was asked %d times, want twice", n.storage.shares)
	}
}

// TestASeriesThatOneReplicaAloneHasTakenIsDisowned: also where that one answers
// after the verdict.
func TestASeriesThatOneReplicaAloneHasTakenIsDisowned(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	full := func(n *node) { n.storage.set(func(s *promStorage) { s.judge = refuseAbove(5) }) }
	full(b.nodes[0])
	full(b.nodes[1])
	text := b.nodes[0].mustPost(samplesOf(8, now(), 1), 400)
	if !strings.Contains(text, "3 of 8 samples refused for good, 5 stored") {
		t.Fatal(text)
	}
	for _, n := range b.nodes {
		eventually(t, n.name+" hears of the three series", func() bool {
			n.storage.mu.Lock()
			defer n.storage.mu.Unlock()
			return n.storage.disowned == 3
		})
	}
	full(b.nodes[2]) // now nobody takes them, and nothing is to be told
	b.nodes[0].mustPost(samplesOf(8, now()+1, 1), 400)
	for _, n := range b.nodes {
		n.storage.mu.Lock()
		if n.storage.disowned != 3 {
			t.Errorf("%s has heard of %d series", n.name, n.storage.disowned)
		}
		n.storage.mu.Unlock()
	}
}

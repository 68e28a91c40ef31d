package main

import (
	"testing"
	"time"

	"github.com/muster-metrics/muster/cluster"
)

// TestViewCorrectsTheClock: cluster says how far this node's clock is ahead, and
// ingest wants to know what to add to it.
func TestViewCorrectsTheClock(t *testing.T) {
	ahead := func() time.Duration { return 20 * time.Second }
	if d := newViews([16]byte{1}, ahead, nil).of(cluster.EmptyState()).ClockOffset(); d != -20*time.Second {
		t.Fatalf("%v is added to a clock that is %v ahead", d, ahead())
	}
}

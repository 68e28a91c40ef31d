package fencing

import (
	"context"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fleet starts processes from one thread that lives as long as this process.
		goleak.IgnoreAnyFunction("github.com/muster-metrics/muster/cmd/muster/fleet.Spawn"))
}

func binary(t *testing.T) string {
	t.Helper()
	b, err := fleet.Binary(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// play lets stories happen to one cluster, one after the other.
func play(t *testing.T, nodes, factor int, stories ...Story) {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir, err := os.MkdirTemp("", "fencing")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Binary: binary(t), Dir: dir, Nodes: nodes, Factor: factor, Seed: 1, Say: t.Logf}
	if v := os.Getenv("MUSTER_FENCING_SEED"); v != "" {
		if c.Seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	s, err := Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			t.Logf("logs are in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	for _, story := range stories {
		began := time.Now()
		r, err := s.Play(ctx, story)
		if err != nil {
			t.Fatalf("%s: %v", story.Name, err)
		}
		t.Logf("%s, %v: %v", r.Story, time.Since(began).Round(time.Second), r)
		for _, text := range r.Incompletes {
			t.Logf("  %s", text)
		}
		for _, f := range r.Findings {
			t.Errorf("%s: %s", r.Story, f)
		}
	}
}

// The stories are a part of `make robust ONLY=fencing`, which has all of them
// and lets each fault last longer.

func TestFencesHoldOnFiveNodes(t *testing.T) {
	t.Parallel()
	play(t, 5, 3, Minority, Restart)
}

func TestAFrozenCoordinatorWhileAFourthNodeJoins(t *testing.T) {
	t.Parallel()
	play(t, 3, 3, Frozen, TwoCoordinators)
}

// TestASilentStoreHoldsMovesUpAndNotWrites has a write quorum of one.
func TestASilentStoreHoldsMovesUpAndNotWrites(t *testing.T) {
	t.Parallel()
	play(t, 3, 2, Silent)
}

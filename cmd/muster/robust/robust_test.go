package robust

import (
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

// TestChangesAreLinearizableUnderFaults is one short seed of `make robust`.
// MUSTER_ROBUST_SEED and MUSTER_ROBUST_DURATION make it another.
func TestChangesAreLinearizableUnderFaults(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir, err := os.MkdirTemp("", "robust")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	c := Config{Binary: binary(t), Dir: dir, Nodes: 3, Seed: 97, Duration: 30 * time.Second, Say: t.Logf} // this seed begins with a leader that is cut off
	if v := os.Getenv("MUSTER_ROBUST_SEED"); v != "" {
		if c.Seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if v := os.Getenv("MUSTER_ROBUST_DURATION"); v != "" {
		if c.Duration, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Consistency(t.Context(), c)
	if err != nil {
		t.Fatalf("seed %d: %v; logs are in %s", c.Seed, err, dir)
	}
	t.Logf("%d faults, %d elections, %d messages held up; %d calls, %d of unknown outcome, %d not done",
		r.Faults, r.Elections, r.Held, r.Calls, r.Unknown, r.Undone)
	for _, finding := range r.Findings {
		t.Errorf("seed %d: %s", c.Seed, finding)
	}
	if r.Calls < 100 || r.Faults == 0 || r.Held == 0 {
		t.Errorf("seed %d: %+v is too little to show anything", c.Seed, r)
	}
}

package robust

import (
	"net/http"
	"os"
	"testing"
)

// TestTenantsGetTheSeriesThatTheyMayHave is a small `make robust ONLY=limits`.
func TestTenantsGetTheSeriesThatTheyMayHave(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir, err := os.MkdirTemp("", "limits")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	r, err := Limits(t.Context(), Limited{
		Config: Config{Binary: binary(t), Dir: dir, Nodes: 3, Seed: 1, Say: t.Logf}, Tenants: 4, Series: 1000, PerRequest: 100, Rounds: 2,
	})
	if err != nil {
		t.Fatalf("%v; logs are in %s", err, dir)
	}
	t.Logf("%v accepted of %d, at worst %+.2f %%, bound %.2f %%; %d repeated", r.Accepted, r.Limit, 100*r.Worst, 100*r.Bound, r.Repeated)
	for _, finding := range r.Findings {
		t.Error(finding)
	}
	if len(r.Accepted) != 4 {
		t.Errorf("%d tenants", len(r.Accepted))
	}
}

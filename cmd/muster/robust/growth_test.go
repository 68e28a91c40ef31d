package robust

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestAClusterGrowsAndShrinksUnderLoad is a small growth: nothing of it depends
// on how fast the machine is. `make robust ONLY=growth` measures.
func TestAClusterGrowsAndShrinksUnderLoad(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir, err := os.MkdirTemp("", "growth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	r, err := Grow(t.Context(), Growth{
		Config: Config{Binary: binary(t), Dir: dir, Nodes: 3, Say: t.Logf},
		Series: 2000, Tenants: 2, PerRequest: 200, Rate: 4000,
		Baseline: 2 * time.Second, Pause: time.Second, Unhurried: true,
	})
	if err != nil {
		t.Fatalf("%v; logs are in %s", err, dir)
	}
	var names []string
	for _, p := range r.Phases {
		names = append(names, p.Name)
		for _, refused := range p.Refused {
			t.Errorf("%s: refused: %+v", p.Name, refused)
		}
	}
	if got, want := strings.Join(names, " "), "before join joined remove after watch"; got != want {
		t.Errorf("phases %q, want %q", got, want)
	}
	if len(r.Counted) != 3 || r.Counted["n4"] == 0 || r.Counted["n1"] != 0 {
		t.Errorf("counted on %v, want n2, n3 and n4", r.Counted)
	}
	for _, finding := range r.Miscounted() {
		t.Error(finding)
	}
	if at := r.Phases[2].Head; at <= r.HeadBefore {
		t.Errorf("%d series in heads before a node joined, %d afterwards: it got none", r.HeadBefore, at)
	}
}

package robust

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestAStormIsItsOwnTrouble is a small storm: who is refused, and whether all is
// there that was acknowledged. How long it takes `make robust ONLY=storm` measures.
func TestAStormIsItsOwnTrouble(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir, err := os.MkdirTemp("", "storm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	r, err := Rage(t.Context(), Storm{
		Config: Config{Binary: binary(t), Dir: dir, Nodes: 3, Say: t.Logf}, Budget: 256 << 20,
		Calm: 2, Series: 400, CalmRequest: 100, Rate: 1000,
		StormSeries: 20_000, PerRequest: 500, InFlight: 32, Each: 2 * time.Second,
	})
	if err != nil {
		t.Fatalf("%v; logs are in %s", err, dir)
	}
	var names []string
	for _, p := range r.Phases {
		names = append(names, p.Name)
		for _, refused := range p.Refused {
			t.Errorf("%s: a calm tenant is refused: %+v", p.Name, refused)
		}
		if len(p.Calm) == 0 {
			t.Errorf("%s: no calm tenant wrote", p.Name)
		}
	}
	if got, want := strings.Join(names, " "), "before storm hanging after"; got != want {
		t.Errorf("phases %q, want %q", got, want)
	}
	if r.Phase("storm").Storm == 0 || r.Phase("hanging").Storm == 0 {
		t.Error("there was no storm")
	}
	for _, missing := range r.Missing() {
		t.Error(missing)
	}
	if len(r.Counted) != 3 || len(r.Acknowledged) != 3 {
		t.Errorf("counted %v of %v", r.Counted, r.Acknowledged)
	}
}

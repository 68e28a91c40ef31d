package ingest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/muster-metrics/muster/ring"
)

// TestAReplicaThatIsBehindStoresWhatHasNotMoved: a request has series whose slots
// have moved and others. A replica that has not heard of the move cannot take the
// former; of the latter it holds as much as anybody, and may be all that is left
// for their quorum.
func TestAReplicaThatIsBehindStoresWhatHasNotMoved(t *testing.T) {
	mixed := func(slot int) ring.Set { return ring.SetOf(1, ring.Store(2+slot%2), 4) }
	half := func(slot int) ring.Set {
		if slot%4 < 2 {
			return mixed(slot)
		}
		return ring.SetOf(1, 2, 3)
	}
	for name, set := range map[string]struct{ before, after func(int) ring.Set }{
		"replicas differ by slot": {mixed, half},
		"everybody holds every slot": {
			func(slot int) ring.Set {
				if slot%2 == 0 {
					return ring.SetOf(1, 2, 3)
				}
				return ring.SetOf(1, 2, 4)
			},
			func(int) ring.Set { return ring.SetOf(1, 2, 3) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, 4, func(c *Config) { c.QuorumTimeout = 2 * time.Second })
			before, after := movedTables(t, set.before, set.after)
			b.show(10, before)
			b.nodes[0].ing.SetView(b.view(b.nodes[0], 20, after, nil))
			b.nodes[2].kill()
			b.nodes[3].kill()

			req := samplesOf(500, now(), 1)
			frames, _ := framesOf(t, req)
			moved, stayed := 0, 0
			for _, slot := range slotsOf(t, after, frames) {
				if after.Slot(slot).Changed == 20 {
					moved++
				} else if after.Slot(slot).Replicas.Has(2) {
					stayed++
				}
			}
			body := b.nodes[0].mustPost(req, http.StatusServiceUnavailable)
			if want := fmt.Sprintf("%d of 500 samples lack their quorum", 500-stayed); !strings.HasPrefix(body, want) {
				t.Errorf("%d moved, %d others are of a quorum that lives: %s", moved, stayed, body)
			}
			held := 0
			for series := range b.nodes[1].storage.content(tenantID) {
				if slot := after.Slot(slotOf(t, after, series)); slot.Changed == 20 {
					t.Errorf("stored %s, which has moved", series)
				}
				held++
			}
			if stayed == 0 || moved == 0 || held != stayed {
				t.Errorf("%d of %d series are held, %d have moved", held, stayed, moved)
			}
		})
	}
}

// movedTables are one before and after revision 20, at which every slot got the
// replicas that after says; slots for which they are the same stay as they were.
func movedTables(t *testing.T, before, after func(slot int) ring.Set) (was, is *ring.Table) {
	t.Helper()
	const slots = 64
	apply := func(to *ring.Table, rev, base uint64, set func(int) ring.Set) *ring.Table {
		var steps []ring.Step
		for s := range slots {
			steps = append(steps, ring.Step{Slot: s, Replicas: set(s), Quorum: 2, Base: base})
		}
		out, err := to.Apply(steps, rev, 0)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	empty, err := ring.Empty(slots, 2, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	was = apply(empty, 5, 0, before)
	return was, apply(was, 20, 5, after)
}

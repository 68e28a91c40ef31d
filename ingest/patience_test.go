package ingest

import (
	"net/http"
	"testing"
	"time"

	"github.com/muster-metrics/muster/ring"
)

// late is how much later than the first the other nodes see a change here:
// longer than a receiver waits for it, shorter than a write has time.
const late = behindWait + 300*time.Millisecond

// grown is a ring that a fourth store has joined at revision 20: it took store
// 3's place in all slots.
func grown(t *testing.T, before *ring.Table) *ring.Table {
	t.Helper()
	var steps []ring.Step
	for s := range before.Slots() {
		steps = append(steps, ring.Step{Slot: s, Replicas: ring.SetOf(1, 2, 4), Quorum: 2, Base: 5})
	}
	after, err := before.Apply(steps, 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	return after
}

// TestAWriteHasTimeUntilItsReceiversSeeTheChange: the coordinator leads, so it
// sees the change first, and the others are busy.
func TestAWriteHasTimeUntilItsReceiversSeeTheChange(t *testing.T) {
	t.Parallel()
	b := newBed(t, 4, nil)
	before := tableOf(t, 64, 3, 3, 2, 5)
	b.show(10, before)
	after := grown(t, before)
	b.nodes[0].ing.SetView(b.view(b.nodes[0], 20, after, nil))
	time.AfterFunc(late, func() {
		for _, n := range b.nodes[1:] {
			n.ing.SetView(b.view(n, 20, after, nil))
		}
	})
	b.nodes[0].mustPost(samplesOf(100, now(), 1), http.StatusNoContent)
}

// TestAWriteHasTimeUntilItsCoordinatorSeesTheChange: the replicas have seen it,
// and refuse what was routed before.
func TestAWriteHasTimeUntilItsCoordinatorSeesTheChange(t *testing.T) {
	t.Parallel()
	b := newBed(t, 4, nil)
	before := tableOf(t, 64, 3, 3, 2, 5)
	b.show(10, before)
	after := grown(t, before)
	for _, n := range b.nodes[1:] {
		n.ing.SetView(b.view(n, 20, after, nil))
	}
	time.AfterFunc(late, func() { b.nodes[0].ing.SetView(b.view(b.nodes[0], 20, after, nil)) })
	b.nodes[0].mustPost(samplesOf(100, now(), 1), http.StatusNoContent)
}

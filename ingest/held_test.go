package ingest

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-metrics/muster/ring"
)

const settle = 100 * time.Millisecond

// heldView is a view in which slots changed last at moved.
func heldView(rev, moved uint64, t Tenant) *View {
	return &View{
		Revision: rev, Moved: moved, Self: 1,
		Tenant: func(id string) (Tenant, bool) { return t, id == tenantID },
	}
}

func TestAViewIsHeldAfterSlotsHaveMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int64
		f := newFence()
		f.keep, f.tell = settle, func() { told.Add(1) }
		tenant := Tenant{Incarnation: 1, Ring: 1, Routed: 1}
		want := func(what string, lead, by41, by44, announced uint64) {
			t.Helper()
			enter := func(seen uint64) uint64 {
				v, e := f.enter(seen, tenantID)
				defer f.leave(e)
				return v.Revision
			}
			got := []uint64{f.lead().Revision, enter(41), enter(44), f.announced()}
			for i, w := range []uint64{lead, by41, by44, announced} {
				if got[i] != w {
					t.Errorf("%s: writes by, admits those by 41 and by 44 under, and announces %v, want %v", what, got, []uint64{lead, by41, by44, announced})
					return
				}
			}
		}
		f.set(heldView(40, 7, tenant))
		f.set(heldView(41, 7, tenant)) // a change of something else is not held
		want("nothing has moved", 41, 41, 41, 41)

		f.set(heldView(42, 42, tenant))
		f.set(heldView(43, 42, tenant))
		want("moved at 42", 41, 41, 43, 41)
		time.Sleep(settle)
		want("the others have seen 42", 43, 41, 43, 41)
		f.set(heldView(44, 44, tenant))
		want("moved at 44 as well", 43, 41, 44, 41)
		time.Sleep(settle)
		want("the others have seen 44", 44, 41, 44, 41)
		time.Sleep((heldFor - 2) * settle)
		synctest.Wait()
		want("41 is held no longer", 44, 43, 44, 43)
		if n := told.Load(); n != 1 {
			t.Errorf("told %d times that there is something to announce, want once", n)
		}
		time.Sleep(settle)
		synctest.Wait()
		want("nothing is held", 44, 44, 44, 44)
	})
}

func TestAShareInAHeldViewHoldsUpTheAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFence()
		f.keep = settle
		tenant := Tenant{Incarnation: 1, Ring: 1, Routed: 1}
		f.set(heldView(41, 7, tenant))
		f.set(heldView(42, 42, tenant))
		_, e := f.enter(41, tenantID)
		time.Sleep(heldFor * settle)
		synctest.Wait()
		if got := f.announced(); got != 41 {
			t.Errorf("announced %d while a share of 41 is being stored", got)
		}
		f.leave(e)
		if got := f.announced(); got != 42 {
			t.Errorf("announced %d, want 42", got)
		}
	})
}

// TestAHeldViewIsForSlotsAlone: what has happened to the tenant counts at once.
func TestAHeldViewIsForSlotsAlone(t *testing.T) {
	tenant := Tenant{Incarnation: 5, Ring: 1, Routed: 5}
	for name, now := range map[string]*View{
		"deleted":        {Revision: 42, Moved: 42, Self: 1, Tenant: func(string) (Tenant, bool) { return Tenant{}, false }},
		"created anew":   heldView(42, 42, Tenant{Incarnation: 42, Ring: 1, Routed: 42}),
		"routed anew":    heldView(42, 42, Tenant{Incarnation: 5, Ring: 2, Routed: 42}),
		"its store left": {Revision: 42, Moved: 42, Tenant: func(string) (Tenant, bool) { return tenant, true }},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFence()
			f.keep = settle
			f.set(heldView(41, 7, tenant))
			f.set(now)
			v, e := f.enter(41, tenantID)
			f.leave(e)
			if v != now {
				t.Errorf("%s: a share is judged by the view of before", name)
			}
			time.Sleep(heldFor * settle)
		})
	}
}

// TestNoWriteWaitsForATableThatOthersSeeLate moves slots while the nodes hear of
// it one after the other, within the time for which a view is held.
func TestNoWriteWaitsForATableThatOthersSeeLate(t *testing.T) {
	b := newBed(t, 4, func(c *Config) { c.SettleWait = time.Minute })
	table := tableOf(t, 64, 3, 3, 3, 5)
	b.show(10, table)
	var steps []ring.Step
	for s := range 64 {
		old := table.At(s)
		steps = append(steps, ring.Step{Slot: s, Replicas: old.Replicas.Replace(ring.Store(s%3+1), 4), Quorum: 3, Base: old.Changed})
	}
	next, err := table.Apply(steps, 11, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := now()
	for seen := range b.nodes {
		b.nodes[seen].ing.SetView(b.view(b.nodes[seen], 11, next, nil))
		for _, n := range b.nodes[:3] {
			at++
			n.mustPost(samplesOf(20, at, 1), 204)
		}
	}
	for _, n := range b.nodes[:3] {
		if got := n.storage.count(tenantID); got != 20*12 {
			t.Errorf("%s holds %d samples of 240 that were written by the old table", n.name, got)
		}
		if got := n.ing.Announced(); got != 10 {
			t.Errorf("%s announced %d while writes by the table of 10 are stored", n.name, got)
		}
	}
	if got := b.nodes[3].storage.count(tenantID); got != 0 {
		t.Errorf("the new owner got %d samples before anybody wrote by the new table", got)
	}
}

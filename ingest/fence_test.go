package ingest

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

func TestFenceAnnouncesARevisionWhenOlderSharesHaveLeft(t *testing.T) {
	f := newFence()
	if v, e := f.enter(0, tenantID); v != nil || e != nil || f.announced() != 0 {
		t.Fatal("a fence without a view let somebody in")
	}
	f.set(&View{Revision: 40})
	_, a := f.enter(0, tenantID)
	f.set(&View{Revision: 41})
	_, b := f.enter(0, tenantID)
	f.set(&View{Revision: 42})
	f.set(&View{Revision: 41}) // late; ignored
	v, c := f.enter(0, tenantID)
	if v.Revision != 42 || f.announced() != 40 {
		t.Fatalf("view %d, announced %d", v.Revision, f.announced())
	}
	f.leave(b) // younger than a: tells nothing
	if f.announced() != 40 {
		t.Fatalf("announced %d while a share of 40 hangs", f.announced())
	}
	f.leave(a)
	if f.announced() != 42 {
		t.Fatalf("announced %d, want 42: its own shares do not hold it up", f.announced())
	}
	f.leave(c)
}

func TestFenceTakesAnotherViewOfTheSameRevision(t *testing.T) {
	f := newFence()
	f.set(&View{Revision: 1, AutoCreate: true})
	f.set(&View{Revision: 1})
	if f.view.Load().AutoCreate || f.announced() != 1 {
		t.Error("the second view was ignored")
	}
}

// TestFenceNeverAnnouncesTooEarly hammers the fence: while shares come and go
// and views change, an announced revision never precedes the end of a share
// that was admitted under an older one.
func TestFenceNeverAnnouncesTooEarly(t *testing.T) {
	f := newFence()
	f.set(&View{Revision: 1})
	const revisions = 300
	var inside [revisions + 1]atomic.Int64 // shares by the revision they entered under
	var stop atomic.Bool
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for !stop.Load() {
				v, e := f.enter(0, tenantID)
				inside[v.Revision].Add(1)
				for range rand.N(50) {
					_ = f.view.Load()
				}
				inside[v.Revision].Add(-1)
				f.leave(e)
			}
		})
	}
	held, hung := f.enter(0, tenantID)
	for rev := uint64(2); rev <= revisions; rev++ {
		f.set(&View{Revision: rev})
		told := f.announced()
		for r := range told {
			if n := inside[r].Load(); n != 0 {
				t.Fatalf("announced %d with %d shares of %d inside", told, n, r)
			}
		}
		if rev == revisions/2 {
			if told > held.Revision {
				t.Fatalf("announced %d over a hung share of %d", told, held.Revision)
			}
			f.leave(hung)
		}
	}
	eventually(t, "steady load does not hold up the announcement", func() bool { return f.announced() == revisions })
	stop.Store(true)
	work.Wait()
	if len(f.eras) != 1 {
		t.Errorf("%d eras are left", len(f.eras))
	}
}

func TestAHungAppendHoldsUpTheAnnouncementWhateverItsCallerDoes(t *testing.T) {
	b := newBed(t, 3, func(c *Config) { c.QuorumTimeout = 1 })
	table := tableOf(t, 64, 3, 3, 2, 5)
	b.show(10, table)
	hung, entered := make(chan struct{}), make(chan struct{}, 3)
	for _, n := range b.nodes {
		n.storage.set(func(s *promStorage) {
			s.gate = func(string) error { entered <- struct{}{}; <-hung; return nil }
		})
	}
	b.nodes[0].mustPost(samplesOf(10, now(), 1), 503) // its caller is gone
	for range b.nodes {
		<-entered
	}
	b.show(11, table)
	if got := b.nodes[0].ing.Announced(); got != 10 {
		t.Errorf("announced %d while a share of 10 is being stored", got)
	}
	close(hung)
	for _, n := range b.nodes {
		eventually(t, "announced once it is stored", func() bool { return n.ing.Announced() == 11 })
		eventually(t, "stored", func() bool { return n.storage.count(tenantID) == 10 })
	}
}

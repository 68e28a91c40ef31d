package ingest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// beds are three nodes, on which every node has every slot, and five, on which
// most do not have most.
func beds(t *testing.T, f func(t *testing.T, b *bed)) {
	for _, n := range []int{3, 5} {
		t.Run(fmt.Sprintf("nodes=%d", n), func(t *testing.T) {
			b := newBed(t, n, nil)
			b.show(10, tableOf(t, 64, n, 3, 2, 5))
			f(t, b)
		})
	}
}

// holders counts on how many nodes each series has the value at the time, and
// fails where a node has one that is not of its slots.
func (b *bed) holders(table *ring.Table, at int64) map[string]int {
	b.t.Helper()
	held := map[string]int{}
	for _, n := range b.nodes {
		for series, points := range n.storage.content(tenantID) {
			if _, ok := points[at]; ok {
				held[series]++
			}
			if !table.Slot(slotOf(b.t, table, series)).Replicas.Has(n.store) {
				b.t.Errorf("%s has %s of a slot that it does not hold", n.name, series)
			}
		}
	}
	return held
}

func slotOf(t testing.TB, table *ring.Table, series string) int {
	t.Helper()
	var sb labels.ScratchBuilder
	for pair := range strings.SplitSeq(strings.Trim(series, "{}"), ", ") {
		name, value, _ := strings.Cut(pair, "=")
		sb.Add(name, strings.Trim(value, `"`))
	}
	return ring.KeyOf(ring.TenantHash(tenantID), sb.Labels().Hash()).Slot(table.Slots())
}

func TestAcknowledgedSamplesAreOnEveryReplica(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		at := now()
		for k, n := range b.nodes {
			n.mustPost(samplesOf(2000, at+int64(k), 1), http.StatusNoContent)
		}
		table := b.table()
		for k := range b.nodes {
			eventually(t, "three copies of each", func() bool {
				held := b.holders(table, at+int64(k))
				for _, copies := range held {
					if copies != 3 {
						return false
					}
				}
				return len(held) == 2000
			})
		}
	})
}

func TestOneBadSampleLeavesTheOthersStored(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		at := now()
		b.nodes[0].mustPost(samplesOf(1, at, 1), http.StatusNoContent)
		table := b.table()
		eventually(t, "three copies", func() bool {
			for _, copies := range b.holders(table, at) {
				return copies == 3
			}
			return false
		})
		// The first series has another value at that time already.
		body := b.nodes[1].mustPost(samplesOf(2000, at, 2), http.StatusBadRequest)
		if !strings.HasPrefix(body, "1 of 2000 samples refused for good, 1999 stored\nanother value is held at that time: 1, {__name__=\"requests_total\", instance=\"host-0000\"") {
			t.Errorf("answered %q", body)
		}
		eventually(t, "1999 samples on three nodes each, and the old one", func() bool {
			total := 0
			for _, n := range b.nodes {
				for _, points := range n.storage.content(tenantID) {
					if points[at] == 2 {
						total++
					}
				}
			}
			return total == 3*1999
		})
	})
}

func TestBadLabelsLeaveTheOthersStored(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		req := samplesOf(2000, now(), 1)
		req.Timeseries[77].Labels = []prompb.Label{{Name: "job", Value: "api"}}
		body := b.nodes[1].mustPost(req, http.StatusBadRequest)
		if body != "1 of 2000 samples refused for good, 1999 stored\nno metric name: 1, {job=\"api\"}\n" {
			t.Errorf("answered %q", body)
		}
		eventually(t, "1999 on three nodes each", func() bool { return b.total() == 3*1999 })
	})
}

func (b *bed) total() int {
	total := 0
	for _, n := range b.nodes {
		total += n.storage.count(tenantID)
	}
	return total
}

func TestWritesSurviveOneDeadReplica(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		b.nodes[2].kill()
		for i := range 5 {
			b.nodes[0].mustPost(samplesOf(200, now()+int64(i), 1), http.StatusNoContent)
		}
	})
}

func TestWritesSurviveOneHungReplica(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		hung := make(chan struct{})
		defer close(hung)
		b.nodes[2].storage.set(func(s *promStorage) { s.gate = func(string) error { <-hung; return nil } })
		for i := range 5 {
			b.nodes[i%2].mustPost(samplesOf(200, now()+int64(i), 1), http.StatusNoContent)
		}
	})
}

func TestWritesWithoutQuorumAreToBeSentAgain(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	b.nodes[1].kill()
	b.nodes[2].kill()
	at := now()
	w := b.nodes[0].post(samplesOf(10, at, 1))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Fatalf("answered %d %v: %s", w.Code, w.Header(), w.Body)
	}
	if body := w.Body.String(); !strings.HasPrefix(body, "10 of 10 samples lack their quorum: send again\n") || !strings.Contains(body, "n2 unreachable") {
		t.Errorf("answered %q", body)
	}
	b.nodes[1].listen(b.nodes[1].address)
	eventually(t, "a retry that is taken", func() bool {
		return b.nodes[0].post(samplesOf(10, at, 1), func(r *http.Request) { r.Header.Set("Retry-Attempt", "1") }).Code == http.StatusNoContent
	})
	eventually(t, "the repeat at the node that was away", func() bool {
		repeats := 0
		b.nodes[1].storage.set(func(s *promStorage) { repeats = s.repeats })
		return repeats > 0
	})
}

func TestWhatAPeerMissesForAMomentReachesIt(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	b.nodes[2].kill()
	at := now()
	b.nodes[0].mustPost(samplesOf(100, at, 1), http.StatusNoContent)
	b.nodes[0].mustPost(samplesOf(100, at+1, 1), http.StatusNoContent)
	b.nodes[2].listen(b.nodes[2].address)
	eventually(t, "the missed samples arrive", func() bool { return b.nodes[2].storage.count(tenantID) == 200 })

	// And so does what it could not store for the moment.
	var mu sync.Mutex
	refuse := true
	b.nodes[2].storage.set(func(s *promStorage) {
		s.gate = func(string) error {
			mu.Lock()
			defer mu.Unlock()
			if refuse {
				return fmt.Errorf("replaying")
			}
			return nil
		}
	})
	b.nodes[0].mustPost(samplesOf(100, at+2, 1), http.StatusNoContent)
	mu.Lock()
	refuse = false
	mu.Unlock()
	eventually(t, "what it could not take arrives", func() bool { return b.nodes[2].storage.count(tenantID) == 300 })
	eventually(t, "nothing is on its way any more", func() bool {
		return b.nodes[0].way(3).load() == 0
	})
}

func TestShortSlotsAreRefusedAndNothingOfThemIsSent(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 1, 2, 5))
	body := b.nodes[0].mustPost(samplesOf(10, now(), 1), http.StatusServiceUnavailable)
	if !strings.Contains(body, "fewer replicas than its quorum") || b.total() != 0 {
		t.Errorf("stored %d, answered %q", b.total(), body)
	}
}

// share is what node 1 would send to node 2 for these series.
func shareTo(b *bed, to *node, seen, need uint64, req *prompb.WriteRequest) *peerpb.Share {
	frames, n := framesOf(b.t, req)
	id := to.id()
	return &peerpb.Share{
		Tenant: tenantID, Incarnation: 1, Ring: 1, Store: id[:], Seen: seen, Need: need,
		Series: uint32(n), Samples: uint32(n), Frames: frames,
	}
}

func TestAnOldShareIsStoredWhereItsSlotsHaveNotMoved(t *testing.T) {
	b := newBed(t, 3, nil)
	before := tableOf(t, 64, 3, 2, 2, 5)
	req := samplesOf(100, now(), 1)
	frames, _ := framesOf(t, req)
	moved := slotsOf(t, before, frames)[0]
	after, err := before.Apply([]ring.Step{{Slot: moved, Replicas: ring.SetOf(1, 2, 3), Quorum: 2, Base: 5}}, 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	b.show(30, after)
	n := b.nodes[1]
	want, strange := map[peerpb.Outcome]int{}, 0
	for _, s := range slotsOf(t, before, frames) {
		if s == moved || !after.Slot(s).Replicas.Has(n.store) {
			want[peerpb.Outcome_STALE_SERIES]++
		}
		if s != moved && !after.Slot(s).Replicas.Has(n.store) { // never sent here by any table
			strange++
		}
	}
	res := n.ing.store(t.Context(), shareTo(b, n, 10, 5, req), false)
	got := map[peerpb.Outcome]int{}
	for _, o := range res.Outcomes {
		got[o.Outcome]++
	}
	if res.Status != peerpb.Status_DONE || len(got) != 1 || got[peerpb.Outcome_STALE_SERIES] != want[peerpb.Outcome_STALE_SERIES] || res.StaleRevision != 30 {
		t.Fatalf("%v, stale revision %d, outcomes %v, want %v", res.Status, res.StaleRevision, got, want)
	}
	if n.storage.count(tenantID) != 100-want[peerpb.Outcome_STALE_SERIES] {
		t.Errorf("stored %d", n.storage.count(tenantID))
	}
	if told := testutil.ToFloat64(n.ing.metrics.strangeSeries); strange == 0 || told != float64(strange) {
		t.Errorf("%v series of slots that have not moved are counted, want %d", told, strange)
	}
}

func TestSharesForAnotherRouteStoreOrTenantAreStale(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	n := b.nodes[0]
	for name, change := range map[string]func(*peerpb.Share){
		"store":       func(s *peerpb.Share) { s.Store = []byte("0123456789abcdef") },
		"no store":    func(s *peerpb.Share) { s.Store = nil },
		"incarnation": func(s *peerpb.Share) { s.Incarnation = 9 },
		"ring":        func(s *peerpb.Share) { s.Ring = 2 },
		"tenant":      func(s *peerpb.Share) { s.Tenant = "nobody" },
		"route":       func(s *peerpb.Share) { s.Seen = 0 },
	} {
		s := shareTo(b, n, 10, 1, samplesOf(3, now(), 1))
		change(s)
		if res := n.ing.store(t.Context(), s, false); res.Status != peerpb.Status_STALE || res.StaleRevision == 0 {
			t.Errorf("%s: %v", name, res)
		}
	}
	for name, change := range map[string]func(*peerpb.Share){
		"frames":  func(s *peerpb.Share) { s.Frames = s.Frames[:len(s.Frames)-1] },
		"samples": func(s *peerpb.Share) { s.Samples = 4 },
		"many":    func(s *peerpb.Share) { s.Samples = 1 << 31 },
		"labels":  func(s *peerpb.Share) { s.Frames[17] = 255 },
	} {
		s := shareTo(b, n, 10, 1, samplesOf(3, now(), 1))
		change(s)
		if res := n.ing.store(t.Context(), s, false); res.Status != peerpb.Status_UNAVAILABLE || res.Detail == "" {
			t.Errorf("%s: %v", name, res)
		}
	}
	if n.storage.shares != 0 {
		t.Errorf("%d shares reached the storage", n.storage.shares)
	}
}

// TestARingOfEveryNodeLooksAtNoSlotButStillAtChanges: where all nodes hold all
// slots the receiver spares the look at each, until one has changed.
func TestARingOfEveryNodeLooksAtNoSlotButStillAtChanges(t *testing.T) {
	b := newBed(t, 3, nil)
	before := tableOf(t, 64, 3, 3, 2, 5)
	req := samplesOf(100, now(), 1)
	frames, _ := framesOf(t, req)
	all := slotsOf(t, before, frames)
	// The quorum of one slot changes; its stores stay.
	after, err := before.Apply([]ring.Step{{Slot: all[0], Replicas: ring.SetOf(1, 2, 3), Quorum: 3, Base: 5}}, 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := after.Apply([]ring.Step{{Slot: all[0], Replicas: ring.SetOf(1, 2, 3), Quorum: 2, Base: 20}}, 21, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, s := range all {
		if s == all[0] {
			want++
		}
	}
	b.show(30, again)
	n := b.nodes[0]
	if n.ing.fence.view.Load().Ring(1).whole.Len() != 3 {
		t.Fatal("the ring is not one of every node")
	}
	if res := n.ing.store(t.Context(), shareTo(b, n, 10, 5, req), false); len(res.Outcomes) != want || res.StaleRevision != 21 {
		t.Errorf("%d stale of %d, revision %d", len(res.Outcomes), want, res.StaleRevision)
	}
	if res := n.ing.store(t.Context(), shareTo(b, n, 21, 5, req), false); len(res.Outcomes) != 0 {
		t.Errorf("%d stale for a sender that has seen the change", len(res.Outcomes))
	}
}

func TestAReceiverThatIsBehindWaitsForWhatAShareNeeds(t *testing.T) {
	b := newBed(t, 3, nil)
	table := tableOf(t, 64, 3, 3, 2, 5)
	b.show(10, table)
	n := b.nodes[0]
	done := make(chan *peerpb.ShareResult)
	go func() { done <- n.ing.store(t.Context(), shareTo(b, n, 12, 12, samplesOf(3, now(), 1)), false) }()
	n.ing.SetView(b.view(n, 12, table, nil))
	if res := <-done; res.Status != peerpb.Status_DONE || len(res.Outcomes) != 0 {
		t.Errorf("%v", res)
	}
	begin := time.Now()
	if res := n.ing.store(t.Context(), shareTo(b, n, 99, 99, samplesOf(3, now(), 1)), false); res.Status != peerpb.Status_BEHIND || time.Since(begin) < behindWait {
		t.Errorf("after %s: %v", time.Since(begin), res)
	}
	if got := n.ing.Announced(); got != 12 {
		t.Errorf("announced %d: a share that waits holds up nothing", got)
	}
}

func TestMovedSeriesAreRoutedAgain(t *testing.T) {
	b := newBed(t, 4, func(c *Config) { c.QuorumTimeout = 2 * time.Second })
	before := tableOf(t, 64, 3, 3, 2, 5)
	req := samplesOf(500, now(), 1)
	frames, _ := framesOf(t, req)
	moved := slotsOf(t, before, frames)[0]
	var steps []ring.Step
	for s := range 32 {
		steps = append(steps, ring.Step{Slot: (moved + s) % 64, Replicas: ring.SetOf(1, 2, 4), Quorum: 2, Base: 5})
	}
	after, err := before.Apply(steps, 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	b.show(10, before)
	for _, n := range b.nodes[1:] {
		n.ing.SetView(b.view(n, 20, after, nil))
	}
	time.AfterFunc(100*time.Millisecond, func() { b.nodes[0].ing.SetView(b.view(b.nodes[0], 20, after, nil)) })
	b.nodes[0].mustPost(req, http.StatusNoContent)
	eventually(t, "three copies by the new table", func() bool {
		held := map[string]int{}
		for _, n := range b.nodes {
			for series := range n.storage.content(tenantID) {
				if after.Slot(slotOf(t, after, series)).Replicas.Has(n.store) {
					held[series]++
				}
			}
		}
		for _, copies := range held {
			if copies != 3 {
				return false
			}
		}
		return len(held) == 500
	})
	// One whose coordinator never sees the change is told to come again.
	for _, n := range b.nodes[1:] {
		n.ing.SetView(b.view(n, 40, tableOf(t, 64, 4, 3, 2, 40), nil))
	}
	body := b.nodes[0].mustPost(samplesOf(500, now(), 1), http.StatusServiceUnavailable)
	if !strings.Contains(body, "this node has not seen revision 40") {
		t.Errorf("answered %q", body)
	}
}

// TestAHungReplicaDoesNotHoldUpWhatHasMoved: of the old replicas one has stored,
// one says that the series have moved, and one hangs. The new ones take them.
func TestAHungReplicaDoesNotHoldUpWhatHasMoved(t *testing.T) {
	b := newBed(t, 5, nil)
	move := func(base uint64, set ring.Set) (steps []ring.Step) {
		for s := range 64 {
			steps = append(steps, ring.Step{Slot: s, Replicas: set, Quorum: 2, Base: base})
		}
		return steps
	}
	before, err := tableOf(t, 64, 3, 3, 2, 5).Apply(move(5, ring.SetOf(2, 3, 4)), 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	after, err := before.Apply(move(10, ring.SetOf(1, 2, 5)), 20, 2)
	if err != nil {
		t.Fatal(err)
	}
	b.show(10, before)
	hung := make(chan struct{})
	defer close(hung)
	b.nodes[3].storage.set(func(s *promStorage) { s.gate = func(string) error { <-hung; return nil } })
	for _, i := range []int{1, 4} { // n3 has not heard of it
		b.nodes[i].ing.SetView(b.view(b.nodes[i], 20, after, nil))
	}
	time.AfterFunc(50*time.Millisecond, func() { b.nodes[0].ing.SetView(b.view(b.nodes[0], 20, after, nil)) })
	b.nodes[0].mustPost(samplesOf(500, now(), 1), http.StatusNoContent)
}

func TestARequestMayBeLargerThanTheWayToAPeerIsWide(t *testing.T) {
	b := newBed(t, 3, func(c *Config) { c.PeerBytes, c.QuorumTimeout = 1<<19, 30*time.Second })
	b.show(10, tableOf(t, 64, 3, 3, 3, 5)) // all of them: what the last one waits for is bounded else
	b.nodes[0].mustPost(samplesOf(30_000, now(), 1), http.StatusNoContent)
	eventually(t, "all of it is on every node", func() bool { return b.total() == 3*30_000 })
	for _, to := range []ring.Store{2, 3} {
		p := b.nodes[0].way(to)
		eventually(t, "nothing is on its way any more", func() bool { return p.load() == 0 })
		for _, l := range p.lanes {
			l.mu.Lock()
			if l.left != 0 || len(l.waiting) != 0 {
				t.Errorf("%d bytes, %d parcels are left waiting", l.left, len(l.waiting))
			}
			l.mu.Unlock()
		}
	}
}

func TestASlowPeerIsGivenUpAndCostsOnlyItself(t *testing.T) {
	b := newBed(t, 3, func(c *Config) { c.PeerBytes, c.PeerAge = 40<<10, 4*time.Second })
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	hung := make(chan struct{})
	defer close(hung)
	b.nodes[2].storage.set(func(s *promStorage) { s.gate = func(string) error { <-hung; return nil } })
	for i := range 20 {
		b.nodes[0].mustPost(samplesOf(100, now()+int64(i), 1), http.StatusNoContent)
	}
	p := b.nodes[0].way(3)
	if n := p.load(); n == 0 || n > 40<<10 {
		t.Errorf("%d bytes are on their way to a hung peer", n)
	}
	for _, l := range p.lanes {
		l.mu.Lock()
		if l.left > 40<<10 {
			t.Errorf("%d bytes wait to be on their way to a hung peer", l.left)
		}
		l.mu.Unlock()
	}
	eventually(t, "what waited too long is given up", func() bool { return p.load() == 0 })
}

// TestLoadWithRestarts writes from all sides while the member doors of nodes
// go and come: every acknowledged sample is on a quorum of its replicas, and
// nobody reads a released buffer.
func TestLoadWithRestarts(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		table, begin := b.table(), now()
		const writers, rounds = 6, 12
		var acked [writers][]int64
		var work sync.WaitGroup
		for w := range writers {
			work.Go(func() {
				for r := range rounds {
					at := begin + int64(w*1000+r)
					if b.nodes[w%len(b.nodes)].post(samplesOf(300, at, float64(at))).Code == http.StatusNoContent {
						acked[w] = append(acked[w], at)
					}
				}
			})
		}
		for k := range 3 {
			n := b.nodes[k%len(b.nodes)]
			n.kill()
			n.listen(n.address)
		}
		work.Wait()
		total := 0
		var contents []map[string]map[int64]float64
		for _, n := range b.nodes {
			contents = append(contents, n.storage.content(tenantID))
		}
		slots := map[string]int{}
		for w := range acked {
			for _, at := range acked[w] {
				total++
				copies := map[string]int{}
				for i, content := range contents {
					for series, points := range content {
						if v, ok := points[at]; ok && v == float64(at) {
							copies[series]++
						} else if ok {
							t.Fatalf("%s has %v at %d of %s", b.nodes[i].name, v, at, series)
						}
					}
				}
				if len(copies) != 300 {
					t.Fatalf("%d of 300 acknowledged samples are somewhere", len(copies))
				}
				for series, c := range copies {
					slot, ok := slots[series]
					if !ok {
						slot = slotOf(t, table, series)
						slots[series] = slot
					}
					if c < table.Slot(slot).Quorum {
						t.Fatalf("%s is on %d nodes", series, c)
					}
				}
			}
		}
		if total == 0 {
			t.Fatal("nothing was acknowledged")
		}
	})
}

func TestASenderThatGoesAwayLeavesItsSamples(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	hung := make(chan struct{})
	for _, n := range b.nodes {
		n.storage.set(func(s *promStorage) { s.gate = func(string) error { <-hung; return nil } })
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := b.nodes[0].post(samplesOf(10, now(), 1), func(r *http.Request) { *r = *r.WithContext(ctx) })
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("answered %d", w.Code)
	}
	close(hung)
	eventually(t, "all three have them", func() bool { return b.total() == 30 })
}

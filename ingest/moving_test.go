package ingest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/muster-metrics/muster/ring"
)

// TestAcknowledgedMeansHeldWhileSlotsMove moves slots again and again under
// writes, while nodes hear of it late, hold the view before and storages answer late, each by chance:
// what was acknowledged is held by a quorum, whatever the answers' order. And a
// series whose slot stays where it is meets no fence.
func TestAcknowledgedMeansHeldWhileSlotsMove(t *testing.T) {
	for _, c := range []struct {
		rf, quorum int
		keep       time.Duration
	}{{2, 1, -1}, {3, 1, -1}, {3, 2, -1}, {3, 3, -1}, {2, 1, 5}, {3, 2, 5}, {3, 2, 20}, {3, 3, 10}} {
		t.Run(fmt.Sprintf("%d of %d, held for %d ms", c.quorum, c.rf, c.keep), func(t *testing.T) {
			t.Parallel()
			b := newBed(t, 5, func(cfg *Config) { cfg.SettleWait = c.keep * time.Millisecond })
			m := &moving{b: b, table: tableOf(t, 64, 5, c.rf, c.quorum, 5), quorum: c.quorum}
			b.show(10, m.table)
			for _, n := range b.nodes {
				n.storage.set(func(s *promStorage) { s.gate = lateNowAndThen })
			}
			m.run()
			m.count()
			m.fences(c.keep < 0)
		})
	}
}

// lateNowAndThen makes some appends later than what a write waits for a doubted
// replica.
func lateNowAndThen(string) error {
	if rand.IntN(4) == 0 {
		<-time.After(rand.N(3 * doubtWait))
	}
	return nil
}

// moving is writes and moves at the same time.
type moving struct {
	b      *bed
	table  *ring.Table
	quorum int

	clock atomic.Int64
	mu    sync.Mutex
	acked []int64 // times whose request was acknowledged
}

const movingSeries = 40

func (m *moving) run() {
	m.clock.Store(now())
	var writers sync.WaitGroup
	done := make(chan struct{})
	for _, n := range m.b.nodes {
		for range 2 {
			writers.Go(func() { m.write(n, done) })
		}
	}
	for round := range 30 {
		m.move(uint64(20 + round))
		for _, k := range rand.Perm(len(m.b.nodes)) {
			n, table := m.b.nodes[k], m.table
			if rand.IntN(2) == 0 {
				<-time.After(rand.N(20 * time.Millisecond))
			}
			n.ing.SetView(m.b.view(n, uint64(20+round), table, nil))
		}
	}
	close(done)
	writers.Wait()
}

func (m *moving) write(n *node, done chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		at := m.clock.Add(1)
		if n.post(samplesOf(movingSeries, at, 1)).Code == http.StatusNoContent {
			m.mu.Lock()
			m.acked = append(m.acked, at)
			m.mu.Unlock()
		}
	}
}

// move gives one replica of every fourth slot or so to another store.
func (m *moving) move(rev uint64) {
	var steps []ring.Step
	for s := range m.table.Slots() {
		slot := m.table.At(s)
		gone, come := slot.Replicas.At(rand.IntN(slot.Replicas.Len())), ring.Store(rand.IntN(len(m.b.nodes))+1)
		if rand.IntN(4) == 0 && !slot.Replicas.Has(come) {
			steps = append(steps, ring.Step{Slot: s, Replicas: slot.Replicas.Replace(gone, come), Quorum: m.quorum, Base: slot.Changed})
		}
	}
	next, err := m.table.Apply(steps, rev, int64(rev))
	if err != nil {
		m.b.t.Error(err)
		return
	}
	m.table = next
}

// count wants every sample of every acknowledged request on a quorum of nodes.
func (m *moving) count() {
	held := map[string]map[int64]int{}
	for _, n := range m.b.nodes {
		for series, points := range n.storage.content(tenantID) {
			if held[series] == nil {
				held[series] = map[int64]int{}
			}
			for at := range points {
				held[series][at]++
			}
		}
	}
	if len(m.acked) == 0 || len(held) != movingSeries {
		m.b.t.Fatalf("%d requests acknowledged, %d series held", len(m.acked), len(held))
	}
	missing := 0
	for _, at := range m.acked {
		for _, points := range held {
			if points[at] < m.quorum {
				missing++
			}
		}
	}
	if missing > 0 {
		m.b.t.Errorf("%d samples of %d acknowledged requests are on fewer than %d nodes", missing, len(m.acked), m.quorum)
	}
}

// fences wants series to have been refused, where nobody holds a view before, and
// none of a slot that had not moved.
func (m *moving) fences(met bool) {
	stale := 0.0
	for _, n := range m.b.nodes {
		stale += testutil.ToFloat64(n.ing.metrics.staleSeries)
		if strange := testutil.ToFloat64(n.ing.metrics.strangeSeries); strange != 0 {
			m.b.t.Errorf("%s: %v series are refused whose slots had not moved", n.name, strange)
		}
	}
	if met && stale == 0 {
		m.b.t.Error("no fence was met")
	}
}

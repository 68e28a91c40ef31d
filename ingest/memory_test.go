package ingest

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestTheDoorsShutBeforeTheBudgetIsUsedUp: writes first, then shares, and each
// opens again a little below.
func TestTheDoorsShutBeforeTheBudgetIsUsedUp(t *testing.T) {
	var held int64
	var log bytes.Buffer
	m := newMemory(Config{MemoryBudget: 1600, Held: func(bool) int64 { return held }})
	m.log = slog.New(slog.NewTextHandler(&log, nil))
	now := time.Now()
	for _, c := range []struct {
		held           int64
		writes, shares bool
	}{
		{0, true, true},
		{1199, true, true},
		{1200, false, true},
		{1101, false, true}, // it would open and shut all the time
		{1400, false, false},
		{1301, false, false},
		{1299, false, true},
		{1099, true, true},
		{1500, false, false},
		{1000, true, true},
	} {
		held = c.held
		now = now.Add(memoryTick)
		m.look(now)
		if writes, shares := m.refusesWrites() == nil, m.refusesShares() == nil; writes != c.writes || shares != c.shares {
			t.Errorf("%d of 1600 held: writes are taken: %t, shares: %t", c.held, writes, shares)
		}
	}
	if m.shut.Load() != 2 {
		t.Errorf("shut %d times", m.shut.Load())
	}
	if got := strings.Count(log.String(), "\n"); got != 6 {
		t.Errorf("%d lines:\n%s", got, &log)
	}
}

// TestAShutDoorOpensByItself: a process that takes nothing makes no garbage, so
// nobody would ever find out that there is room again.
func TestAShutDoorOpensByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var collections atomic.Int64
		var stuck atomic.Bool
		stuck.Store(true)
		m := newMemory(Config{MemoryBudget: 1000, Held: func(collect bool) int64 {
			if collect && collections.Add(1) > 3 {
				stuck.Store(false)
			}
			if stuck.Load() {
				return 900
			}
			return 100
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.run(ctx); close(done) }()
		<-time.After(memoryTick)
		synctest.Wait()
		if m.refusesWrites() == nil || m.refusesShares() == nil {
			t.Error("nothing is refused")
		}
		<-time.After(3 * collectEvery)
		synctest.Wait()
		if got := collections.Load(); got < 3 || got > 4 {
			t.Errorf("%d collections in %v", got, 3*collectEvery)
		}
		<-time.After(2 * collectEvery)
		synctest.Wait()
		if err := m.refusesWrites(); err != nil {
			t.Error(err)
		}
		cancel()
		<-done
	})
}

// holding256 is what is held while 256 MiB more are.
func holding256(t *testing.T) int64 {
	t.Helper()
	kept := make([]byte, 256<<20)
	defer runtime.KeepAlive(kept)
	return heldMemory(true)
}

func TestWhatIsHeldIsNotGarbage(t *testing.T) {
	heldMemory(true)
	before := heldMemory(true) // the second empties the pools
	with := holding256(t)
	if with-before < 192<<20 || with-before > 320<<20 {
		t.Errorf("256 MiB more are %d MiB", (with-before)>>20)
	}
	if without := heldMemory(true); without-before > 64<<20 {
		t.Errorf("%d MiB are held of what is garbage", (without-before)>>20)
	}
}

// TestANodeOverItsBudgetSaysSoEarly: it reads nothing of a write, refuses what
// others send, the others make the quorum, and it takes all of it afterwards.
func TestANodeOverItsBudgetSaysSoEarly(t *testing.T) {
	var held atomic.Int64
	b := newBed(t, 3, func(c *Config) {
		c.MemoryBudget = 1 << 30
		c.Held = func(bool) int64 { return held.Load() }
	})
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	n := b.nodes[1]
	reg := prometheus.NewPedanticRegistry()
	n.ing.admission.register(reg)
	held.Store(1 << 30)
	n.ing.admission.memory.look(time.Now())
	read := false
	w := n.post(samplesOf(10, now(), 1), func(r *http.Request) {
		from := r.Body
		r.Body = readerFunc{func(p []byte) (int, error) { read = true; return from.Read(p) }, from.Close}
	})
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "this node holds 1024 MiB of 1024 MiB") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if read {
		t.Error("the body was read")
	}
	b.nodes[0].mustPost(samplesOf(10, now(), 1), http.StatusNoContent)
	eventually(t, "the third has it", func() bool { return b.nodes[2].storage.count(tenantID) == 10 })
	if got := n.storage.count(tenantID); got != 0 {
		t.Errorf("a node over its budget stores %d samples", got)
	}
	if got, err := testutil.GatherAndCount(reg, "muster_ingest_gate_inside", "muster_ingest_memory_held_bytes"); got != 5 || err != nil {
		t.Errorf("%d metrics, %v", got, err)
	}
	held.Store(0)
	n.ing.admission.memory.look(time.Now())
	eventually(t, "what it refused comes again", func() bool { return n.storage.count(tenantID) == 10 })
	n.mustPost(samplesOf(10, now()+1, 1), http.StatusNoContent)
}

type readerFunc struct {
	read  func([]byte) (int, error)
	close func() error
}

func (r readerFunc) Read(p []byte) (int, error) { return r.read(p) }
func (r readerFunc) Close() error               { return r.close() }

func TestTheBoundsFollowTheBudget(t *testing.T) {
	c := Config{MemoryBudget: 256 << 20}.withDefaults()
	if c.MaxRequestBytes != 16<<20 || c.MaxDecodedBytes != 16<<20 || c.InflightBytes != 32<<20 || c.PeerBytes != 8<<20 {
		t.Errorf("%+v", c)
	}
	ps := &peers{cfg: c}
	if got := ps.room(); got != 8<<20 {
		t.Errorf("%d bytes for one peer", got)
	}
	ps.ways.Store(16)
	if got := ps.room(); got != 2<<20 {
		t.Errorf("%d bytes for each of 16 peers, and as much again", got)
	}
	ps.ways.Store(1000)
	if got := ps.room(); got != leastPeerBytes {
		t.Errorf("%d bytes for each of 1000", got)
	}
	if c := (Config{}).withDefaults(); c.MaxDecodedBytes != 128<<20 || c.InflightBytes != 256<<20 || (&peers{cfg: c}).room() != 64<<20 {
		t.Errorf("without a budget: %+v", c)
	}
}

package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	runtimemetrics "runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// memory is how much of its budget this process holds on to, looked at ten times
// a second. Where that is too much, writes are sent away before a byte of them is
// read, and a little later shares of the other members, too: a replica that is
// killed for its memory has lost more than a share that comes again.
//
//	0 ──────────────────────── 3/4 ─────────── 7/8 ──────── budget
//	everything is taken          writes get 503  shares, too
//
// What is held is what the garbage collector found alive when it ran last, and
// what else the runtime needs. Up to the budget the rest is room for garbage: the
// nearer what is alive comes to it, the more often the collector runs, until it
// does little else. That is why the doors shut well before.
//
// It ends by itself: while a door is shut the collector is made to run, since a
// process that takes nothing has no other reason to. A door opens again a
// sixteenth below where it has shut.
type memory struct {
	budget int64 // 0: none
	held   func(collect bool) int64
	log    *slog.Logger

	used  atomic.Int64
	state atomic.Int32
	// collected is when the collector was made to run last.
	collected time.Time
	// shut counts how often the doors were shut, sent how many found them so.
	shut, sent atomic.Uint64
}

const (
	roomy int32 = iota // everything is taken
	tight              // writes are not
	full               // shares are not, either
)

const (
	memoryTick = 100 * time.Millisecond
	// collectEvery bounds what the collector costs while a door is shut.
	collectEvery = 2 * time.Second
)

var (
	errTight = errors.New("most of its memory budget is in use")
	errSpent = errors.New("its memory budget is used up")
)

func newMemory(cfg Config) *memory {
	m := &memory{budget: cfg.MemoryBudget, held: cfg.Held}
	if m.held == nil {
		m.held = heldMemory
	}
	return m
}

// refusesWrites is why no write is taken now.
func (m *memory) refusesWrites() error {
	if m.state.Load() == roomy {
		return nil
	}
	m.sent.Add(1)
	return fmt.Errorf("%w: %w", errOverloaded, m.why(errTight))
}

// refusesShares is why no share is stored now.
func (m *memory) refusesShares() error {
	if m.state.Load() != full {
		return nil
	}
	m.sent.Add(1)
	return fmt.Errorf("%w: %w", errOverloaded, m.why(errSpent))
}

func (m *memory) why(err error) error {
	return fmt.Errorf("this node holds %d MiB of %d MiB: %w", m.used.Load()>>20, m.budget>>20, err)
}

// run looks until ctx ends.
func (m *memory) run(ctx context.Context) {
	if m.budget <= 0 {
		return
	}
	tick := time.NewTicker(memoryTick)
	defer tick.Stop()
	for {
		m.look(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.state.Store(roomy) // nobody looks any more
			return
		}
	}
}

// look judges what is held now.
func (m *memory) look(now time.Time) {
	was := m.state.Load()
	used := m.held(false)
	if was != roomy && m.judge(used, was) == was && now.Sub(m.collected) >= collectEvery {
		used = m.held(true)
		m.collected = now
	}
	m.used.Store(used)
	is := m.judge(used, was)
	if is == was {
		return
	}
	m.state.Store(is)
	if was == roomy {
		m.shut.Add(1)
	}
	m.tell(was, is, used)
}

// judge is the state that so many bytes mean, after another one.
func (m *memory) judge(used int64, was int32) int32 {
	shut := m.budget / 8 * 6
	spent := m.budget / 8 * 7
	back := m.budget / 16 // that a door opens later than it shuts
	switch {
	case used >= spent || (was == full && used >= spent-back):
		return full
	case used >= shut || (was != roomy && used >= shut-back):
		return tight
	default:
		return roomy
	}
}

func (m *memory) tell(was, is int32, used int64) {
	if m.log == nil {
		return
	}
	if is < was {
		m.log.Info("memory: "+stateTexts[is], "held", used, "budget", m.budget)
		return
	}
	m.log.Warn("memory: "+stateTexts[is], "held", used, "budget", m.budget,
		"next", "fewer series or queries on this node, or a larger --memory-budget")
}

var stateTexts = [...]string{
	roomy: "there is room again, writes are taken",
	tight: "most of the budget is in use, writes get 503",
	full:  "the budget is used up, writes get 503 and other nodes' shares are refused",
}

func (m *memory) register(reg prometheus.Registerer) {
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "muster_ingest_memory_budget_bytes", Help: "Memory that this process may use; 0: nothing is refused for it.",
		}, func() float64 { return float64(m.budget) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "muster_ingest_memory_held_bytes", Help: "Memory that this process holds on to. From three quarters of the budget on writes are refused, from seven eighths shares.",
		}, func() float64 { return float64(m.used.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "muster_ingest_memory_shut_total", Help: "How often the doors were shut for want of memory.",
		}, func() float64 { return float64(m.shut.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "muster_ingest_memory_refused_total", Help: "Writes and shares that were refused for want of memory.",
		}, func() float64 { return float64(m.sent.Load()) }),
	)
}

// heldMemory is the memory that Go's runtime cannot give up: what was alive when
// the collector ran last, stacks, and its own. Collect makes it run now.
func heldMemory(collect bool) int64 {
	if collect {
		runtime.GC()
	}
	s := []runtimemetrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	runtimemetrics.Read(s)
	held := int64(s[0].Value.Uint64() + s[1].Value.Uint64())
	for _, heap := range s[2:] {
		held -= int64(heap.Value.Uint64())
	}
	return held
}

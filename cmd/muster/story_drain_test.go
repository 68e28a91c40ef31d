package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"
)

// pen writes through some nodes without a pause, each series at every tick, and
// remembers what was refused. Nothing is sent twice.
type pen struct {
	b       *bed
	tenant  string
	series  int
	doors   []int
	stop    chan struct{}
	once    sync.Once
	done    sync.WaitGroup
	mu      sync.Mutex
	last    int64 // time of the newest tick that was acknowledged
	first   int64
	ticks   int
	refused []string
}

// pen begins to write through these nodes.
func (b *bed) pen(tenant string, series int, doors ...int) *pen {
	p := &pen{b: b, tenant: tenant, series: series, doors: doors, stop: make(chan struct{})}
	p.done.Go(p.run)
	return p
}

func (p *pen) run() {
	now := time.Now().UnixMilli()
	for k := 0; ; k++ {
		select {
		case <-p.stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		now = max(now+1, time.Now().UnixMilli())
		door := p.doors[k%len(p.doors)]
		status, text := p.b.post(door, p.tenant, snappy.Encode(nil, body(batch("m", p.series, now)...)))
		p.mu.Lock()
		if status/100 == 2 {
			p.ticks++
			p.last = now
			if p.first == 0 {
				p.first = now
			}
		} else {
			p.refused = append(p.refused, fmt.Sprintf("n%d: %d %s", door+1, status, text))
		}
		p.mu.Unlock()
	}
}

// wrote waits for some more acknowledged ticks.
func (p *pen) wrote(more int) {
	p.b.t.Helper()
	begin := p.count()
	p.b.eventually(fmt.Sprintf("%d more writes", more), func() error {
		if n := p.count() - begin; n < more {
			return fmt.Errorf("%d writes, refused %v", n, p.refusals())
		}
		return nil
	})
}

func (p *pen) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ticks
}

func (p *pen) refusals() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.refused)
}

// halt stops the pen; twice is once.
func (p *pen) halt() {
	p.once.Do(func() { close(p.stop) })
	p.done.Wait()
}

// end stops the pen and wants no write to have been refused.
func (p *pen) end() {
	p.b.t.Helper()
	p.halt()
	require.Empty(p.b.t, p.refusals(), "of %d writes", p.count())
}

// complete wants each acknowledged sample in the answer of each of these nodes.
func (p *pen) complete(nodes ...int) {
	p.b.t.Helper()
	span := fmt.Sprintf("%dms", p.last-p.first+1)
	at := fmt.Sprintf("%d.%03d", p.last/1000, p.last%1000)
	for _, i := range nodes {
		p.b.eventually(fmt.Sprintf("n%d has all samples", i+1), func() error {
			got, err := p.b.ask(i, "-t", p.tenant, "--time", at, "sum(count_over_time(m["+span+"]))")
			if err != nil {
				return err
			}
			if want := float64(p.ticks * p.series); got["{}"] != want {
				return fmt.Errorf("%v, want %v", got, want)
			}
			return nil
		})
	}
}

// TestDrainUnderWrites: a node is drained, stopped, started and drained again
// while the others take writes.
func TestDrainUnderWrites(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		drained := len(b.nodes) - 1
		name := b.nodes[drained].cfg.Name
		_, _, _ = b.try(0, "cluster", "transfer-leader", name) // if it has a vote
		p := b.pen("a", 20, 0, 1)
		defer p.halt()
		p.wrote(5)

		out := b.cli(0, "cluster", "drain", name)
		require.Contains(t, out, "may be stopped now")
		status, text := b.post(drained, "a", snappy.Encode(nil, body(batch("m", 1, time.Now().UnixMilli())...)))
		require.Equal(t, http.StatusServiceUnavailable, status, text)
		require.Contains(t, text, "draining")
		require.Error(t, b.nodes[drained].node.ready.err())
		leader, _ := b.nodes[0].node.cluster.Leader()
		require.NotEqual(t, name, leader)
		b.eventually("the status tells of the drain", func() error {
			out, msg, code := b.try(1, "cluster", "status") // a new leader has to hear everybody first
			if code != exitOK || !strings.Contains(out, name+" is draining since ") {
				return fmt.Errorf("exit %d: %s%s", code, out, msg)
			}
			return nil
		})
		p.wrote(5)

		b.cli(1, "cluster", "undrain", name)
		b.settle()
		b.write(drained, "b", batch("m", 1, time.Now().UnixMilli())...)

		b.cli(1, "cluster", "drain", name)
		b.stop(drained)
		p.wrote(10)
		b.start(drained)
		require.NotContains(t, b.nodes[drained].node.ready.failed(), "draining")
		b.settle()
		p.wrote(5)
		p.end()
		b.write(drained, "b", batch("m", 1, time.Now().UnixMilli())...)
	})
}

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// stream writes samples of now through one node, without a repeat: whatever is
// not 2xx was refused.
type stream struct {
	b      *bed
	flow   string
	node   int
	tenant string

	mu      sync.Mutex
	acked   int
	refused []string
}

const (
	streamSeries = 20
	// streamPause keeps five streams from taking the whole of a small machine.
	streamPause = 15 * time.Millisecond
)

func (s *stream) run(ctx context.Context) {
	tick := time.NewTicker(streamPause)
	defer tick.Stop()
	for last := int64(0); ctx.Err() == nil; <-tick.C {
		last = max(last+1, time.Now().UnixMilli())
		status, text := s.b.post(s.node, s.tenant, snappy.Encode(nil, body(s.samples(last)...)))
		s.mu.Lock()
		if status/100 == 2 {
			s.acked++
		} else {
			s.refused = append(s.refused, fmt.Sprintf("%d %s", status, text))
		}
		s.mu.Unlock()
	}
}

func (s *stream) samples(t int64) []sample {
	out := make([]sample, streamSeries)
	for i := range out {
		out[i] = sample{labels.FromStrings("__name__", "m", "flow", s.flow, "through", fmt.Sprintf("n%d", s.node+1), "instance", strconv.Itoa(i)), t, float64(i)}
	}
	return out
}

func (s *stream) rounds() (acked, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked, len(s.refused)
}

// streams write each tenant through every node of a bed.
type streams struct {
	b   *bed
	all []*stream
	end context.CancelFunc
	wg  sync.WaitGroup
}

func (b *bed) stream(flow string, tenants ...string) *streams {
	ctx, end := context.WithCancel(context.Background())
	f := &streams{b: b, end: end}
	for i := range b.nodes {
		for _, tenant := range tenants {
			s := &stream{b: b, flow: flow, node: i, tenant: tenant}
			f.all = append(f.all, s)
			f.wg.Go(func() { s.run(ctx) })
		}
	}
	b.t.Cleanup(f.stop)
	return f
}

func (f *streams) stop() {
	f.end()
	f.wg.Wait()
}

// more waits until each stream has had n more rounds acknowledged.
func (f *streams) more(n int) {
	f.b.t.Helper()
	want := make([]int, len(f.all))
	for i, s := range f.all {
		acked, _ := s.rounds()
		want[i] = acked + n
	}
	f.b.eventually("more is acknowledged", func() error {
		for i, s := range f.all {
			if acked, refused := s.rounds(); refused > 0 {
				return fmt.Errorf("%s through n%d: refused %s", s.tenant, s.node+1, s.refused[0])
			} else if acked < want[i] {
				return fmt.Errorf("%s through n%d: %d of %d", s.tenant, s.node+1, acked, want[i])
			}
		}
		return nil
	})
}

// count ends the streams and wants nothing refused, and every acknowledged sample in a complete answer
// of every node.
func (f *streams) count() {
	f.b.t.Helper()
	f.stop()
	at := strconv.FormatInt(time.Now().Unix()+5, 10)
	want := map[string]map[string]float64{}
	for _, s := range f.all {
		require.Empty(f.b.t, s.refused, "%s through n%d", s.tenant, s.node+1)
		if want[s.tenant] == nil {
			want[s.tenant] = map[string]float64{}
		}
		want[s.tenant][fmt.Sprintf(`{flow=%q, through="n%d"}`, s.flow, s.node+1)] = float64(s.acked * streamSeries)
	}
	for tenant, counts := range want {
		for i, r := range f.b.nodes {
			if r.node == nil {
				continue
			}
			f.b.eventually(fmt.Sprintf("n%d counts what was acknowledged for %s", i+1, tenant), func() error {
				got, err := f.b.ask(i, "-t", tenant, "--time", at, fmt.Sprintf(`sum by (flow, through) (count_over_time(m{flow=%q}[1h]))`, f.all[0].flow))
				if err == nil && fmt.Sprint(got) != fmt.Sprint(counts) {
					err = fmt.Errorf("it has %v, acknowledged are %v", got, counts)
				}
				return err
			})
		}
	}
}

// onRing waits until every node has the tenant on the ring.
func (b *bed) onRing(tenant, name string) {
	b.t.Helper()
	b.eventually(tenant+" is on ring "+name, func() error {
		for i := range b.nodes {
			st := b.nodes[i].node.cluster.State()
			if r := st.RingByID(st.Tenant(tenant).GetRoute().GetRing()); r == nil || r.Spec.GetName() != name {
				return fmt.Errorf("n%d has it elsewhere", i+1)
			}
		}
		return nil
	})
}

// routesClosed waits until no write can begin by a former ring of the tenant.
func (b *bed) routesClosed(tenant string) {
	b.t.Helper()
	b.eventually("the former routes of "+tenant+" are closed", func() error {
		for _, p := range b.nodes[0].node.cluster.State().Tenant(tenant).GetPastRoutes() {
			if p.GetClosed() == 0 {
				return fmt.Errorf("open is %v", p)
			}
		}
		return nil
	})
}

// TestTenantsMoveBetweenRingsUnderWrites: by a pattern, by name, back, again
// while the former route is open, with their ring deleted, and through each
// write quorum: nothing is refused, nothing is lost, and every node says so.
func TestTenantsMoveBetweenRingsUnderWrites(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b    []string
		rf      string
		quorums []string
	}{
		{[]string{"n1", "n2", "n3"}, []string{"n3", "n4", "n5"}, "3", []string{"one", "majority", "all", "one"}},
		{[]string{"n1", "n2", "n3"}, []string{"n2", "n3", "n4"}, "2", []string{"all", "majority"}},
	} {
		nodes := map[bool]int{true: 4, false: 5}[c.b[2] == "n4"]
		t.Run(fmt.Sprintf("%d nodes, replication factor %s", nodes, c.rf), func(t *testing.T) {
			t.Parallel()
			b := slottedBed(t, nodes, 3, fewSlots)
			put := func(verb, name string, more ...string) {
				b.cli(nodes-1, append([]string{"ring", verb, name}, more...)...)
			}
			put("create", "a", "--tenants", "team-*,solo", "--nodes", strings.Join(c.a, ","), "--replication-factor", c.rf, "--slots", "64")
			put("create", "b", "--tenants", "other", "--nodes", strings.Join(c.b, ","), "--replication-factor", c.rf, "--slots", "64")
			f := b.stream("first", "team-x", "solo")
			f.more(5)
			b.onRing("team-x", "a")

			put("set", "b", "--tenants", "other,team-x") // a name over a's pattern
			f.more(5)
			b.cli(1, "tenant", "set", "solo", "--ring", "b") // both by name
			f.more(5)
			f.count()

			g := b.stream("second", "team-x", "solo")
			for i := range 6 { // back and forth, faster than routes are closed
				b.cli(i%nodes, "tenant", "set", "solo", "--ring", []string{"a", "b"}[i%2])
				b.cli(i%nodes, "tenant", "set", "team-x", "--ring", []string{"a", "b"}[i%2])
			}
			g.more(5)
			for _, q := range c.quorums {
				put("set", "b", "--write-quorum", q)
				put("rebalance", "b")
				g.more(5)
			}
			put("delete", "b") // to a by its pattern, and to the ring of all
			b.onRing("team-x", "a")
			b.onRing("solo", "default")
			g.more(5)
			b.routesClosed("team-x")
			b.routesClosed("solo")
			g.count()
			f.count()
			b.audit()
		})
	}
}

package main

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"
)

func TestLimitsHoldOverTheWholeCluster(t *testing.T) {
	t.Parallel()
	beds(t, limitsHold)
}

func limitsHold(t *testing.T, b *bed) {
	b.cli(0, "tenant", "create", "over", "--active-series", "400")
	accepted := b.over(1, 500, 50)
	// P10: within max(1 %, 3/√series per node).
	bound := 400 * 3 / math.Sqrt(400*3/float64(len(b.nodes)))
	require.InDelta(t, 400, accepted, bound)
	require.Equal(t, accepted, b.over(2, 500, 50), "the same series are taken again, and no others")
	b.eventually("each node warns of it", func() error {
		for i := range b.nodes {
			if used := b.limitUsed(i, "over", "active_series"); used < 0.8 {
				return fmt.Errorf("n%d: %v of the limit are used", i+1, used)
			}
		}
		return nil
	})
	b.cli(1, "tenant", "set", "over", "--active-series", "0")
	b.eventually("nothing is refused without a limit", func() error {
		if got := b.over(3, 500, 50); got != 500 {
			return fmt.Errorf("%d of 500 accepted", got)
		}
		return nil
	})
	ratesHold(t, b)
}

// over writes one sample of each series of tenant over, through all nodes in turn,
// and gives how many were acknowledged.
func (b *bed) over(round, series, each int) (accepted int) {
	b.t.Helper()
	all := batch("over", series, time.Now().UnixMilli())
	for first := 0; first < series; first += each {
		raw := snappy.Encode(nil, body(all[first:first+each]...))
		node := (round + first/each) % len(b.nodes)
		status, text := b.post(node, "over", raw)
		switch status {
		case 204:
			accepted += each
		case 400:
			var refused, of, stored int
			_, err := fmt.Sscanf(text, "%d of %d samples refused for good, %d stored", &refused, &of, &stored)
			require.NoError(b.t, err, text)
			require.Equal(b.t, each, refused+stored, text)
			require.Contains(b.t, text, "series would be new and active_series, 400, is reached", text)
			accepted += stored
		default:
			b.t.Fatalf("%d %s", status, text)
		}
	}
	return accepted
}

// limitUsed is the metric that warns of a limit; 0: it does not.
func (b *bed) limitUsed(i int, tenant, limit string) float64 {
	b.t.Helper()
	families, err := b.nodes[i].node.reg.Gather()
	require.NoError(b.t, err)
	for _, f := range families {
		if f.GetName() != "muster_tenant_limit_used_ratio" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == limit && m.GetLabel()[1].GetValue() == tenant {
				return m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

var granted = regexp.MustCompile(`this node grants (\d+)% of the limit`)

// ratesHold: two nodes that get as much each grant half of the limit each.
func ratesHold(t *testing.T, b *bed) {
	b.cli(0, "tenant", "create", "fast", "--samples-per-second", "10", "--burst-samples", "10")
	raw := snappy.Encode(nil, body(batch("fast", 1000, time.Now().UnixMilli())...))
	b.eventually("two nodes share the limit", func() error {
		var statuses [2]int
		var texts [2]string
		for i := range 2 { // each of them, before the first is looked at
			statuses[i], texts[i] = b.post(i, "fast", raw)
		}
		for i := range 2 {
			status, text := statuses[i], texts[i]
			if status == 204 {
				return fmt.Errorf("n%d took it", i+1) // far more than it may: it owes that now
			}
			require.Equal(t, 429, status, text)
			require.True(t, strings.HasPrefix(text, `tenant "fast" is over samples_per_second: 10 are allowed`), text)
			part, err := strconv.Atoi(granted.FindStringSubmatch(text)[1])
			require.NoError(t, err)
			if part < 40 || part > 60 {
				return fmt.Errorf("n%d: %s", i+1, text)
			}
		}
		return nil
	})
	require.GreaterOrEqual(t, b.limitUsed(0, "fast", "samples_per_second"), 1.0)
	b.cli(1, "tenant", "set", "fast", "--samples-per-second", "0")
	b.eventually("nothing is refused without a limit", func() error {
		for i := range b.nodes {
			if status, text := b.post(i, "fast", raw); status != 204 {
				return fmt.Errorf("n%d: %d %s", i+1, status, text)
			}
		}
		return nil
	})
}

package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAPlanForetellsTheSeriesThatComeAnew: `ring plan` says how many series a node
// that joins will get, by what the others report; then it joins, and gets them.
func TestAPlanForetellsTheSeriesThatComeAnew(t *testing.T) {
	t.Parallel()
	beds(t, planForetellsSeries)
}

func planForetellsSeries(t *testing.T, b *bed) {
	tenants := map[string]int{"large": 1500, "small": 300, "tiny": 5}
	total := 0
	write := func(at int64) {
		for tenant, n := range tenants {
			b.write(len(tenant)%3, tenant, batch("m", n, at)...)
		}
	}
	now := time.Now().UnixMilli()
	write(now)
	for tenant, n := range tenants {
		total += n
		b.assertPlacement(tenant, n)
	}
	joins := fmt.Sprintf("n%d", len(b.nodes)+1)
	b.eventually("the members have told of their series", func() error {
		told := 0 // a leader that is new has heard nobody
		for _, h := range b.nodes[0].node.cluster.Health() {
			told += int(h.GetReport().GetSeries())
		}
		if told != 3*total {
			return fmt.Errorf("%d series, want %d", told, 3*total)
		}
		return nil
	})
	var plan plannedRing
	require.NoError(t, json.Unmarshal([]byte(b.cli(0, "ring", "plan", "--add", joins, "-o", "json")), &plan))
	b.grow()
	b.settle()
	write(now + 1000)
	last, came := len(b.nodes)-1, 0
	for tenant := range tenants {
		b.eventually(joins+" has its series of "+tenant, func() error {
			owned := 0
			st := b.nodes[last].node.cluster.State()
			for _, s := range batch("m", tenants[tenant], now) {
				for _, i := range b.owners(st.RouteOf(tenant), tenant, s.labels) {
					if i == last {
						owned++
					}
				}
			}
			if got := b.seriesOn(last, tenant); got != owned {
				return fmt.Errorf("%d, want %d", got, owned)
			}
			return nil
		})
		came += b.seriesOn(last, tenant)
	}
	t.Logf("foretold %.0f, came %d", plan.NewSeries, came)
	require.InEpsilon(t, came, plan.NewSeries, 0.1)
	for _, n := range plan.Nodes {
		if n.Name != joins {
			require.Zero(t, n.NewSeries, n.Name)
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/tsdb"
)

func TestWritesThroughEveryNodeAreCountedOnEveryNode(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		const each = 300
		now := time.Now().UnixMilli()
		for i := range b.nodes {
			b.write(i, "team-a", batch(fmt.Sprintf("m%d", i), each, now)...)
			b.write(i, "", batch(fmt.Sprintf("m%d", i), 10, now)...)
		}
		for i := range b.nodes {
			require.Equal(t, map[string]float64{"{}": float64(each * len(b.nodes))}, b.query(i, "-t", "team-a", `count({job="test"})`))
			require.Equal(t, map[string]float64{
				`{tenant_id="default-tenant"}`: float64(10 * len(b.nodes)),
				`{tenant_id="team-a"}`:         float64(each * len(b.nodes)),
			}, b.query(i, "--all-tenants", `count({job="test"}) by (tenant_id)`))
		}
		b.assertPlacement("team-a", each*len(b.nodes))
	})
}

// held are the series that node i has of a tenant, by their labels, with the
// number of samples.
func (b *bed) held(i int, tenant string) map[string]int {
	b.t.Helper()
	n := b.nodes[i].node
	tn := n.cluster.State().Tenant(tenant)
	require.NotNil(b.t, tn)
	q, err := n.tsdb.ChunkQuerier(tsdb.Key{Tenant: tenant, Incarnation: tn.GetIncarnation()}, 0, 1<<60)
	out := map[string]int{}
	if errors.Is(err, tsdb.ErrUnknownTenant) {
		return out // it has not heard of the tenant yet
	}
	require.NoError(b.t, err)
	defer q.Close()
	set := promstorage.NewSeriesSetFromChunkSeriesSet(q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")))
	for set.Next() {
		ls := set.At().Labels()
		for it := set.At().Iterator(nil); it.Next() != 0; {
			out[ls.String()]++
		}
	}
	require.NoError(b.t, set.Err())
	return out
}

// assertPlacement wants each series on exactly the nodes that the committed
// table gives its slot, and nowhere else. A write is acknowledged before its
// last replica has it.
func (b *bed) assertPlacement(tenant string, series int) {
	b.t.Helper()
	b.eventually("every replica has its series of "+tenant, func() error { return b.placed(tenant, series) })
}

// placed fails at once for a series on a node that does not hold its slot, and
// returns an error while a replica lacks one.
func (b *bed) placed(tenant string, series int) error {
	b.t.Helper()
	st := b.nodes[0].node.cluster.State()
	r := st.RingByID(st.Tenant(tenant).GetRoute().GetRing())
	th := ring.TenantHash(tenant)
	copies := map[string]int{}
	for i := range b.nodes {
		own := st.StoreByID(b.nodes[i].node.folder.store[:])
		n := b.nodes[i].node
		q, err := n.tsdb.ChunkQuerier(tsdb.Key{Tenant: tenant, Incarnation: st.Tenant(tenant).GetIncarnation()}, 0, 1<<60)
		if errors.Is(err, tsdb.ErrUnknownTenant) {
			return err // it has not heard of the tenant yet
		}
		require.NoError(b.t, err)
		set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
		for set.Next() {
			ls := set.At().Labels()
			slot := ring.KeyOf(th, ls.Hash()).Slot(r.Table.Slots())
			require.True(b.t, r.Table.Slot(slot).Replicas.Has(ring.Store(own.GetNumber())), "n%d holds %s of slot %d", i+1, ls, slot)
			copies[ls.String()]++
		}
		require.NoError(b.t, set.Err())
		require.NoError(b.t, q.Close())
	}
	if len(copies) != series {
		return fmt.Errorf("%d series, want %d", len(copies), series)
	}
	for ls, n := range copies {
		if n != r.RF() {
			return fmt.Errorf("%d copies of %s, want %d", n, ls, r.RF())
		}
	}
	return nil
}

func TestOneBadSampleAmongTwoThousand(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		now := time.Now().UnixMilli()
		for _, c := range []struct {
			tenant string
			reason string
			spoil  func(s *sample)
		}{
			{"too-old", "old", func(s *sample) { s.t -= 100 * 3600_000 }},
			{"future", "future", func(s *sample) { s.t += 3600_000 }},
			{"no-name", "no metric name", func(s *sample) { s.labels = labels.FromStrings("job", "test") }},
			{"not-utf8", "UTF-8", func(s *sample) { s.labels = labels.FromStrings("__name__", "m", "x", "\xff") }},
		} {
			samples := batch("m", 2000, now)
			c.spoil(&samples[1234])
			status, text := b.post(0, c.tenant, snappy.Encode(nil, body(samples...)))
			require.Equal(t, 400, status, "%s: %s", c.tenant, text)
			require.Contains(t, text, c.reason, "%s", c.tenant)
			b.eventually("every replica has the others of "+c.tenant, func() error {
				total := 0
				for i := range b.nodes {
					total += len(b.held(i, c.tenant))
				}
				if total != 3*1999 {
					return fmt.Errorf("%d copies", total)
				}
				return nil
			})
			b.assertPlacement(c.tenant, 1999)
		}
	})
}

func TestConflictingValueIsRefusedAndTheOthersAreStored(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		now := time.Now().UnixMilli()
		first := batch("m", 100, now)
		b.write(0, "a", first...)
		again := batch("m", 100, now)
		again[7].v = 4711
		status, text := b.post(1, "a", snappy.Encode(nil, body(again...)))
		require.Equal(t, 400, status, text)
		require.Contains(t, text, "another value is held at that time")
		for i := range b.nodes {
			require.Equal(t, map[string]float64{"{}": 7}, b.query(i, "-t", "a", `sum(m{instance="host-0007"})`))
		}
		// The very same again is what a retry sends: stored.
		status, text = b.post(2, "a", snappy.Encode(nil, body(first...)), "Retry-Attempt", "1")
		require.Equal(t, 204, status, text)
	})
}

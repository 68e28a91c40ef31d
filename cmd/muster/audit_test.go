package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/tsdb"
)

// audit looks through what a story has left: each node holds only series whose
// slot some table gives it or once gave it, and where there is a leader, who
// does not hold a series answers for it as one who does.
func (b *bed) audit() {
	b.t.Helper()
	up := slices.IndexFunc(b.nodes, func(r *running) bool { return r.node != nil })
	if up < 0 {
		return
	}
	st := b.nodes[up].node.cluster.State()
	_, led := b.nodes[up].node.cluster.Leader()
	st.WalkTenants("", func(tn *clusterpb.Tenant) bool {
		seen := labels.EmptyLabels()
		for i, r := range b.nodes {
			if r.node == nil {
				continue
			}
			b.each(i, tn, func(ls labels.Labels) {
				require.True(b.t, b.mayHold(st, i, tn.GetId(), ls), "n%d holds %s of %s, which no table has given it", i+1, ls, tn.GetId())
				seen = ls
			})
		}
		if led && !seen.IsEmpty() {
			b.sameEverywhere(tn.GetId(), seen)
		}
		return true
	})
}

// mayHold says whether a ring's table gives node i the series' slot, or did.
func (b *bed) mayHold(st *cluster.State, i int, tenant string, ls labels.Labels) bool {
	own := ring.Store(st.StoreByID(b.nodes[i].node.folder.store[:]).GetNumber())
	key := ring.KeyOf(ring.TenantHash(tenant), ls.Hash())
	for _, r := range st.AllRings() {
		slot := key.Slot(r.Table.Slots())
		if r.Table.Slot(slot).Replicas.Has(own) {
			return true
		}
		for _, past := range r.Table.Past() {
			if past.Slot == slot && past.Replicas.Has(own) {
				return true
			}
		}
	}
	return false
}

// sameEverywhere wants one complete answer for a series from every node.
func (b *bed) sameEverywhere(tenant string, ls labels.Labels) {
	b.t.Helper()
	selector := "{"
	ls.Range(func(l labels.Label) { selector += fmt.Sprintf("%q=%q,", l.Name, l.Value) })
	at := strconv.FormatInt(time.Now().Unix()+60, 10) // one moment for all, after every sample
	var first map[string]float64
	for i, r := range b.nodes {
		if r.node == nil {
			continue
		}
		var got map[string]float64
		b.eventually(fmt.Sprintf("n%d answers for %s", i+1, tenant), func() (err error) { // it may have just started
			got, err = b.ask(i, "-t", tenant, "--time", at, fmt.Sprintf("count_over_time(%s}[2h])", selector))
			return err
		})
		if first == nil {
			first = got
		}
		require.Equal(b.t, first, got, "%s of %s on n%d", ls, tenant, i+1)
	}
}

// owners are the nodes, from 0, that a ring's table gives a series to.
func (b *bed) owners(r *cluster.Ring, tenant string, ls labels.Labels) (nodes []int) {
	st := b.nodes[0].node.cluster.State()
	slot := r.Table.Slot(ring.KeyOf(ring.TenantHash(tenant), ls.Hash()).Slot(r.Table.Slots()))
	for i, n := range b.nodes {
		if slot.Replicas.Has(ring.Store(st.StoreByID(n.node.folder.store[:]).GetNumber())) {
			nodes = append(nodes, i)
		}
	}
	return nodes
}

// each calls f for every series that node i has of a tenant.
func (b *bed) each(i int, tn *clusterpb.Tenant, f func(labels.Labels)) {
	b.t.Helper()
	q, err := b.nodes[i].node.tsdb.ChunkQuerier(tsdb.Key{Tenant: tn.GetId(), Incarnation: tn.GetIncarnation()}, 0, 1<<60)
	if errors.Is(err, tsdb.ErrUnknownTenant) {
		return // it has not heard of the tenant yet
	}
	require.NoError(b.t, err)
	defer q.Close()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		f(set.At().Labels())
	}
	require.NoError(b.t, set.Err())
}

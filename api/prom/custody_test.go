package prom

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// TestACustodianCountsForItsCustodyOnly: the word of a node for another's store
// counts where the state names it, since the revision that it speaks of.
func TestACustodianCountsForItsCustodyOnly(t *testing.T) {
	b := newBed(t, 3, 1)
	now := ms(time.Hour)
	b.apply(now, &clusterpb.Command{Change: &clusterpb.Command_BeginRemoval{BeginRemoval: &clusterpb.BeginRemoval{Name: "n3"}}})
	b.apply(now, &clusterpb.Command{Change: &clusterpb.Command_SetCustodians{SetCustodians: &clusterpb.SetCustodians{Store: 3, Custodians: []uint32{2}}}})
	st := b.state.Load()
	since, ok := st.Custody(3, 2)
	require.True(t, ok)
	require.Equal(t, []string{"n2", "n3"}, nodesOf(st, map[ring.Store]bool{3: true}), "who is asked for it")

	answer := func(node string, a *peerpb.StoreAnswer) *inquiry {
		i := &inquiry{asked: map[string]bool{}, answers: map[ring.Store][]given{}}
		a.Store = b.member("n3").id[:]
		i.answered(st, node, &peerpb.Provenance{Stores: []*peerpb.StoreAnswer{a}})
		return i
	}
	period := ring.Period{Begin: 1000, End: 2000}
	for name, c := range map[string]struct {
		node   string
		answer *peerpb.StoreAnswer
		counts bool
	}{
		"its own node":            {"n3", &peerpb.StoreAnswer{Replayed: true}, true},
		"its custodian":           {"n2", &peerpb.StoreAnswer{Replayed: true, Custody: since}, true},
		"of an earlier custody":   {"n2", &peerpb.StoreAnswer{Replayed: true, Custody: since - 1}, false},
		"of no custody":           {"n2", &peerpb.StoreAnswer{Replayed: true}, false},
		"who is no custodian":     {"n1", &peerpb.StoreAnswer{Replayed: true, Custody: since}, false},
		"who has not replayed it": {"n3", &peerpb.StoreAnswer{}, false},
		"with a gap there":        {"n2", &peerpb.StoreAnswer{Replayed: true, Custody: since, Gaps: gapAt(1500, 1501)}, false},
		"with a gap elsewhere":    {"n2", &peerpb.StoreAnswer{Replayed: true, Custody: since, Gaps: gapAt(5000, 6000)}, true},
	} {
		require.Equal(t, c.counts, answer(c.node, c.answer).counts(st, 3, period, 0), name)
	}
	// Several answers: one that lacks something does not spoil the other.
	i := answer("n2", &peerpb.StoreAnswer{Custody: since})
	i.answered(st, "n3", &peerpb.Provenance{Stores: []*peerpb.StoreAnswer{{Store: b.member("n3").id[:], Replayed: true}}})
	require.True(t, i.counts(st, 3, period, 0))
	require.True(t, i.unasked(st, 3))
	i.asked["n2"], i.asked["n3"] = true, true
	require.False(t, i.unasked(st, 3))
}

// TestAllAreAskedForTheTimeThatARecoveryHasForgotten: a slot may have been on a
// node that the state does not know of any more.
func TestAllAreAskedForTheTimeThatARecoveryHasForgotten(t *testing.T) {
	b := newBed(t, 3, 1)
	now := ms(time.Hour)
	stores := func(at int64) map[ring.Store]bool {
		return storesOf(b.state.Load(), &clusterpb.Tenant{Id: "nowhere"}, ring.Period{Begin: at, End: at})
	}
	require.Empty(t, stores(now))
	b.apply(now, &clusterpb.Command{Change: &clusterpb.Command_RecoverCluster{RecoverCluster: &clusterpb.RecoverCluster{Node: "n1", Known: 1}}})
	require.Len(t, stores(now-1), 3)
	require.Empty(t, stores(now+slackOf(b.state.Load())+1))
}

// TestNobodyIsMissedForTheTimeThatARecoveryHasForgotten: a member that held
// nothing by the state may have held something by what was lost.
func TestNobodyIsMissedForTheTimeThatARecoveryHasForgotten(t *testing.T) {
	b := newBed(t, 4, 3)
	key, ls := b.tenant("a"), labels.FromStrings("__name__", "m")
	old := b.replicas(key, ls)
	b.write(key, ls, sample{ms(150 * time.Minute), 2})
	b.write(key, ls, sample{ms(0), 1})
	var fourth *member
	for _, m := range b.members {
		if !slices.Contains(old, m) {
			fourth = m
		}
	}
	fourth.stop()
	asked := func() reply { return old[0].query("a", "m{}") }
	before := func() reply { return old[0].query("a", "m", "time", fmt.Sprint(base.Add(-150*time.Minute).Unix())) }
	asked().whole(t)
	b.apply(ms(0), &clusterpb.Command{Change: &clusterpb.Command_RecoverCluster{RecoverCluster: &clusterpb.RecoverCluster{
		Node: old[0].name, Known: 1, KnownMs: ms(time.Minute),
	}}})
	require.Contains(t, asked().lacking(t), "missing "+fourth.name)
	require.Contains(t, before().whole(t), `"2"`, "of that time nothing was lost")
	fourth.serve(fourth.reader)
	asked().whole(t)
}

func gapAt(from, to int64) []*peerpb.Interval {
	return []*peerpb.Interval{{MinTime: from, MaxTime: to}}
}

// TestWhatWasTooMuchToRememberIsNamed: of a tenant that is kept for ever, and of
// no other.
func TestWhatWasTooMuchToRememberIsNamed(t *testing.T) {
	b := newBed(t, 3, 3)
	b.apply(ms(time.Hour), &clusterpb.Command{Change: &clusterpb.Command_PutTenant{PutTenant: &clusterpb.PutTenant{
		Id: "kept", Spec: &clusterpb.TenantSpec{RetentionMs: new(int64)},
	}}})
	b.tenant("a")
	st := b.state.Load()
	p := ring.Period{Begin: ms(2 * time.Hour), End: ms(0)}
	lacks := func(id string) []lack { return expired(st, st.Tenant(id), p, slackOf(st)) }
	require.Empty(t, lacks("kept"))
	st.RingByID(st.Tenant("kept").GetRoute().GetRing()).Spec.ForgottenMs = ms(time.Hour)
	require.Len(t, lacks("kept"), 1)
	require.Empty(t, lacks("a"))
	p.Begin = p.End + slackOf(st)
	p.End = p.Begin
	require.Empty(t, lacks("kept"))
}

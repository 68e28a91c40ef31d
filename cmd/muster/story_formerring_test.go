package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// formerRing is a tenant that has moved from ring a to ring b. What it wrote before
// is on the nodes of a alone, what it writes now on those of b.
type formerRing struct {
	*bed
	old    []int // nodes of ring a that are not in ring b; they may be stopped
	before int   // series
	after  int
}

const formerTenant = "mover"

// beginFormerRing makes both rings with rf nodes each. The nodes of ring a alone are
// as many as may be stopped without ending the leadership.
func beginFormerRing(t *testing.T, rf int) *formerRing {
	f := &formerRing{bed: slottedBed(t, 5, 3, fewSlots)}
	f.old = f.spares()[:2]
	var only, rest []string
	for i, n := range f.nodes {
		if i == f.old[0] || i == f.old[1] {
			only = append(only, n.cfg.Name)
		} else {
			rest = append(rest, n.cfg.Name)
		}
	}
	ring := func(name, tenants string, nodes []string) {
		f.cli(0, "ring", "create", name, "--tenants", tenants, "--nodes", strings.Join(nodes, ","), "--replication-factor", fmt.Sprint(rf), "--slots", "64")
	}
	ring("a", formerTenant+",stays", append(only, rest[:rf-2]...))
	ring("b", "other", rest[:rf])
	for i := range f.nodes {
		f.before += f.writeAs(i, "before")
	}
	f.assertPlacement(formerTenant, f.before)
	f.cli(1, "tenant", "set", formerTenant, "--ring", "b")
	for i := range f.nodes {
		f.after += f.writeAs(i, "after")
	}
	f.routesClosed(formerTenant)
	f.everybodyHas(f.before + f.after)
	return f
}

// writeAs writes new series through node i, and says how many.
func (f *formerRing) writeAs(i int, when string) int {
	f.write(i, formerTenant, batch(fmt.Sprintf("%s_%d", when, i), 30, time.Now().UnixMilli())...)
	return 30
}

const formerCount = `count({job="test"})`

// everybodyHas wants a complete answer from each node that runs.
func (f *formerRing) everybodyHas(series int) {
	f.t.Helper()
	for i, n := range f.nodes {
		if n.node == nil {
			continue
		}
		f.eventually(fmt.Sprintf("n%d has %d series", i+1, series), func() error {
			got, err := f.ask(i, "-t", formerTenant, formerCount)
			if err == nil && got["{}"] != float64(series) {
				err = fmt.Errorf("it has %v", got)
			}
			return err
		})
	}
}

// everybodyLacks wants each node that runs to say that its answer is incomplete, for
// want of those nodes of ring a.
func (f *formerRing) everybodyLacks(nodes ...string) {
	f.t.Helper()
	for i, n := range f.nodes {
		if n.node == nil {
			continue
		}
		_, err := f.ask(i, "-t", formerTenant, formerCount)
		text := lackOf(f.t, err)
		require.Contains(f.t, text, `incomplete answer: ring "a" slots `, "n%d", i+1)
		for _, name := range nodes {
			require.Contains(f.t, text, name, "n%d", i+1)
		}
		require.NotContains(f.t, text, `ring "b"`, "n%d", i+1)
		got, err := f.ask(i, "-t", formerTenant, "--partial", formerCount)
		require.NoError(f.t, err)
		require.GreaterOrEqual(f.t, got["{}"], float64(f.after), "what the ring of now holds is all there, n%d", i+1)
	}
}

// lackOf is what a query's error, which is JSON, tells of its answer.
func lackOf(t *testing.T, err error) string {
	t.Helper()
	require.Error(t, err)
	_, raw, _ := strings.Cut(err.Error(), ": ")
	var told failure
	require.NoError(t, json.Unmarshal([]byte(raw), &told), "%v", err)
	return told.Text
}

// TestAStoppedNodeOfATenantsFormerRing: with three copies one node of the ring that
// a tenant has left may be away, with two none, and whoever is asked says so. The
// tenant's writes do not care.
func TestAStoppedNodeOfATenantsFormerRing(t *testing.T) {
	t.Parallel()
	for _, rf := range []int{3, 2} {
		t.Run(fmt.Sprintf("replication factor %d", rf), func(t *testing.T) {
			t.Parallel()
			f := beginFormerRing(t, rf)
			first, second := f.old[0], f.old[1]
			f.stop(first)
			f.after += f.writeAs((first+1)%5, "later")
			if rf == 3 {
				f.everybodyHas(f.before + f.after)
				f.stop(second)
				f.everybodyLacks(f.nodes[first].cfg.Name, f.nodes[second].cfg.Name)
				f.start(second)
			} else {
				f.everybodyLacks(f.nodes[first].cfg.Name)
			}
			f.start(first)
			f.settle()
			f.everybodyHas(f.before + f.after)
			f.audit()
			if rf == 2 {
				formerRingEnds(t, f)
			}
		})
	}
}

// formerRingEnds: who asks for a time to which no write by the former ring can
// belong needs none of its nodes; and when its period has expired, nobody does.
func formerRingEnds(t *testing.T, f *formerRing) {
	f.cli(0, "ring", "delete", "a")
	f.eventually("no write can begin in the deleted ring", func() error {
		for _, r := range f.nodes[0].node.cluster.State().AllRings() {
			if open := len(r.Table.Open()); open > 0 {
				return fmt.Errorf("%d open epochs of %s", open, r.Spec.GetName())
			}
		}
		return nil
	})
	st := f.nodes[0].node.cluster.State()
	slack := time.Duration(st.WidestWindow())*time.Millisecond + 2*time.Minute // for clocks and the way
	past := time.UnixMilli(st.Tenant(formerTenant).GetPastRoutes()[0].GetClosedMs()).Add(slack)
	f.stop(f.old[0])
	f.stop(f.old[1])
	asked := slices.IndexFunc(f.nodes, func(r *running) bool { return r.node != nil })
	since := func(begin time.Time) error {
		end := past.Add(time.Hour)
		_, err := f.ask(asked, "-t", formerTenant, "--time", fmt.Sprint(end.Unix()),
			fmt.Sprintf("count(last_over_time({job=\"test\"}[%ds]))", int(end.Sub(begin).Seconds())))
		return err
	}
	require.NoError(t, since(past.Add(10*time.Second)))
	require.Contains(t, lackOf(t, since(past.Add(-10*time.Second))), `ring "a"`)

	// The leader does this when the longest retention is over, and a day.
	f.expire(asked)
	gone := f.nodes[asked].node.cluster.State()
	require.Empty(t, gone.Tenant(formerTenant).GetPastRoutes())
	for _, r := range gone.AllRings() {
		require.NotEqual(t, "a", r.Spec.GetName())
	}
	f.everybodyHas(f.after)
	f.start(f.old[0])
	f.start(f.old[1])
	f.settle()
	require.NotZero(t, f.seriesOn(f.old[0], formerTenant), "it has them still, and is not asked")
	f.everybodyHas(f.after)
}

// expire forgets all that ended until now.
func (b *bed) expire(i int) {
	b.t.Helper()
	b.eventually("what is over is forgotten", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		answer, err := b.nodes[i].node.cluster.Propose(ctx, &clusterpb.Command{Change: &clusterpb.Command_Expire{
			Expire: &clusterpb.Expire{EpochsBeforeMs: time.Now().Add(-time.Millisecond).UnixMilli()},
		}})
		if err == nil && answer.GetRefusal() != nil {
			err = fmt.Errorf("refused: %s", answer.GetRefusal().GetMessage())
		}
		if st := b.nodes[i].node.cluster.State(); err == nil && len(st.AllRings()) != len(st.Rings()) {
			err = errors.New("a deleted ring is remembered")
		}
		return err
	})
}

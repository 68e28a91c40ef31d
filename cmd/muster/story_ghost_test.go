package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/tsdb"
)

// freeze keeps node i from hearing of any change but the next one, as if the
// process slept there; what it serves, it serves by what it knew. thaw ends that.
func (b *bed) freeze(i int) (thaw func()) {
	b.t.Helper()
	gate, seen := make(chan struct{}), atomic.Bool{}
	b.nodes[i].node.cluster.OnChange(func(cluster.Change) {
		if seen.Swap(true) { // not for what it knows already
			<-gate
		}
	})
	thaw = sync.OnceFunc(func() { close(gate) })
	b.t.Cleanup(thaw)
	b.change(0, &clusterpb.Command{Change: &clusterpb.Command_PutTenant{PutTenant: &clusterpb.PutTenant{Id: "dummy"}}})
	b.eventually("the frozen node knows of the next change", func() error {
		if b.nodes[i].node.cluster.State().Tenant("dummy") == nil {
			return errors.New("it does not")
		}
		return nil
	})
	return thaw
}

// change makes a change on node i and does not wait for long until all have it.
func (b *bed) change(i int, cmd *clusterpb.Command) {
	b.t.Helper()
	b.eventually("a change", func() error {
		ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Second)
		defer cancel()
		answer, err := b.nodes[i].node.cluster.Propose(ctx, cmd)
		if err == nil && answer.GetRefusal() != nil {
			err = errors.New(answer.GetRefusal().GetMessage())
		}
		return err
	})
}

func (b *bed) deleteTenant(i int, id string) {
	b.t.Helper()
	b.change(i, &clusterpb.Command{Change: &clusterpb.Command_DeleteTenant{DeleteTenant: &clusterpb.DeleteTenant{Id: id}}})
}

// keyOf is the tenant's present life.
func (b *bed) keyOf(i int, id string) tsdb.Key {
	return tsdb.Key{Tenant: id, Incarnation: b.nodes[i].node.cluster.State().Tenant(id).GetIncarnation()}
}

// gone waits until no running node has a directory of the dead life, and wants a
// new life of the tenant to begin empty everywhere.
func (b *bed) gone(t *testing.T, dead tsdb.Key, now int64) {
	t.Helper()
	b.eventually("every directory of the dead tenant is gone", func() error {
		for i, r := range b.nodes {
			if r.node == nil {
				continue
			}
			if _, err := os.Stat(r.node.tsdb.Path(dead)); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("n%d: %s is there: %w", i+1, r.node.tsdb.Path(dead), err)
			}
		}
		return nil
	})
	b.settle()
	require.NotContains(t, b.cli(0, "tenant", "list"), dead.Tenant+" ")
	b.cli(0, "tenant", "create", dead.Tenant)
	for i, r := range b.nodes {
		if r.node != nil {
			require.Empty(t, b.query(i, "-t", dead.Tenant, fmt.Sprintf(`count_over_time(m[1h] @ %d)`, now/1000+20)), "n%d", i+1)
		}
	}
}

// refusedUntilKnown writes through node i until it hears that the tenant was
// deleted: nothing may be acknowledged before.
func (b *bed) refusedUntilKnown(t *testing.T, i int, tenant string, now int64) {
	t.Helper()
	round := int64(0)
	b.eventually("n"+fmt.Sprint(i+1)+" knows of the deletion", func() error {
		round++
		status, text := b.post(i, tenant, snappy.Encode(nil, body(batch("m", 20, now+round)...)))
		require.NotEqual(t, 2, status/100, "a write of a deleted tenant was acknowledged")
		if status != 403 {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
}

// TestALateShareBringsNoDeletedTenantBack: a node that has not heard of the
// deletion takes a write and sends its shares; nobody takes them.
func TestALateShareBringsNoDeletedTenantBack(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		now := time.Now().UnixMilli()
		b.write(0, "a", batch("m", 50, now)...)
		dead := b.keyOf(0, "a")
		last := len(b.nodes) - 1
		thaw := b.freeze(last)
		b.deleteTenant(0, "a")
		status, text := b.post(last, "a", snappy.Encode(nil, body(batch("m", 50, now+1)...)))
		require.Equal(t, 503, status, text)
		for i := range last {
			_, err := os.Stat(b.nodes[i].node.tsdb.Path(dead))
			require.ErrorIs(t, err, fs.ErrNotExist, "a late share made n%d's directory anew", i+1)
		}
		thaw()
		b.refusedUntilKnown(t, last, "a", now+100)
		b.gone(t, dead, now)
	})
}

// TestANodeThatSleptBringsNoDeletedTenantBack: it was down, with samples of the
// tenant, while that was deleted, and is written to as soon as it is back.
func TestANodeThatSleptBringsNoDeletedTenantBack(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		now := time.Now().UnixMilli()
		b.write(0, "a", batch("m", 50, now)...)
		dead := b.keyOf(0, "a")
		last := len(b.nodes) - 1
		b.stop(last)
		b.deleteTenant(0, "a")
		b.start(last)
		b.refusedUntilKnown(t, last, "a", now+100)
		b.gone(t, dead, now)
	})
}

// TestARestartWithoutALeaderBringsNoDeletedTenantBack: all nodes knew, all
// stopped, one starts alone, and the directory is still there, as a crash leaves it.
func TestARestartWithoutALeaderBringsNoDeletedTenantBack(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		now := time.Now().UnixMilli()
		b.write(0, "a", batch("m", 50, now)...)
		dead := b.keyOf(0, "a")
		last := len(b.nodes) - 1
		dir := b.nodes[last].node.tsdb.Path(dead)
		kept := filepath.Join(b.dir, "kept")
		b.eventually("its directory is copied while it is in use", func() error {
			return errors.Join(os.RemoveAll(kept), os.CopyFS(kept, os.DirFS(dir)))
		})
		b.cli(0, "tenant", "delete", "a")
		for i := range b.nodes {
			b.stop(i)
		}
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.Rename(kept, dir))
		b.start(last)
		status, text := b.post(last, "a", snappy.Encode(nil, body(batch("m", 50, now+1)...)))
		require.Equal(t, 403, status, text)
		b.eventually("it is ready without a leader", b.nodes[last].node.ready.err)
		require.NotContains(t, b.nodes[last].node.tsdb.Keys(), dead, "it is not opened")
		require.DirExists(t, dir, "nothing is removed before a leader has confirmed what is over")
		for i := range last {
			b.start(i)
		}
		b.gone(t, dead, now)
	})
}

// tenantLabelOf is the tenant in a block's meta.json.
func tenantLabelOf(t *testing.T, raw []byte) string {
	t.Helper()
	var m struct {
		Thanos struct{ Labels map[string]string }
	}
	require.NoError(t, json.Unmarshal(raw, &m))
	return m.Thanos.Labels["tenant_id"]
}

// TestTheShipperBringsNoDeletedTenantBack: the node has a block of the tenant
// that is not in the bucket. It is not shipped by what the node knew when it
// stopped, nor by what it knew before it slept.
func TestTheShipperBringsNoDeletedTenantBack(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			t.Parallel()
			b := slottedBed(t, nodes, nodes, fewSlots) // each node has all series
			bucket := t.TempDir()
			now := time.Now().UnixMilli()
			for _, tenant := range []string{"a", "b", "lives"} {
				b.write(0, tenant, batch("m", 50, now)...)
			}
			last := len(b.nodes) - 1
			dead := []tsdb.Key{b.keyOf(0, "a"), b.keyOf(0, "b")}
			for _, key := range append(dead, b.keyOf(0, "lives")) {
				require.NoError(t, b.nodes[last].node.tsdb.Cut(t.Context(), key))
			}
			shipped := func() (tenants map[string]bool) {
				tenants = map[string]bool{}
				metas, err := filepath.Glob(filepath.Join(bucket, "*", "meta.json"))
				require.NoError(t, err)
				for _, m := range metas {
					raw, err := os.ReadFile(m)
					require.NoError(t, err)
					tenants[tenantLabelOf(t, raw)] = true
				}
				return tenants
			}
			b.stop(last)
			b.deleteTenant(0, "a")
			for i := range last {
				b.stop(i)
			}
			b.nodes[last].cfg.Bucket = fmt.Appendf(nil, "{type: FILESYSTEM, config: {directory: %q}}", bucket)
			b.start(last)
			b.eventually("it is ready without a leader", b.nodes[last].node.ready.err)
			require.Contains(t, b.nodes[last].node.tsdb.Keys(), dead[0], "it does not know better yet")
			_, err := b.nodes[last].node.shipper.Sync(t.Context())
			require.NoError(t, err)
			require.Empty(t, shipped())

			// Now it sleeps, after a leader has confirmed its state. One of its own
			// tenants is deleted meanwhile.
			for i := range last {
				b.start(i)
			}
			b.settle()
			b.eventually("its state is confirmed", func() error {
				if !b.nodes[last].node.current.Load() {
					return errors.New("not yet")
				}
				return nil
			})
			thaw := b.freeze(last)
			b.deleteTenant(0, "b")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err = b.nodes[last].node.shipper.Sync(ctx)
			cancel()
			require.Error(t, err)
			require.NotContains(t, shipped(), "b")
			thaw()
			for _, key := range dead {
				b.gone(t, key, now)
			}
			b.eventually("what lives is shipped", func() error {
				if _, err := b.nodes[last].node.shipper.Sync(t.Context()); err != nil || !shipped()["lives"] {
					return fmt.Errorf("not in the bucket yet: %w", err)
				}
				return nil
			})
			require.Equal(t, map[string]bool{"lives": true}, shipped())
		})
	}
}

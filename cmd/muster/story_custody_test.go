package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/storepb"
)

// leaving is a cluster with samples of two tenants, in order, out of order and
// of the near future: tenant a has three replicas, tenant solo one, on the last
// two nodes.
type leaving struct {
	*bed
	t    *testing.T
	now  int64
	last int
}

func beginLeaving(t *testing.T, nodes int, change ...func(*nodeConfig)) *leaving {
	l := &leaving{slottedBed(t, nodes, 3, fewSlots, change...), t, time.Now().UnixMilli(), nodes - 1}
	l.cli(0, "ring", "create", "single", "--tenants", "solo", "--nodes", fmt.Sprintf("n%d,n%d", nodes-1, nodes), "--replication-factor", "1")
	l.settle()
	for k, tenant := range []string{"a", "solo"} {
		l.write(k, tenant, batch("m", 100, l.now)...)
		l.write(k, tenant, batch("m", 100, l.now-30*60_000)...)
		l.write(k, tenant, batch("m", 100, l.now+60_000)...)
	}
	return l
}

// remove begins the removal of the last node.
func (l *leaving) remove(bucketIsEnough bool) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := l.nodes[0].node.cluster.Propose(ctx, &clusterpb.Command{Change: &clusterpb.Command_BeginRemoval{
		BeginRemoval: &clusterpb.BeginRemoval{Name: l.nodes[l.last].cfg.Name, BucketIsEnough: bucketIsEnough},
	}})
	require.NoError(l.t, err)
	require.Nil(l.t, answer.GetRefusal())
}

// gone waits until the last node is no member any more.
func (l *leaving) gone() {
	l.t.Helper()
	l.eventually("the last node has left", func() error {
		for i := range l.last {
			if l.nodes[i].node == nil {
				continue
			}
			if m := l.nodes[i].node.cluster.State().Member(l.nodes[l.last].cfg.Name); m != nil {
				_, progress := l.nodes[l.last].node.leaver.Progress()
				return fmt.Errorf("n%d: it is %v: %s", i+1, m.GetState(), progress)
			}
		}
		return nil
	})
}

func (l *leaving) count(i int, tenant string) (map[string]float64, error) {
	return l.ask(i, "-t", tenant, fmt.Sprintf("sum(count_over_time(m[2h] @ %d))", l.now/1000+120))
}

// all wants every sample from every node that is left, in complete answers.
func (l *leaving) all(tenants ...string) {
	l.t.Helper()
	for i := range l.last {
		for _, tenant := range tenants {
			l.eventually("a complete answer", func() error {
				got, err := l.count(i, tenant)
				if err == nil {
					require.Equal(l.t, map[string]float64{"{}": 300}, got, "n%d, %s", i+1, tenant)
				}
				return err
			})
		}
	}
}

// keeper is the node that keeps the last node's store.
func (l *leaving) keeper() int {
	l.t.Helper()
	st := l.nodes[0].node.cluster.State()
	own := st.StoreByID(l.nodes[l.last].cfg.storeID(l.t))
	require.Len(l.t, own.GetCustodians(), 1)
	require.Zero(l.t, own.GetLost())
	for i := range l.last {
		if st.Member(l.nodes[i].cfg.Name).GetStore() == own.GetCustodians()[0] {
			return i
		}
	}
	l.t.Fatal("nobody keeps it")
	return 0
}

func (c nodeConfig) storeID(t *testing.T) []byte {
	t.Helper()
	id, err := storeID(filepath.Join(c.DataDir, "store_id"))
	require.NoError(t, err)
	return id[:]
}

// streamed counts the series that a node's store door has under a replica label.
func (l *leaving) streamed(i int, tenant, replica string) int {
	l.t.Helper()
	conn, err := grpc.NewClient(l.nodes[i].cfg.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(l.t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := storepb.NewStoreClient(conn).Series(ctx, &storepb.SeriesRequest{
		MinTime: 0, MaxTime: l.now + 3600_000, Matchers: []*storepb.LabelMatcher{
			{Type: storepb.LabelMatcher_EQ, Name: "__name__", Value: "m"},
			{Type: storepb.LabelMatcher_EQ, Name: "tenant_id", Value: tenant},
			{Type: storepb.LabelMatcher_EQ, Name: "receive_replica", Value: replica},
		},
	})
	require.NoError(l.t, err)
	n := 0
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return n
		}
		require.NoError(l.t, err)
		if resp.GetSeries() != nil {
			n++
		}
	}
}

// TestANodeThatLeavesTakesNothingWithIt removes a node that alone has series of
// a tenant, stops it in the middle, and wants all of it back from the others:
// also when the keeper has started again, and when it has left as well.
func TestANodeThatLeavesTakesNothingWithIt(t *testing.T) {
	t.Parallel()
	l := beginLeaving(t, 5)
	alone := l.streamed(l.last, "solo", "n5")
	require.NotZero(t, alone)
	l.remove(false)
	l.eventually("its slots have moved", func() error {
		n := l.nodes[l.last].node
		if d := n.cluster.State().Duties(5); d.Slots+d.Open > 0 {
			return fmt.Errorf("%+v", d)
		}
		return nil
	})
	l.stop(l.last)
	l.start(l.last)
	l.gone()
	l.stop(l.last)
	l.all("a", "solo")
	first := l.keeper()
	require.Equal(t, alone, l.streamed(first, "solo", "n5"), "under the old replica label")
	require.Contains(t, l.nodes[0].node.cluster.State().Whereabouts(5), l.nodes[first].cfg.Name)
	l.stop(first)
	l.start(first)
	l.settle()
	l.all("solo")
	l.handOn(first)
}

// handOn removes the keeper as well: another one has both stores then, and a
// tenant's end is its end there, too.
func (l *leaving) handOn(first int) {
	t := l.t
	t.Helper()
	// The keeper becomes the one that leaves.
	l.nodes[first], l.nodes[l.last-1] = l.nodes[l.last-1], l.nodes[first]
	gone := l.nodes[l.last].cfg.storeID(t)
	l.last--
	l.cli(0, "ring", "set", "single", "--nodes", "n1,n2,n3,n4", "--replication-factor", "1")
	l.remove(false)
	l.gone()
	l.stop(l.last)
	st := l.nodes[0].node.cluster.State()
	second := st.StoreByID(gone)
	require.Len(t, second.GetCustodians(), 1)
	require.Zero(t, second.GetLost())
	require.NotEqual(t, st.StoreByID(l.nodes[l.last].cfg.storeID(t)).GetNumber(), second.GetCustodians()[0])
	l.all("a", "solo")
	key := st.Tenant("solo").GetIncarnation()
	l.cli(0, "tenant", "delete", "solo")
	for i := range l.last {
		n := l.nodes[i].node
		l.eventually("the kept blocks are gone", func() error {
			if err := n.taker.Tidy(context.Background()); err != nil {
				return err
			}
			for _, id := range n.adopted.Stores() {
				for _, k := range n.adopted.Keys(id) {
					if k.Tenant == "solo" && k.Incarnation == key {
						return fmt.Errorf("%s of store %s is kept", k, id)
					}
				}
			}
			return nil
		})
	}
}

// TestBlocksInTheBucketAreShippedOnce: a leaver ships its blocks under its own
// label and gives them to a custodian besides, which ships nothing. A second one
// needs no custodian: what the bucket alone has is named, what it kept for the
// first included, and what others have, too, is complete.
func TestBlocksInTheBucketAreShippedOnce(t *testing.T) {
	t.Parallel()
	bucket := t.TempDir()
	l := beginLeaving(t, 5, func(c *nodeConfig) {
		c.Bucket = fmt.Appendf(nil, "{type: FILESYSTEM, config: {directory: %q}}", bucket)
	})
	l.remove(false)
	l.gone()
	l.stop(l.last)
	l.all("a", "solo")
	before := blocksOfReplica(t, bucket, "n5")
	require.NotZero(t, before)
	kept := l.keeper()
	keeper := l.nodes[kept].node
	_, err := keeper.shipper.Sync(context.Background())
	require.NoError(t, err)
	require.Equal(t, before, blocksOfReplica(t, bucket, "n5"))
	for _, id := range keeper.adopted.Stores() {
		for _, key := range keeper.adopted.Keys(id) {
			for _, b := range keeper.adopted.Blocks(id, key) {
				require.Contains(t, readText(t, filepath.Join(bucket, b.ULID.String(), "meta.json")), `"n5"`)
			}
		}
	}

	l.last--
	l.cli(0, "ring", "set", "single", "--nodes", "n1,n4", "--replication-factor", "1")
	l.remove(true)
	l.gone()
	l.stop(l.last)
	own := l.nodes[0].node.cluster.State().StoreByID(l.nodes[l.last].cfg.storeID(t))
	require.Empty(t, own.GetCustodians())
	require.True(t, own.GetInBucket())
	require.Zero(t, own.GetLost())
	l.lacks("solo", "n4 (its former store 4 is in the bucket only: ask the Store Gateway)")
	if kept != l.last {
		l.all("a")
	} else { // it has left with what it kept for n5: two of three replicas are in the bucket only
		l.lacks("a", "n5 (its former store 5 is in the bucket only: ask the Store Gateway)")
	}
	require.NotZero(t, blocksOfReplica(t, bucket, "n4"))
}

// lacks wants the answer for a tenant to be refused as incomplete, with what is
// missing and where it is.
func (l *leaving) lacks(tenant, what string) {
	l.t.Helper()
	l.eventually("the lack is named", func() error {
		_, err := l.count(0, tenant)
		if err == nil || !strings.Contains(err.Error(), what) {
			return fmt.Errorf("%w: want %s", errors.Join(err, errors.New("not named")), what)
		}
		return nil
	})
}

// blocksOfReplica counts a node's blocks in the bucket.
func blocksOfReplica(t *testing.T, bucket, node string) int {
	t.Helper()
	metas, err := filepath.Glob(filepath.Join(bucket, "*", "meta.json"))
	require.NoError(t, err)
	n := 0
	for _, m := range metas {
		if strings.Contains(readText(t, m), fmt.Sprintf("%q: %q", "receive_replica", node)) {
			n++
		}
	}
	return n
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

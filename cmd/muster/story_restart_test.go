package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/tsdb"
)

func TestEveryNodeRestarts(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		now := time.Now().UnixMilli()
		b.write(0, "a", batch("m", 200, now)...)
		revision := b.nodes[0].node.cluster.State().Revision()
		for i := range b.nodes {
			b.stop(i)
		}
		for i := range b.nodes {
			b.start(i)
			require.GreaterOrEqual(t, b.nodes[i].node.cluster.State().Revision(), revision, "n%d knows at once what it knew", i+1)
		}
		b.settle()
		b.write(1, "a", batch("m", 200, now+1000)...)
		for i := range b.nodes {
			require.Equal(t, map[string]float64{"{}": 400}, b.query(i, "-t", "a", fmt.Sprintf(`sum(count_over_time(m[1h] @ %d))`, now/1000+5)))
		}
	})
}

// TestADeletedTenantsDirectoryGoesAfterARestart: the node stopped after it had
// heard of the deletion and before the directory was gone.
func TestADeletedTenantsDirectoryGoesAfterARestart(t *testing.T) {
	t.Parallel()
	beds(t, aDeletedTenantsDirectoryGoes)
}

func aDeletedTenantsDirectoryGoes(t *testing.T, b *bed) {
	b.write(0, "a", batch("m", 200, time.Now().UnixMilli())...)
	dead := tsdb.Key{Tenant: "a", Incarnation: b.nodes[0].node.cluster.State().Tenant("a").GetIncarnation()}
	path := b.nodes[0].node.tsdb.Path(dead)
	b.cli(0, "tenant", "delete", "a")
	b.stop(0)
	require.NoError(t, os.MkdirAll(path, 0o700))
	foreign := filepath.Join(filepath.Dir(path), "nobody.7")
	require.NoError(t, os.MkdirAll(foreign, 0o700))
	b.start(0)
	b.eventually("the directory is gone", func() error {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is still there: %w", path, err)
		}
		return nil
	})
	require.DirExists(t, foreign, "nothing is known of it")
}

func TestOneStoppedNodeIsNotMissed(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		now := time.Now().UnixMilli()
		b.write(0, "a", batch("m", 200, now)...)
		last := len(b.nodes) - 1
		for _, gone := range []int{0, last} { // the leader is one of them
			b.stop(gone)
			for i := range b.nodes {
				if i != gone {
					b.write(i, "a", batch("m", 200, now+int64(1000*(gone+1)+i))...)
				}
			}
			want := b.queryCount(t, (gone+1)%len(b.nodes), now)
			b.start(gone)
			b.settle()
			require.Equal(t, want, b.queryCount(t, gone, now))
		}
	})
}

func (b *bed) queryCount(t *testing.T, i int, now int64) float64 {
	t.Helper()
	var got map[string]float64
	b.eventually("a complete answer", func() (err error) {
		got, err = b.ask(i, "-t", "a", fmt.Sprintf(`sum(count_over_time(m[1h] @ %d))`, now/1000+20))
		return err
	})
	return got["{}"]
}

func TestWithoutALeaderSamplesAreStillTakenAndRead(t *testing.T) {
	t.Parallel() // it waits for what does not come, most of the time
	beds(t, withoutALeaderSamplesAreStillTakenAndRead)
}

// withoutALeader...: a ring on one node goes on when all the others are gone.
func withoutALeaderSamplesAreStillTakenAndRead(t *testing.T, b *bed) {
	last := len(b.nodes) - 1
	b.cli(0, "ring", "create", "own", "--tenants", "a", "--nodes", fmt.Sprintf("n%d", last+1), "--replication-factor", "1")
	b.settle()
	now := time.Now().UnixMilli()
	b.write(last, "a", batch("m", 100, now)...)
	for i := range b.nodes {
		b.stop(i)
	}
	b.start(last) // without anybody to elect it
	b.eventually("the tenants are open", func() error { return b.nodes[last].node.ready.err() })
	b.write(last, "a", batch("m", 100, now+1000)...)
	out, _, code := b.try(last, "query", "-t", "a", "--partial", "-o", "json", fmt.Sprintf(`sum(count_over_time(m[1h] @ %d))`, now/1000+5))
	require.Zero(t, code)
	require.Contains(t, out, `"200"`)
	// A tenant that nobody knows cannot be created now, and a change is refused
	// with the reason.
	status, _ := b.post(last, "unknown", snappy.Encode(nil, body(batch("m", 1, now)...)))
	require.Equal(t, 503, status)
	_, msg, code := b.try(last, "tenant", "create", "new")
	require.Equal(t, exitNoLeader, code, msg)
	require.Contains(t, msg, "n1")
}

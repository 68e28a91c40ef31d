package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// TestALeaverThatIsKilledAgainAndAgain removes a node that alone has samples of
// many tenants, with kill -9 in the middle of its giving and after the seal; its
// custodian is killed in between. Every acknowledged sample is counted back from
// every node that is left.
func TestALeaverThatIsKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	const tenants = 20
	f := newFleet(t, 4)
	first, last := f.Nodes[0], f.Nodes[3]
	_, err := first.CLI(t.Context(), "ring", "create", "single", "--tenants", "t-*", "--nodes", "n3,n4", "--replication-factor", "1", "--slots", "64")
	require.NoError(t, err)
	require.NoError(t, f.Settle(t.Context()))
	now := time.Now().UnixMilli()
	for i := range tenants {
		for _, at := range []int64{now, now - 30*60_000, now + 60_000} { // in order, out of order
			send(t, first, fmt.Sprintf("t-%d", i), snappy.Encode(nil, body(batch("m", 50, at)...)))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	removed := make(chan error, 1)
	go func() {
		_, err := first.CLI(ctx, "cluster", "remove", "n4")
		removed <- err
	}()
	const block = "[0-9A-Z]*/meta.json"
	killed := 0
	for _, moment := range []struct {
		what, files string
		n           int
		custodian   bool
	}{
		{"in its giving", "n*/adopted/*/*/" + block, 3, false},
		{"in its taking", "n*/adopted/*/*/" + block, 15, true},
		{"after the seal", "n*/adopted/*/seal.json", 1, false},
	} {
		found := awaitFiles(t, filepath.Join(filepath.Dir(last.Dir), moment.files), moment.n, first, last)
		if len(found) == 0 {
			t.Logf("out before it was killed %s", moment.what)
			break
		}
		victim := last
		for _, n := range f.Nodes[:3] {
			if moment.custodian && strings.HasPrefix(found[0], n.Dir) {
				victim = n
			}
		}
		victim.Kill()
		killed++
		require.NoError(t, victim.Start(ctx))
	}
	require.NoError(t, <-removed)
	require.NotZero(t, killed)
	last.Kill()
	for _, n := range f.Nodes[:3] {
		require.Eventually(t, func() bool {
			out, err := n.CLI(ctx, "query", "--all-tenants", "-o", "json", fmt.Sprintf("count(sum(count_over_time(m[2h] @ %d)) by (tenant_id) == 150)", now/1000+120))
			if err != nil {
				t.Logf("%s: %v", n.Name, err)
				return false
			}
			return vectorOf(out)["{}"] == fmt.Sprint(tenants)
		}, patience, 200*time.Millisecond, "all samples of %d tenants on %s", tenants, n.Name)
	}
}

// awaitFiles waits until n files match, or the node is no member any more: none.
func awaitFiles(t *testing.T, pattern string, n int, through, leaver *fleet.Node) []string {
	t.Helper()
	deadline := time.Now().Add(patience)
	for look := 0; time.Now().Before(deadline); look++ {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		if len(found) >= n {
			return found
		}
		if look%200 == 199 {
			if out, err := through.CLI(t.Context(), "cluster", "members", "-o", "json"); err == nil && !strings.Contains(string(out), fmt.Sprintf("%q", leaver.Name)) {
				return nil
			}
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("%s: never %d files", pattern, n)
	return nil
}

// send writes a body until it is acknowledged.
func send(t *testing.T, n *fleet.Node, tenant string, raw []byte) {
	t.Helper()
	require.Eventually(t, func() bool {
		status, _ := n.Post(t.Context(), http.DefaultClient, tenant, raw, 1)
		return status/100 == 2
	}, patience, 50*time.Millisecond)
}

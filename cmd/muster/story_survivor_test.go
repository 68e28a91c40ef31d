package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// TestTheSurvivorServesByTheLatestState kills all nodes before any snapshot is
// taken and starts one: without a leader it knows what was changed last, stores
// what its quorum allows, and refuses the rest by name.
func TestTheSurvivorServesByTheLatestState(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	cli := func(n *fleet.Node, args ...string) []byte {
		out, err := n.CLI(t.Context(), args...)
		require.NoError(t, err, "%v", args)
		return out
	}
	first, survivor := f.Nodes[0], f.Nodes[2]
	cli(first, "ring", "create", "soft", "--tenants", "soft", "--write-quorum", "one")
	for _, tenant := range []string{"soft", "hard", "late"} {
		cli(first, "tenant", "create", tenant)
	}
	cli(first, "tenant", "set", "late", "--state", "suspended")

	for _, n := range f.Nodes {
		n.Kill()
	}
	snapshots, err := os.ReadDir(filepath.Join(survivor.Dir, "raft", "snapshots"))
	require.NoError(t, err)
	require.Empty(t, snapshots, "the log alone shall be what is started from")
	require.NoError(t, survivor.Start(t.Context()))
	require.NoError(t, survivor.AwaitReady(t.Context()), "readiness is independent of the leader")

	var list struct {
		Tenants []struct{ ID, State, Ring string }
	}
	status, text := adminGet(t, survivor, "/api/v1/tenants?consistency=local")
	require.Equal(t, http.StatusOK, status, "%s", text)
	require.NoError(t, json.Unmarshal([]byte(text), &list))
	require.Equal(t, []struct{ ID, State, Ring string }{
		{"hard", "active", "default"}, {"late", "suspended", "default"}, {"soft", "active", "soft"},
	}, list.Tenants)

	start := time.Now().Add(-time.Minute).UnixMilli()
	to := func(tenant string) (int, string) {
		return write(t, survivor, tenant, snappy.Encode(nil, body(batch("up", 3, start)...)))
	}
	code, answer := to("soft")
	require.Equal(t, http.StatusNoContent, code, answer)
	code, answer = to("hard")
	require.Equal(t, http.StatusServiceUnavailable, code, answer)
	require.Contains(t, answer, "n1 unreachable")
	code, answer = to("late")
	require.Equal(t, http.StatusForbidden, code, answer)
	code, answer = to("unheard-of")
	require.Equal(t, http.StatusServiceUnavailable, code, "nobody can create it now: %s", answer)

	out := cli(survivor, "query", "-t", "soft", "--partial", "-o", "json", "--time", fmt.Sprint(start/1000+1), "count(up)")
	require.Equal(t, map[string]string{"{}": "3"}, vectorOf(out), "%s", out)
}

// TestAStoppedNodeIsPending stops one process: a change is answered all the
// same, and says on which node it does not hold yet.
func TestAStoppedNodeIsPending(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	change := func(tenant string) (applied, pending []string) {
		out, err := f.Nodes[0].CLI(t.Context(), "tenant", "create", tenant, "-o", "json")
		require.NoError(t, err)
		var a struct{ Applied, Pending []string }
		require.NoError(t, json.Unmarshal(out, &a), "%s", out)
		return a.Applied, a.Pending
	}
	f.Nodes[2].Freeze()
	defer f.Nodes[2].Thaw()
	applied, pending := change("one")
	require.ElementsMatch(t, []string{"n1", "n2"}, applied)
	require.Equal(t, []string{"n3"}, pending)

	f.Nodes[2].Thaw()
	require.NoError(t, f.Settle(t.Context()))
	applied, pending = change("two")
	require.ElementsMatch(t, []string{"n1", "n2", "n3"}, applied)
	require.Empty(t, pending)
}

// adminGet asks a node's admin API over its socket.
func adminGet(t *testing.T, n *fleet.Node, path string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(n.Dir, socketName))
		},
	}}
	resp, err := client.Get("http://muster" + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

// write posts a body to a node's write door.
func write(t *testing.T, n *fleet.Node, tenant string, raw []byte) (int, string) {
	t.Helper()
	status, text := n.Post(t.Context(), http.DefaultClient, tenant, raw, 0)
	require.NotZero(t, status, text) // there was an answer
	return status, text
}

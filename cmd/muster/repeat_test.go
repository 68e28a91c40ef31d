package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// deaf stands before a node's socket and loses answers: of the first so many
// changes the node hears, their asker does not hear the node.
func deaf(t *testing.T, b *bed, lose *atomic.Int64) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "deaf")
	require.NoError(t, err)
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	require.NoError(t, err)
	way := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(b.nodes[0].cfg.DataDir, socketName))
	}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "muster"})
	proxy.Transport = way
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method != http.MethodGet && lose.Add(-1) >= 0 {
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler) // the connection breaks off
		}
		return nil
	}
	srv := &http.Server{Handler: proxy, ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		way.CloseIdleConnections()
		_ = os.RemoveAll(dir)
	})
	return dir
}

// TestALostAnswerIsAskedForAgain: the command repeats its change by the id, so
// that it is made once, and where that fails says how to repeat it.
func TestALostAnswerIsAskedForAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1)
	var lose atomic.Int64
	dir := deaf(t, b, &lose)
	try := func(limit time.Duration, args ...string) (string, string, int) {
		var out, msg bytes.Buffer
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		code := run(ctx, append([]string{"muster", "--data-dir", dir}, args...), stdio{&out, &msg})
		return out.String(), msg.String(), code
	}
	events := func() int { return len(b.nodes[0].node.cluster.State().Events(0)) }

	before := events()
	lose.Store(2)
	_, msg, code := try(patience, "tenant", "create", "a") // a second one would be a conflict
	require.Zero(t, code, msg)
	require.Equal(t, before+1, events(), "it was made once")

	lose.Store(1)
	out, msg, code := try(patience, "tenant", "token", "create", "a")
	require.Zero(t, code, msg)
	require.Len(t, b.nodes[0].node.cluster.State().Tenant("a").GetTokens(), 1, "one token was made")
	require.Contains(t, out, "MUSTERT1.")

	// Every answer is lost: the outcome is unknown, until it is repeated.
	before = events()
	lose.Store(1 << 40)
	_, msg, code = try(2*time.Second, "tenant", "create", "b")
	require.Equal(t, exitFailed, code, msg)
	require.Contains(t, msg, "unknown outcome")
	id := regexp.MustCompile(`--request-id ([0-9a-f]{32})`).FindStringSubmatch(msg)
	require.Len(t, id, 2, msg)
	b.cli(0, "tenant", "create", "b", "--request-id", id[1])
	require.Equal(t, before+1, events(), "it was made once")
	_, msg, code = b.try(0, "tenant", "create", "c", "--request-id", id[1])
	require.Equal(t, exitUsage, code, "another change with the same id: %s", msg)
}

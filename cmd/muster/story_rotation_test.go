package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/cluster/pki"
)

// TestTheCAIsReplacedUnderWrites: while writers and readers ask each node as fast
// as it answers, no write is refused, no answer is incomplete, all that was
// acknowledged is counted back, and who had a token of the old CA works until it
// is dropped.
func TestTheCAIsReplacedUnderWrites(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		last := len(b.nodes) - 1
		old := b.cli(0, "token", "create", "--role", "admin")
		stop := b.writing(t)
		reading := b.reading(t)
		ask := func(token string, i int) (string, int) {
			file := filepath.Join(t.TempDir(), "token")
			require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
			_, msg, code := b.try(0, "--server", "https://"+b.nodes[i].cfg.HTTP, "--token-file", file, "tenant", "list", "-o", "json")
			return msg, code
		}

		b.cli(1, "cert", "rotate-ca")
		for i := range b.nodes {
			msg, code := ask(old, i)
			require.Zero(t, code, msg)
		}
		fresh := b.cli(last, "token", "create", "--role", "admin")
		for i := range b.nodes {
			msg, code := ask(fresh, i)
			require.Zero(t, code, msg)
		}
		b.cli(last, "cert", "rotate-ca", "--finish")
		b.eventually("the old CA counts nowhere", func() error {
			for i := range b.nodes {
				if msg, code := ask(old, i); code == 0 || !strings.Contains(msg, "not of the cluster that the token belongs to") {
					return fmt.Errorf("n%d: exit %d %s", i+1, code, msg)
				}
				if msg, code := ask(fresh, i); code != 0 {
					return fmt.Errorf("n%d: exit %d %s", i+1, code, msg)
				}
			}
			return nil
		})
		require.Positive(t, reading(), "nothing was read meanwhile")
		for i, acknowledged := range stop() {
			require.Positive(t, acknowledged, "nothing was written through n%d meanwhile", i+1)
			for k := range b.nodes {
				got := b.query(k, "-t", "a", fmt.Sprintf("sum(count_over_time(through_n%d[1h]))", i+1))
				require.Equal(t, map[string]float64{"{}": float64(20 * acknowledged)}, got, "acknowledged through n%d, read through n%d", i+1, k+1)
			}
		}

		// A node that restarts lives by what it was given.
		b.stop(last)
		b.start(last)
		b.settle()
		b.noPrivateKeys()
	})
}

// writing writes through every node, one request after the other, until stop,
// which says how many were acknowledged through each. No answer but 2xx is taken.
func (b *bed) writing(t *testing.T) (stop func() []int) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	acknowledged := make([]int, len(b.nodes))
	for i := range b.nodes {
		wg.Go(func() {
			for at := time.Now().UnixMilli(); ; at = max(at+1, time.Now().UnixMilli()) {
				select {
				case <-done:
					return
				default:
				}
				raw := snappy.Encode(nil, body(batch(fmt.Sprintf("through_n%d", i+1), 20, at)...))
				status, text := b.post(i, "a", raw)
				if status/100 != 2 {
					t.Errorf("a write through n%d: %d %s", i+1, status, text)
					return
				}
				acknowledged[i]++
			}
		})
	}
	return func() []int {
		close(done)
		wg.Wait()
		return acknowledged
	}
}

// reading asks every node for what is being written until stop, which says how
// many answers were complete. No other is taken.
func (b *bed) reading(t *testing.T) (stop func() int) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var complete atomic.Int64
	for i := range b.nodes {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := b.ask(i, "-t", "a", fmt.Sprintf("count(through_n%d)", i+1)); err != nil {
					t.Errorf("a query through n%d: %v", i+1, err)
					return
				}
				complete.Add(1)
			}
		})
	}
	return func() int {
		close(done)
		wg.Wait()
		return int(complete.Load())
	}
}

// noPrivateKeys looks through all that a node keeps besides pki/ for the keys
// that lie there.
func (b *bed) noPrivateKeys() {
	b.t.Helper()
	var keys [][]byte
	for _, r := range b.nodes {
		files, err := filepath.Glob(filepath.Join(r.cfg.DataDir, "pki", "*.key"))
		require.NoError(b.t, err)
		require.NotEmpty(b.t, files)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(b.t, err)
			keys = append(keys, bytes.TrimSpace(bytes.Split(text, []byte("\n"))[1]))
		}
	}
	for _, r := range b.nodes {
		require.NoError(b.t, filepath.WalkDir(r.cfg.DataDir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/pki/") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, key := range keys {
				if bytes.Contains(text, key) {
					b.t.Errorf("%s holds a private key", path)
				}
			}
			return err
		}))
	}
}

// TestATokenEndsOnAllNodesAtOnce: what one node has answered holds on all that
// it has named.
func TestATokenEndsOnAllNodesAtOnce(t *testing.T) {
	t.Parallel()
	b := slottedBed(t, 3, 3, fewSlots)
	text := strings.TrimSpace(b.cli(0, "token", "create", "--role", "viewer"))
	token, err := pki.ParseToken(text)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	ask := func(i int) (int, string) {
		req, err := http.NewRequest(http.MethodGet, "https://"+b.nodes[i].cfg.HTTP+"/api/v1/tenants?consistency=local", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+text)
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(answer)
	}
	for i := range b.nodes {
		code, answer := ask(i)
		require.Equal(t, 200, code, answer)
	}
	require.Contains(t, b.cli(1, "token", "revoke", token.ID), "applied on n1, n2, n3")
	for i := range b.nodes {
		code, answer := ask(i)
		require.Equal(t, 401, code, answer)
		require.Contains(t, answer, "revoked")
	}
	// Who asked on the machine itself is known by the kernel's word.
	me, err := user.Current()
	require.NoError(t, err)
	events := b.cli(2, "cluster", "events", "-o", "json")
	require.Contains(t, events, `"actor": "`+me.Username+`"`)
	require.Contains(t, events, "unix socket, uid "+me.Uid+", pid ")
}

// TestTheOperatorDoorServesPlainHTTPToScrapersOnly: whatever is said on a plain
// connection, and in whichever order.
func TestTheOperatorDoorServesPlainHTTPToScrapersOnly(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1)
	token := strings.TrimSpace(b.cli(0, "token", "create", "--role", "admin"))
	say := func(conn net.Conn, lines ...string) string {
		t.Helper()
		_, err := conn.Write([]byte(strings.Join(lines, "\r\n") + "\r\n\r\n"))
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		return string(answer)
	}
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", b.nodes[0].cfg.HTTP)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	bearer := "Authorization: Bearer " + token
	require.Contains(t, say(dial(), "GET /api/v1/tenants HTTP/1.0", bearer), "403 Forbidden")
	require.Contains(t, say(dial(), "GET /-/healthy HTTP/1.0"), "200 OK")
	// Kept alive, behind something that is served; and by another spelling.
	answer := say(dial(), "GET /-/healthy HTTP/1.1", "Host: x", "", "GET /api/v1/tokens HTTP/1.1", "Host: x", bearer, "",
		"GET /-/healthy/../../api/v1/tokens HTTP/1.1", "Host: x", bearer, "", "GET http://x/api/v1/tokens HTTP/1.1", "Host: x", "X-Forwarded-Proto: https", bearer, "Connection: close")
	require.Equal(t, 1, strings.Count(answer, "200 OK"), answer)
	require.Equal(t, 3, strings.Count(answer, "use https or the unix socket"), answer)
	// The same port speaks TLS beside it.
	conf := &tls.Config{RootCAs: b.nodes[0].node.door.Credentials().CAs.Pool(), ServerName: "n1"}
	conn, err := tls.Dial("tcp", b.nodes[0].cfg.HTTP, conf)
	require.NoError(t, err)
	defer conn.Close()
	require.Contains(t, say(conn, "GET /api/v1/tokens HTTP/1.1", "Host: x", bearer, "Connection: close"), "200 OK")

	st, err := os.Stat(filepath.Join(b.nodes[0].cfg.DataDir, socketName))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
}

// TestOwnCertificatesOfTheOperatorDoor: --web.config.file, --ca-file, and what
// the file must not ask for.
func TestOwnCertificatesOfTheOperatorDoor(t *testing.T) {
	t.Parallel()
	dir, ca := t.TempDir(), newOwnCA(t)
	keep := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return path
	}
	config := keep("web.yml", []byte("tls_server_config:\n  cert_file: crt\n  key_file: key\n"))
	renew := func() {
		pair := ownPair(t, ca, "127.0.0.1")
		keep("crt", pair[0])
		keep("key", pair[1])
	}
	renew()
	b := newBed(t, 1, 1, func(c *nodeConfig) {
		c.WebConfig, c.HTTP, c.Advertise = config, "127.0.0.1:0", "127.0.0.1"
	})
	token := keep("token", []byte(b.cli(0, "token", "create", "--role", "viewer")))
	remote := []string{"--server", "https://" + b.nodes[0].cfg.HTTP, "--token-file", token, "tenant", "list"}
	_, msg, code := b.try(0, remote...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, msg, "--ca-file")
	trust := append([]string{"--ca-file", keep("ca", ca.Bundle().Roots())}, remote...)
	b.cli(0, trust...)
	ca = newOwnCA(t) // both are renewed in place, and read again
	renew()
	_, msg, code = b.try(0, trust...)
	require.Equal(t, exitFailed, code, msg)
	keep("ca", ca.Bundle().Roots())
	b.cli(0, trust...)

	_, err := webTLS(keep("users.yml", []byte("tls_server_config:\n  cert_file: crt\n  key_file: key\nbasic_auth_users:\n  a: $2y$10$UqwZzqqm.zWMzSPKcH.LqObGG2SqKD1fKZTsFEDJBQg7BGZVpkHAC\n")))
	require.ErrorContains(t, err, "basic_auth_users")
	_, err = webTLS(keep("empty.yml", nil))
	require.ErrorContains(t, err, "no tls_server_config")
}

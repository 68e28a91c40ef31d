package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/door"
)

func TestMain(m *testing.M) {
	// Raft leaves a future unanswered where it is shut down at the wrong moment.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/muster-metrics/muster/cluster.answerOf"))
}

// fast is the timing of clusters in tests.
var fast = cluster.Timing{
	Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond, Lease: 200 * time.Millisecond,
	Report: 50 * time.Millisecond, Round: 50 * time.Millisecond, Fresh: time.Second, Stable: 200 * time.Millisecond,
}

// bed is a real node with its admin API on a unix socket, as an operator finds
// it; https is the same behind TLS.
type bed struct {
	t      *testing.T
	name   string
	node   *cluster.Node
	door   *door.Door
	socket *http.Client
	close  func()
	api    atomic.Pointer[http.Handler] // in place of the node's own
}

// swap has the socket answered by another API; it returns the one before.
func (b *bed) swap(api http.Handler) http.Handler { return *b.api.Swap(&api) }

func newNode(t *testing.T, name string) *bed {
	t.Helper()
	b := &bed{t: t, name: name}
	var node atomic.Pointer[cluster.Node]
	b.door = door.New(door.Config{Addresses: func(other string) (string, bool) {
		if n := node.Load(); n != nil {
			return n.AddressOf(other)
		}
		return "", false
	}})
	ok(t, b.door.Listen("127.0.0.1:0"))
	cfg := cluster.Config{
		Dir: t.TempDir(), Name: name, Zone: "z", Advertise: func() string { return b.door.Addr().String() },
		Door: b.door, Version: "1.2.3", Timing: fast,
	}
	_, err := rand.Read(cfg.StoreID[:])
	ok(t, err)
	b.node, err = cluster.New(cfg)
	ok(t, err)
	node.Store(b.node)
	members := grpc.NewServer(b.door.ServerOptions()...)
	b.node.RegisterControl(members)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = members.Serve(b.door.Listener(door.ProtocolGRPC)) // ends with the door
	}()
	ok(t, b.node.Open(t.Context()))
	stop := b.serveSocket()
	b.close = func() {
		stop()
		if err := b.node.Close(); err != nil {
			t.Error(err)
		}
		members.Stop()
		b.door.Close()
		<-served
	}
	t.Cleanup(func() { b.stop() })
	return b
}

// stop ends the node hard; twice is once.
func (b *bed) stop() {
	if b.close != nil {
		b.close()
		b.close = nil
	}
}

func (b *bed) handler() http.Handler {
	api := New(b.node, Config{Name: b.name, ReadTimeout: 2 * time.Second, ChangeTimeout: 4 * time.Second})
	b.api.CompareAndSwap(nil, &api)
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/", func(w http.ResponseWriter, r *http.Request) { (*b.api.Load()).ServeHTTP(w, r) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })
	return Authorize(b.node.State, Straight(mux))
}

func (b *bed) serveSocket() (stop func()) {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	ok(b.t, err)
	srv := &http.Server{Handler: b.handler(), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	b.socket = &http.Client{Transport: tr}
	return func() {
		tr.CloseIdleConnections()
		_ = srv.Close()
		<-done
	}
}

// newCluster is a cluster of one node.
func newCluster(t *testing.T) *bed {
	t.Helper()
	b := newNode(t, "n1")
	b.call("POST", "/cluster/init", `{"name":"test","replication_factor":1,"slots":64}`, 200)
	return b
}

// reply is an answer of the API.
type reply struct {
	t      *testing.T
	code   int
	header http.Header
	text   string
	whole  string // with the white space around it
}

// as decodes the answer into v.
func (r reply) as(v any) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.text), v); err != nil {
		r.t.Fatalf("answer %q: %v", r.text, err)
	}
}

// keys are the fields of the answer's object.
func (r reply) keys() []string {
	r.t.Helper()
	var m map[string]any
	r.as(&m)
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// call asks through the socket and wants a status; headers are name, value.
func (b *bed) call(method, path, body string, want int, header ...string) reply {
	b.t.Helper()
	r := ask(b.t, b.socket, "http://muster/api/v1"+path, method, body, header...)
	if r.code != want {
		b.t.Fatalf("%s %s %s: status %d, want %d: %s", method, path, body, r.code, want, r.text)
	}
	return r
}

func ask(t *testing.T, client *http.Client, url, method, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	ok(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	ok(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ok(t, err)
	return reply{t, resp.StatusCode, resp.Header, string(bytes.TrimSpace(text)), string(text)}
}

// https serves the operator door with TLS and returns its address and a client.
func (b *bed) https() (string, *http.Client) {
	b.t.Helper()
	srv := httptest.NewTLSServer(b.handler())
	b.t.Cleanup(srv.Close)
	return srv.URL, srv.Client()
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

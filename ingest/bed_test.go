package ingest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/muster-metrics/muster/ring"
)

const tenantID = "team-a"

// bed is a few ingesters that reach each other over real connections.
type bed struct {
	t     testing.TB
	nodes []*node
}

type node struct {
	t       testing.TB
	name    string
	store   ring.Store
	storage *promStorage
	ing     *Ingester
	address string

	mu     sync.Mutex
	server *grpc.Server
	served chan struct{}
	conns  map[string]*grpc.ClientConn
	bed    *bed
}

// Dial makes a node the Peers of its ingester.
func (n *node) Dial(_ context.Context, name string) (*grpc.ClientConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.conns[name]; c != nil {
		return c, nil
	}
	for _, o := range n.bed.nodes {
		if o.name == name {
			c, err := grpc.NewClient(o.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}, MinConnectTimeout: time.Second}),
				grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(16<<20))
			n.conns[name] = c
			return c, err
		}
	}
	return nil, fmt.Errorf("no node %s", name)
}

func newBed(t testing.TB, n int, change func(*Config)) *bed {
	t.Helper()
	b := &bed{t: t}
	for i := range n {
		nd := &node{
			t: t, name: fmt.Sprintf("n%d", i+1), store: ring.Store(i + 1), storage: newPromStorage(t),
			conns: map[string]*grpc.ClientConn{}, bed: b,
		}
		cfg := Config{SettleWait: -1} // a view counts when it is shown
		if change != nil {
			change(&cfg)
		}
		nd.ing = New(cfg, nd.storage, nd, nil, nil, nil)
		b.nodes = append(b.nodes, nd)
		nd.listen("127.0.0.1:0")
	}
	t.Cleanup(func() {
		for _, nd := range b.nodes {
			nd.ing.Close()
			for _, c := range nd.conns {
				_ = c.Close()
			}
		}
		for _, nd := range b.nodes {
			nd.kill()
		}
	})
	return b
}

func (n *node) listen(address string) {
	n.t.Helper()
	var l net.Listener
	eventually(n.t, "listening on "+address, func() bool {
		var err error
		l, err = net.Listen("tcp", address)
		return err == nil
	})
	if n.address == "" { // else it is the same, and others are reading it
		n.address = l.Addr().String()
	}
	n.server = grpc.NewServer(grpc.WaitForHandlers(true), grpc.InitialWindowSize(4<<20), grpc.InitialConnWindowSize(16<<20))
	n.ing.RegisterReplication(n.server)
	n.served = make(chan struct{})
	go func(s *grpc.Server, done chan struct{}) {
		defer close(done)
		_ = s.Serve(l)
	}(n.server, n.served)
}

// kill ends the node's member door; its storage stays.
func (n *node) kill() {
	n.server.Stop()
	<-n.served
}

func (n *node) id() [16]byte { return [16]byte{byte(n.store), 7} }

// view is what n sees at a revision; tenants nil: one, on ring 1.
func (b *bed) view(n *node, rev uint64, table *ring.Table, tenants map[string]Tenant) *View {
	if tenants == nil {
		tenants = map[string]Tenant{tenantID: {Incarnation: 1, Ring: 1, Routed: 1, FutureWindow: 10 * time.Minute}}
	}
	r := NewRing(1, "default", table)
	return &View{
		Revision: rev, Moved: r.Moved(), Self: n.store,
		Tenant: func(id string) (Tenant, bool) { t, ok := tenants[id]; return t, ok },
		Ring: func(id uint64) *Ring {
			if id == 1 {
				return r
			}
			return nil
		},
		Store: func(s ring.Store) (Peer, bool) {
			if s == 0 || int(s) > len(b.nodes) {
				return Peer{}, false
			}
			o := b.nodes[s-1]
			return Peer{Node: o.name, ID: o.id()}, true
		},
	}
}

// show gives all nodes the same view.
func (b *bed) show(rev uint64, table *ring.Table) {
	for _, n := range b.nodes {
		n.ing.SetView(b.view(n, rev, table, nil))
	}
}

// table is the one that the first node sees.
func (b *bed) table() *ring.Table { return b.nodes[0].ing.fence.view.Load().Ring(1).Table }

// way is the node's way to a store.
func (n *node) way(to ring.Store) *peer {
	n.ing.peers.mu.Lock()
	defer n.ing.peers.mu.Unlock()
	return n.ing.peers.all[to]
}

// tableOf places slots on n stores, rf each, round robin.
func tableOf(t testing.TB, slots, n, rf, quorum int, rev uint64) *ring.Table {
	t.Helper()
	empty, err := ring.Empty(slots, quorum, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var steps []ring.Step
	for s := range slots {
		var set ring.Set
		for r := range rf {
			set = set.With(ring.Store((s+r)%n + 1))
		}
		steps = append(steps, ring.Step{Slot: s, Replicas: set, Quorum: quorum})
	}
	table, err := empty.Apply(steps, rev, 0)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// now is a time within everybody's windows.
func now() int64 { return time.Now().UnixMilli() }

// samplesOf is a request of n series with one sample each.
func samplesOf(n int, at int64, value float64) *prompb.WriteRequest {
	req := &prompb.WriteRequest{}
	for i := range n {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: "requests_total"},
				{Name: "instance", Value: fmt.Sprintf("host-%04d", i)},
				{Name: "job", Value: "api"},
			},
			Samples: []prompb.Sample{{Timestamp: at, Value: value}},
		})
	}
	return req
}

func encode(t testing.TB, req *prompb.WriteRequest) []byte {
	t.Helper()
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, raw)
}

// post writes a request to the node as Prometheus does it.
func (n *node) post(req *prompb.WriteRequest, change ...func(*http.Request)) *httptest.ResponseRecorder {
	return n.postRaw(encode(n.t, req), change...)
}

func (n *node) postRaw(body []byte, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/receive", bytes.NewReader(body))
	r.Header.Set("Content-Encoding", "snappy")
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	n.ing.ServeWrite(w, r, tenantID)
	return w
}

func (n *node) mustPost(req *prompb.WriteRequest, want int) string {
	n.t.Helper()
	w := n.post(req)
	if w.Code != want {
		n.t.Fatalf("%s answered %d, want %d: %s", n.name, w.Code, want, w.Body)
	}
	return w.Body.String()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

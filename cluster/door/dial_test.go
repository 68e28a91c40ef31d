package door

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// control answers a ping with who asks.
type control struct {
	clusterpb.UnimplementedControlServer
	clusterpb.UnimplementedJoinServer
	joins atomic.Int64
}

func (c *control) Ping(ctx context.Context, _ *clusterpb.PingRequest) (*clusterpb.PingResponse, error) {
	id, ok := Peer(ctx)
	if !ok {
		return nil, errors.New("nobody asks")
	}
	return &clusterpb.PingResponse{Node: id.Name, Incarnation: id.Incarnation, ClusterId: id.Cluster}, nil
}

func (c *control) Join(ctx context.Context, req *clusterpb.JoinRequest) (*clusterpb.JoinResponse, error) {
	c.joins.Add(1)
	if id, ok := Peer(ctx); ok {
		return nil, errors.New("a stranger passes for " + id.Name)
	}
	return &clusterpb.JoinResponse{ClusterName: req.Name}, nil
}

// serve runs gRPC on both of the door's listeners.
func (b *bed) serve(d *Door) *control {
	c := &control{}
	members, joins := grpc.NewServer(d.ServerOptions()...), grpc.NewServer(d.JoinServerOptions()...)
	clusterpb.RegisterControlServer(members, c)
	clusterpb.RegisterJoinServer(joins, c)
	var wait sync.WaitGroup
	for protocol, s := range map[string]*grpc.Server{ProtocolGRPC: members, ProtocolJoin: joins} {
		l := d.Listener(protocol)
		wait.Go(func() { _ = s.Serve(l) })
	}
	b.t.Cleanup(func() {
		members.Stop()
		joins.Stop()
		wait.Wait()
	})
	return c
}

func TestDialReachesANodeAndSaysWhoCalls(t *testing.T) {
	b := newBed(t)
	d1, _ := b.open(b.node("n1"))
	d2, _ := b.open(b.node("n2"))
	b.serve(d2)
	conn, err := d1.Dial(t.Context(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := clusterpb.NewControlClient(conn).Ping(t.Context(), &clusterpb.PingRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Node != "n1" || answer.Incarnation != 1 || answer.ClusterId != "c0ffee" {
		t.Errorf("n2 was called by %v, want n1", answer)
	}
	if again, err := d1.Dial(t.Context(), "n2"); err != nil || again != conn {
		t.Errorf("another connection: %v", err)
	}
	if _, err := d1.Dial(t.Context(), "n9"); !errors.Is(err, ErrNoAddress) {
		t.Errorf("a node that nobody knows: %v", err)
	}
	d1.Forget("n2")
	d1.Forget("n2")
	if conn.GetState() != connectivity.Shutdown {
		t.Error("the forgotten connection is open")
	}
	if again, err := d1.Dial(t.Context(), "n2"); err != nil || again == conn {
		t.Errorf("the forgotten connection was given again: %v", err)
	}
	b.move("n2", "")
	d1.Recheck()
	if len(d1.clients) != 0 {
		t.Error("a connection is kept for a node without an address")
	}
}

func TestPlainConnectionsAreNotServed(t *testing.T) {
	b := newBed(t)
	d, _ := b.open(b.node("n1"))
	left, right := net.Pipe()
	defer func() { _, _ = left.Close(), right.Close() }()
	if _, _, err := d.ServerCredentials().ServerHandshake(left); !errors.Is(err, errNotOurs) {
		t.Errorf("a pipe passed for a member: %v", err)
	}
	if _, ok := Peer(t.Context()); ok {
		t.Error("somebody calls without a call")
	}
}

func TestDialFollowsANodeToItsNewAddress(t *testing.T) {
	b := newBed(t)
	d1, _ := b.open(b.node("n1"))
	d2, _ := b.open(b.node("n2"))
	b.serve(d2)
	conn, err := d1.Dial(t.Context(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	client := clusterpb.NewControlClient(conn)
	if _, err := client.Ping(t.Context(), &clusterpb.PingRequest{}); err != nil {
		t.Fatal(err)
	}
	d2.Close()
	moved, _ := b.open(b.node("n2"))
	b.serve(moved)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := client.Ping(ctx, &clusterpb.PingRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Errorf("n2 at its new address: %v", err)
	}
}

// TestANodeThatIsAwayIsLookedForOften: whoever comes back is needed for quorums at
// once, since the next one may fail a moment later.
func TestANodeThatIsAwayIsLookedForOften(t *testing.T) {
	b := newBed(t)
	d, _ := b.open(b.node("n1"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	looks := make(chan time.Time, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			looks <- time.Now()
			_ = conn.Close() // a proxy before a dead process
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	b.move("n2", l.Addr().String())
	conn, err := d.Dial(t.Context(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	conn.Connect()
	const grown = 8 // after so many attempts their distance does not grow any more
	least, last := time.Hour, time.Time{}
	for i := range grown + 4 {
		at := <-looks
		if i > grown {
			least = min(least, at.Sub(last))
		}
		last = at
	}
	if least > time.Second { // a busy machine delays some of them, not all
		t.Errorf("a node that is away is looked for every %v at best", least)
	}
}

func TestDialTurnsAwayFromAnImpostor(t *testing.T) {
	b := newBed(t)
	d1, _ := b.open(b.node("n1"))
	reader := Identity{Cluster: "c0ffee", Role: pki.RoleReader, Name: "n2"}
	foreign := node("n2")
	foreign.Cluster = "decaf"
	for name, c := range map[string]struct {
		credentials *pki.Credentials
		reason      string
	}{
		"another node":         {b.node("n3"), "it is n3, want n2"},
		"a reader named so":    {b.issue(b.ca, reader, time.Now()), "incompatible key usage"},
		"another CA":           {b.issue(newCA(t, "c0ffee"), node("n2"), time.Now()), "unknown authority"},
		"another cluster":      {b.issue(b.ca, foreign, time.Now()), "cluster decaf"},
		"one that has run out": {b.issue(b.ca, node("n2"), time.Now().Add(-31*24*time.Hour)), "is after"},
	} {
		t.Run(name, func(t *testing.T) {
			address := impostor(t, with(c.credentials, protocols...))
			conn, err := d1.DialALPN(t.Context(), ProtocolRaft, address, "n2")
			if err == nil {
				_ = conn.Close()
				t.Fatal("it was believed")
			}
			if !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), address) {
				t.Errorf("error %q, want %q and the address", err, c.reason)
			}
		})
	}
	t.Run("no protocol", func(t *testing.T) {
		if _, err := d1.DialALPN(t.Context(), ProtocolRaft, impostor(t, with(b.node("n2"))), "n2"); err == nil || !strings.Contains(err.Error(), "does not speak raft/1") {
			t.Errorf("error %v", err)
		}
	})
}

// impostor is a TLS server of somebody else. It fails the test when it is sent
// anything after the handshake.
func impostor(t *testing.T, cfg *tls.Config) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				got, _ := io.ReadAll(conn)
				if len(got) > 0 {
					t.Errorf("the impostor was sent %q", got)
				}
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wait.Wait()
	})
	return l.Addr().String()
}

func TestJoinerChecksTheCABeforeItSpeaks(t *testing.T) {
	b := newBed(t)
	d, _ := b.open(b.node("n1"))
	server := b.serve(d)
	conn, err := JoinClient(t.Context(), d.Addr().String(), b.ca.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	answer, err := clusterpb.NewJoinClient(conn).Join(t.Context(), &clusterpb.JoinRequest{Name: "n2"})
	if err != nil || answer.ClusterName != "n2" {
		t.Fatalf("join: %v, %v", answer, err)
	}
	// Whoever joins reaches nothing else.
	if _, err := clusterpb.NewControlClient(conn).Ping(t.Context(), &clusterpb.PingRequest{}); err == nil {
		t.Error("a stranger was answered as a member")
	}
	if _, err := clusterpb.NewJoinClient(conn).Join(t.Context(), &clusterpb.JoinRequest{Csr: make([]byte, 2*maxJoinMessage)}); err == nil {
		t.Error("a stranger may send as much as it likes")
	}

	other := newCA(t, "c0ffee")
	_, err = JoinClient(t.Context(), d.Addr().String(), other.Fingerprint())
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) || mismatch.Want != other.Fingerprint() || len(mismatch.Presented) != 1 || mismatch.Presented[0] != b.ca.Fingerprint() {
		t.Fatalf("another CA's token: %v", err)
	}
	for _, word := range []string{d.Addr().String(), other.Fingerprint().Short(), b.ca.Fingerprint().Short(), "not sent"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q lacks %q", err, word)
		}
	}
	if got := server.joins.Load(); got != 1 {
		t.Errorf("%d joins arrived, want 1", got)
	}
}

func TestJoinerTurnsAwayFromAnImpostor(t *testing.T) {
	b := newBed(t)
	other := newCA(t, "c0ffee")
	forged := b.issue(other, node("n1"), time.Now())
	forged.Certificate.Certificate[1] = b.ca.Certificate().Raw // shows our CA above a leaf of its own
	bare := b.node("n1")
	bare.Certificate.Certificate = bare.Certificate.Certificate[:1]
	reader := b.issue(b.ca, Identity{Cluster: "c0ffee", Role: pki.RoleReader, Name: "n1"}, time.Now())
	for name, c := range map[string]struct {
		credentials *pki.Credentials
		reason      string
	}{
		"our CA above a foreign leaf": {forged, "verify certificate"},
		"no CA":                       {bare, "presented no CA"},
		"a reader":                    {reader, "incompatible key usage"},
		"one that has run out":        {b.issue(b.ca, node("n1"), time.Now().Add(-31*24*time.Hour)), "is after"},
	} {
		t.Run(name, func(t *testing.T) {
			address := impostor(t, with(c.credentials, ProtocolJoin))
			_, err := JoinClient(t.Context(), address, b.ca.Fingerprint())
			if err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("error %v, want %q", err, c.reason)
			}
		})
	}
}

func TestRefusedCallerLearnsItOnItsFirstCall(t *testing.T) {
	b := newBed(t)
	d1, _ := b.open(b.node("n1"))
	d2, log := b.open(b.node("n2"))
	b.serve(d2)
	d1.SetMembers(func(string, uint64, []byte) error { return nil })
	b.remove("n1")
	conn, err := d1.Dial(t.Context(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clusterpb.NewControlClient(conn).Ping(t.Context(), &clusterpb.PingRequest{}); err == nil {
		t.Error("a removed node was answered")
	}
	log.has(t, "refused", "protocol=h2", "n1 was removed at revision 7")
}

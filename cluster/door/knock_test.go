package door

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// TestAJoinerProvesThatItIsReached before it has a certificate, and only while it
// waits for one.
func TestAJoinerProvesThatItIsReached(t *testing.T) {
	b := newBed(t)
	d, _ := b.open(nil)
	b.echo(d, ProtocolJoin, ProtocolGRPC)
	address := d.Addr().String()
	key, other := newKey(t), newKey(t)
	at := func(k *pki.Key) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return Knock(ctx, address, k.Hash())
	}
	if err := at(key); err == nil || !strings.Contains(err.Error(), "without a word") {
		t.Errorf("a door that expects nobody: %v", err)
	}
	proof, err := key.Proof("n2", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	end := d.Expect(proof)
	if err := at(key); err != nil {
		t.Errorf("the joiner itself: %v", err)
	}
	if err := at(other); !errors.Is(err, ErrAnother) {
		t.Errorf("another joiner: %v, want ErrAnother", err)
	}
	// Nothing is behind it.
	for _, protocol := range protocols {
		if err := knock(t, d, &tls.Config{NextProtos: []string{protocol}}); err == nil {
			t.Errorf("%s is served without a certificate", protocol)
		}
	}
	end()
	if err := at(key); err == nil {
		t.Error("it still answers")
	}
	creds := b.node("n2")
	d.SetIdentity(creds)
	if err := Knock(t.Context(), address, creds.KeyHash()); err != nil {
		t.Errorf("a member that joins again: %v", err)
	}
	if err := at(key); !errors.Is(err, ErrAnother) || !strings.Contains(err.Error(), "node n2 of cluster c0ffee") {
		t.Errorf("a member in the joiner's place: %v", err)
	}
}

func newKey(t *testing.T) *pki.Key {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (c *control) Greet(ctx context.Context, _ *clusterpb.GreetRequest) (*clusterpb.GreetResponse, error) {
	id, keyHash, ok := Caller(ctx)
	if !ok || len(keyHash) != 32 {
		return nil, status.Error(codes.PermissionDenied, "nobody greets")
	}
	return &clusterpb.GreetResponse{Me: &clusterpb.Announcement{Node: id.Name}}, nil
}

// TestWhoWasRemovedMayGreet, and nothing else: all that it hears is what it is.
func TestWhoWasRemovedMayGreet(t *testing.T) {
	b := newBed(t)
	server, log := b.open(b.node("n1"))
	served := b.serve(server)
	client, _ := b.open(b.node("n2"))
	b.remove("n2")
	address := server.Addr().String()

	g, err := client.Greet(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if g.Peer.Name != "n1" || len(g.KeyHash) != 32 {
		t.Errorf("greeted %v", g.Peer)
	}
	answer, err := clusterpb.NewJoinClient(g).Greet(t.Context(), &clusterpb.GreetRequest{})
	if err != nil || answer.GetMe().GetNode() != "n2" {
		t.Errorf("answered %v, %v", answer, err)
	}
	if _, err := clusterpb.NewJoinClient(g).Join(t.Context(), &clusterpb.JoinRequest{Name: "x"}); err != nil || served.joins.Load() != 1 {
		t.Errorf("over the same connection: %v; Join asks for a token, not for who comes", err)
	}
	if _, err := client.DialALPN(t.Context(), ProtocolGRPC, address, "n1"); err == nil {
		log.has(t, "refused", "n2 was removed at revision 7")
	}
	// Without a certificate.
	conn, err := JoinClient(t.Context(), address, b.ca.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := clusterpb.NewJoinClient(conn).Greet(t.Context(), &clusterpb.GreetRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a stranger greets: %v", err)
	}
}

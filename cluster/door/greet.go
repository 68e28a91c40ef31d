package door

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/muster-metrics/muster/cluster/pki"
)

// Caller is who called over join/1 with a certificate of this cluster, and the
// SHA-256 of its key. The committed state was not asked: whoever was removed may
// call, and hear that it was.
func Caller(ctx context.Context) (id Identity, keyHash []byte, ok bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Identity{}, nil, false
	}
	info, ok := p.AuthInfo.(AuthInfo)
	if !ok || info.Protocol != ProtocolJoin || info.Identity == (Identity{}) {
		return Identity{}, nil, false
	}
	return info.Identity, info.KeyHash, true
}

// recognise notes who comes by join/1 with a certificate of this cluster. Who
// shows none, or another, is nobody yet.
func (h *handshake) recognise(credentials *pki.Credentials, cs tls.ConnectionState) {
	id, err := h.door.judge(credentials, cs.PeerCertificates, x509.ExtKeyUsageClientAuth)
	if err == nil {
		h.peer, h.keyHash = id, pki.KeyHash(cs.PeerCertificates[0])
	}
}

// Greeting is one connection of join/1 to whichever node of this cluster is at
// an address.
type Greeting struct {
	*grpc.ClientConn
	// Peer is who answers there: the CA vouches for it, and the committed state
	// was not asked.
	Peer    Identity
	KeyHash []byte
}

// Greet connects with this node's certificate to whichever node of the cluster is
// at the address. The caller closes the answer.
func (d *Door) Greet(ctx context.Context, address string) (*Greeting, error) {
	credentials := d.credentials.Load()
	if credentials == nil {
		return nil, fmt.Errorf("greet %s: %w", address, ErrNoIdentity)
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.HandshakeTimeout)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	c := &Conn{door: d, protocol: ProtocolJoin, dialled: true}
	conn, below, err := handshakeWith(ctx, address, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Certificates:       []tls.Certificate{credentials.Certificate},
		NextProtos:         []string{ProtocolJoin},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection judges chain and identity; host names mean nothing here
		VerifyConnection: func(cs tls.ConnectionState) error {
			id, err := d.judge(credentials, cs.PeerCertificates, x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			c.peer, c.keyHash = id, pki.KeyHash(cs.PeerCertificates[0])
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("greet %s: %w", address, err)
	}
	c.Conn, c.line = conn, below
	if err := d.adopt(c); err != nil {
		_ = conn.NetConn().Close()
		return nil, fmt.Errorf("greet %s: %w", address, err)
	}
	return newGreeting(c, address)
}

var errOnce = errors.New("a greeting is not repeated on its own")

func newGreeting(c *Conn, address string) (*Greeting, error) {
	var ready atomic.Pointer[Conn]
	ready.Store(c)
	conn, err := grpc.NewClient("passthrough:///"+c.peer.Name,
		grpc.WithTransportCredentials(handshaken{}),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if c := ready.Swap(nil); c != nil {
				return c, nil
			}
			return nil, errOnce
		}),
		grpc.WithIdleTimeout(0), grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("greet %s: %w", address, err)
	}
	conn.Connect()
	return &Greeting{ClientConn: conn, Peer: c.peer, KeyHash: c.keyHash}, nil
}

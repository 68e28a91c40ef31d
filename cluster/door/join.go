package door

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/muster-metrics/muster/cluster/pki"
)

// joinTimeout bounds connecting to a cluster that is to be joined.
const joinTimeout = 5 * time.Second

// MismatchError is returned for a server whose CA is not the token's. Nothing was
// sent to it.
type MismatchError struct {
	Address   string
	Want      pki.Fingerprint
	Presented []pki.Fingerprint // of the CAs that it showed
}

func (e *MismatchError) Error() string {
	shown := "no CA"
	if len(e.Presented) > 0 {
		shown = "CA sha256 " + e.Presented[0].Short() + "…"
	}
	return fmt.Sprintf("%s presented %s, the token expects %s…: it is another cluster, or the cluster was made anew; the token was not sent",
		e.Address, shown, e.Want.Short())
}

// JoinDial connects a node that has no certificate yet to a member: the chain it
// shows ends in the CA of that fingerprint, which vouches for it as a node.
func JoinDial(ctx context.Context, address string, ca pki.Fingerprint) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	c := &Conn{protocol: ProtocolJoin, dialled: true}
	conn, below, err := handshakeWith(ctx, address, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{ProtocolJoin},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection pins the CA
		VerifyConnection: func(cs tls.ConnectionState) (err error) {
			c.peer, err = judgePinned(cs.PeerCertificates, address, ca)
			return err
		},
	})
	var mismatch *MismatchError
	if errors.As(err, &mismatch) {
		return nil, mismatch
	}
	if err != nil {
		return nil, fmt.Errorf("dial %s to join: %w", address, err)
	}
	c.Conn, c.line = conn, below
	return c, nil
}

// judgePinned looks for the pinned CA among the certificates above the leaf and
// verifies the leaf by it alone.
func judgePinned(chain []*x509.Certificate, address string, ca pki.Fingerprint) (Identity, error) {
	mismatch := &MismatchError{Address: address, Want: ca}
	for at, cert := range chain {
		if at == 0 || !cert.IsCA {
			continue
		}
		if pki.FingerprintOf(cert) != ca {
			mismatch.Presented = append(mismatch.Presented, pki.FingerprintOf(cert))
			continue
		}
		id, err := pki.NewBundle(cert).Verify(chain, x509.ExtKeyUsageServerAuth, time.Now())
		if err != nil {
			return Identity{}, err
		}
		if id.Role != pki.RoleNode {
			return Identity{}, fmt.Errorf("its certificate has the role %s, want %s", id.Role, pki.RoleNode)
		}
		return id, nil
	}
	return Identity{}, mismatch
}

// JoinClient is JoinDial with gRPC on it. It has connected when it returns, so
// the error is JoinDial's own; each reconnection is verified in the same way.
func JoinClient(ctx context.Context, address string, ca pki.Fingerprint) (*grpc.ClientConn, error) {
	first, err := JoinDial(ctx, address, ca)
	if err != nil {
		return nil, err
	}
	var ready atomic.Pointer[Conn]
	ready.Store(first)
	conn, err := grpc.NewClient("passthrough:///"+first.peer.Name,
		grpc.WithTransportCredentials(handshaken{}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			if c := ready.Swap(nil); c != nil {
				return c, nil
			}
			return JoinDial(ctx, address, ca)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: minBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxBackoff}, MinConnectTimeout: joinTimeout}),
		grpc.WithIdleTimeout(0), grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		_ = first.Close()
		return nil, fmt.Errorf("dial %s to join: %w", address, err)
	}
	conn.Connect()
	return conn, nil
}

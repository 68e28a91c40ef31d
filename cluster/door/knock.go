package door

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/muster-metrics/muster/cluster/pki"
)

// ErrAnother is returned for an address where somebody else answers.
var ErrAnother = errors.New("another node answers there")

// Expect lets a door without credentials answer those who come by join/1, with a
// certificate that its node's key has signed for itself: the handshake proves
// that this node, and no other, is reached here. Nothing is served behind it.
// The returned func ends that.
func (d *Door) Expect(proof tls.Certificate) (end func()) {
	d.proof.Store(&proof)
	return func() { d.proof.CompareAndSwap(&proof, nil) }
}

// Knock looks whether the node with this key (SHA-256 of its SPKI) answers at the
// address, whether it has a certificate of the cluster or is about to get one.
// It wraps ErrAnother where somebody else does.
func Knock(ctx context.Context, address string, keyHash []byte) error {
	var shown *x509.Certificate
	conn, _, err := handshakeWith(ctx, address, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{ProtocolJoin},
		InsecureSkipVerify: true, //nolint:gosec // the key is the proof; nobody vouches for a joiner yet
		VerifyConnection: func(cs tls.ConnectionState) error {
			shown = cs.PeerCertificates[0]
			if !bytes.Equal(pki.KeyHash(shown), keyHash) {
				return fmt.Errorf("%w: %s", ErrAnother, whose(shown))
			}
			return nil
		},
	})
	switch {
	case err == nil:
		return conn.Close()
	case shown != nil, !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET):
		return err
	default:
		return errors.New("the connection was closed without a word: no node that waits to join listens there")
	}
}

// whose says, for people, who shows a certificate; nothing of it is believed.
func whose(cert *x509.Certificate) string {
	id, err := pki.IdentityOf(cert)
	if err != nil {
		return "a node that belongs to no cluster"
	}
	return fmt.Sprintf("node %s of cluster %s", id.Name, id.Cluster)
}

// answerKnock gives the proof to whoever comes by join/1.
func (h *handshake) answerKnock(hello *tls.ClientHelloInfo, proof *tls.Certificate) (*tls.Config, error) {
	for _, p := range hello.SupportedProtos {
		if p == ProtocolJoin {
			h.protocol, h.knock = p, true
			return &tls.Config{
				MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*proof}, NextProtos: []string{p},
				SessionTicketsDisabled: true,
			}, nil
		}
	}
	return nil, h.refuse(ErrNoIdentity)
}

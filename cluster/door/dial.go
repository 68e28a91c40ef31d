package door

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	"github.com/muster-metrics/muster/cluster/pki"
)

// DialALPN connects to address and speaks protocol with node: the server has
// shown a certificate of this cluster that names it. TLS 1.3 lets a client finish
// before the server has judged it, so a refusal there shows with the first read.
// The connection ends with the door, or when Recheck finds its peer removed.
func (d *Door) DialALPN(ctx context.Context, protocol, address, node string) (net.Conn, error) {
	credentials := d.credentials.Load()
	if credentials == nil {
		return nil, fmt.Errorf("dial %s at %s: %w", node, address, ErrNoIdentity)
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.HandshakeTimeout)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()

	c := &Conn{door: d, protocol: protocol, dialled: true}
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Certificates:       []tls.Certificate{credentials.Certificate},
		NextProtos:         []string{protocol},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection judges chain and identity; host names mean nothing here
		VerifyConnection: func(cs tls.ConnectionState) error {
			id, err := d.judge(credentials, cs.PeerCertificates, x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			if id.Name != node {
				return fmt.Errorf("it is %s, want %s", id.Name, node)
			}
			c.peer, c.keyHash = id, pki.KeyHash(cs.PeerCertificates[0])
			return d.allowed(id, c.keyHash, true)
		},
	}
	conn, below, err := handshakeWith(ctx, address, cfg)
	if err != nil {
		return nil, fmt.Errorf("dial %s at %s: %w", node, address, err)
	}
	c.Conn, c.line = conn, below
	if err := d.adopt(c); err != nil {
		_ = conn.NetConn().Close()
		return nil, fmt.Errorf("dial %s at %s: %w", node, address, err)
	}
	return c, nil
}

// DialNode is DialALPN at the address that Config.Addresses gives.
func (d *Door) DialNode(ctx context.Context, protocol, node string) (net.Conn, error) {
	address, ok := d.cfg.Addresses(node)
	if !ok {
		return nil, fmt.Errorf("dial %s: %w", node, ErrNoAddress)
	}
	return d.DialALPN(ctx, protocol, address, node)
}

// handshakeWith connects and shakes hands as a client.
func handshakeWith(ctx context.Context, address string, cfg *tls.Config) (*tls.Conn, *line, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	cfg.DynamicRecordSizingDisabled = true
	below := newLine(raw)
	conn := tls.Client(below, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, nil, err
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != cfg.NextProtos[0] {
		_ = raw.Close()
		return nil, nil, fmt.Errorf("the server does not speak %s", cfg.NextProtos[0])
	}
	return conn, below, nil
}

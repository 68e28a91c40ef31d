package door

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
)

// Protocols of the door, in ALPN's spelling.
const (
	ProtocolRaft = "raft/1"
	ProtocolGRPC = "h2"
	ProtocolJoin = "join/1"
)

var protocols = []string{ProtocolRaft, ProtocolGRPC, ProtocolJoin}

// joinLife ends connections of join/1, whose peers nobody has vouched for.
const joinLife = 2 * time.Minute

var (
	errBusy       = errors.New("too many handshakes in progress")
	errNotServed  = errors.New("nobody serves this protocol here yet")
	errBacklog    = errors.New("too many connections wait to be served")
	errManyJoins  = errors.New("too many joins at once")
	errNoProtocol = errors.New("it asked for no protocol (ALPN)")
)

// accept takes connections until the socket is closed.
func (d *Door) accept(socket net.Listener) {
	defer d.running.Done()
	for {
		raw, err := socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptors left, or the peer is gone already
			d.log.Warn("accept on member door", "err", err)
			select {
			case <-d.life.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if d.credentials.Load() == nil && d.proof.Load() == nil {
			d.refuse(raw, "", ErrNoIdentity)
			continue
		}
		select {
		case d.handshakes <- struct{}{}:
			d.running.Add(1) // accept itself is counted, so Close still waits
			go d.welcome(raw)
		default:
			d.refuse(raw, "", errBusy)
		}
	}
}

// welcome shakes hands and gives the connection to the listener of its protocol.
func (d *Door) welcome(raw net.Conn) {
	defer d.running.Done()
	defer func() { <-d.handshakes }()
	ctx, cancel := context.WithTimeout(d.life, d.cfg.HandshakeTimeout)
	defer cancel()

	h := &handshake{door: d}
	below := newLine(raw)
	conn := tls.Server(below, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: h.config})
	if err := conn.HandshakeContext(ctx); err != nil {
		d.refuse(raw, h.protocol, h.reason(err))
		return
	}
	if h.knock {
		_ = conn.Close()
		return
	}
	c := &Conn{Conn: conn, line: below, door: d, protocol: h.protocol, peer: h.peer, keyHash: h.keyHash}
	if err := d.adopt(c); err != nil {
		d.refuse(raw, h.protocol, err)
		return
	}
	if err := d.deliver(ctx, c); err != nil {
		c.drop()
		d.refuse(raw, h.protocol, err)
		return
	}
	d.metrics.accepted.WithLabelValues(h.protocol).Inc()
}

// adopt keeps the connection among the live ones. The state is asked once more
// afterwards: it may have changed since the handshake looked, and Recheck does
// not see a connection that is not there yet.
func (d *Door) adopt(c *Conn) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ErrClosed
	}
	if c.protocol == ProtocolJoin && !c.dialled {
		// Whoever has a certificate is not kept out by those who have none.
		of := &d.joins
		if c.peer != (Identity{}) {
			of = &d.greetings
		}
		if *of >= d.cfg.MaxJoins {
			d.mu.Unlock()
			return errManyJoins
		}
		*of++
		c.life = time.AfterFunc(joinLife, c.drop)
	}
	d.live[c] = struct{}{}
	d.metrics.open.WithLabelValues(c.protocol).Inc()
	d.mu.Unlock()
	if err := d.stillAllowed(c); err != nil {
		c.drop()
		return err
	}
	return nil
}

func (d *Door) release(c *Conn) {
	d.metrics.open.WithLabelValues(c.protocol).Dec()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.live, c)
	if c.life != nil {
		c.life.Stop()
		if c.peer != (Identity{}) {
			d.greetings--
		} else {
			d.joins--
		}
	}
}

// deliver waits for room in the listener's backlog for as long as the handshake
// might have taken.
func (d *Door) deliver(ctx context.Context, c *Conn) error {
	d.mu.Lock()
	l := d.listeners[c.protocol]
	d.mu.Unlock()
	if l == nil {
		return errNotServed
	}
	select {
	case l.conns <- c:
	case <-l.closed:
		return errNotServed
	case <-ctx.Done():
		return errBacklog
	}
	// A listener that was closed meanwhile takes nothing out any more.
	select {
	case <-l.closed:
		l.drain()
	default:
	}
	return nil
}

// refuse closes a connection and tells the operator why, at a bounded rate.
func (d *Door) refuse(raw net.Conn, protocol string, reason error) {
	_ = raw.Close()
	if protocol == "" {
		protocol = "none"
	}
	d.metrics.refused.WithLabelValues(protocol).Inc()
	select {
	case <-d.life.Done(): // everything is refused now
	default:
		d.refusals.note(d.cfg.Now(), raw.RemoteAddr(), protocol, reason)
	}
}

// handshake is what one TLS handshake learns.
type handshake struct {
	door     *Door
	protocol string
	peer     Identity
	keyHash  []byte
	refusal  error
	// knock says that the proof of this node's key was all that was wanted.
	knock bool
}

// config chooses protocol and credentials for a hello. crypto/tls alone would let
// a client in that offers http/1.1 only, without any protocol.
func (h *handshake) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	credentials := h.door.credentials.Load()
	if proof := h.door.proof.Load(); credentials == nil && proof != nil {
		return h.answerKnock(hello, proof)
	}
	if credentials == nil {
		return nil, h.refuse(ErrNoIdentity)
	}
	if len(hello.SupportedProtos) == 0 {
		return nil, h.refuse(errNoProtocol)
	}
	at := slices.IndexFunc(protocols, func(p string) bool { return slices.Contains(hello.SupportedProtos, p) })
	if at < 0 {
		return nil, h.refuse(fmt.Errorf("it asked for the protocol %.64q, want one of %q", hello.SupportedProtos[0], protocols))
	}
	h.protocol = protocols[at]
	cfg := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{credentials.Certificate},
		NextProtos:   []string{h.protocol},
		// Small first records help browsers; here all goes at once.
		DynamicRecordSizingDisabled: true,
		SessionTicketsDisabled:      true, // each connection is judged by the state of its own time
	}
	cfg.ClientAuth = tls.RequestClientCert // judged below, with a reason for the log
	if h.protocol == ProtocolJoin {
		cfg.VerifyConnection = func(cs tls.ConnectionState) error { h.recognise(credentials, cs); return nil }
	} else {
		cfg.VerifyConnection = func(cs tls.ConnectionState) error { return h.refuse(h.judge(credentials, cs)) }
	}
	return cfg, nil
}

func (h *handshake) judge(credentials *pki.Credentials, cs tls.ConnectionState) error {
	id, err := h.door.judge(credentials, cs.PeerCertificates, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return err
	}
	h.peer, h.keyHash = id, pki.KeyHash(cs.PeerCertificates[0])
	return h.door.allowed(id, h.keyHash, false)
}

func (h *handshake) refuse(err error) error {
	h.refusal = err
	return err
}

// reason prefers what the door found over what TLS made of it.
func (h *handshake) reason(err error) error {
	if h.refusal != nil {
		return h.refusal
	}
	return fmt.Errorf("handshake: %w", err)
}

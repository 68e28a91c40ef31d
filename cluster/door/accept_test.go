package door

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/muster-metrics/muster/cluster/pki"
)

// Who may come in, on each protocol: the log says why not.
func TestStrangersAreRefusedOnEachProtocol(t *testing.T) {
	b := newBed(t)
	now := time.Now()
	b.remove("gone")
	reborn := node("n2")
	reborn.Incarnation = 2
	foreign := node("n2")
	foreign.Cluster = "decaf"
	reader := Identity{Cluster: "c0ffee", Role: pki.RoleReader, Name: "thanos"}
	writer := Identity{Cluster: "c0ffee", Role: pki.RoleWriter, Name: "agent"}
	// A certificate of rights, without the key: another one is shown.
	stolen, thief := b.node("n2"), b.node("n2")
	stolen.Certificate.PrivateKey = thief.Certificate.PrivateKey

	for name, c := range map[string]struct {
		credentials *pki.Credentials
		reason      string // empty: let in
	}{
		"a member":                       {b.node("n2"), ""},
		"no certificate":                 {nil, "it showed no certificate"},
		"a reader":                       {b.issue(b.ca, reader, now), "role reader, want node"},
		"a writer":                       {b.issue(b.ca, writer, now), "role writer, want node"},
		"a removed node":                 {b.node("gone"), "gone was removed at revision 7"},
		"another incarnation":            {b.issue(b.ca, reborn, now), "n2 has incarnation 1"},
		"a node of another cluster":      {b.issue(newCA(t, "decaf"), foreign, now), "unknown authority"},
		"a CA that copies our id":        {b.issue(newCA(t, "c0ffee"), node("n2"), now), "unknown authority"},
		"our CA for another cluster":     {b.issue(b.ca, foreign, now), "cluster decaf, this is c0ffee"},
		"a certificate that has run out": {b.issue(b.ca, node("n2"), now.Add(-31*24*time.Hour)), "is after"},
		"a certificate of the future":    {b.issue(b.ca, node("n2"), now.Add(2*time.Hour)), "is before"},
		"a certificate without its key":  {stolen, "handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			d, log := b.open(b.node("n1"), func(c *Config) { c.Reg = reg })
			b.echo(d, ProtocolRaft, ProtocolGRPC, ProtocolJoin)
			for i, protocol := range []string{ProtocolRaft, ProtocolGRPC} {
				err := knock(t, d, with(c.credentials, protocol))
				if c.reason == "" {
					if err != nil {
						t.Errorf("%s: refused: %v\n%s", protocol, err, log)
					}
					continue
				}
				if err == nil {
					t.Errorf("%s: served", protocol)
					continue
				}
				log.has(t, "refused", "protocol="+protocol, c.reason)
				if got := testutil.ToFloat64(d.metrics.refused.WithLabelValues(protocol)); got != 1 {
					t.Errorf("%s: %v refusals counted after %d", protocol, got, i+1)
				}
			}
			// join/1 lets in whoever comes: behind it a certificate may tell who that
			// is, but nobody needs one.
			if err := knock(t, d, with(c.credentials, ProtocolJoin)); err != nil && c.credentials != stolen {
				t.Errorf("join/1: %v\n%s", err, log)
			}
		})
	}
}

func TestDoorWantsOneOfItsProtocols(t *testing.T) {
	for name, c := range map[string]struct {
		protocols []string
		reason    string
	}{
		"none":            {nil, "no protocol"},
		"unknown":         {[]string{"raft/2"}, "raft/2"},
		"http/1.1":        {[]string{"http/1.1"}, "http/1.1"},
		"long and unkind": {[]string{strings.Repeat("z", 255)}, "asked for the protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			d, log := b.open(b.node("n1"))
			b.echo(d, ProtocolRaft, ProtocolGRPC, ProtocolJoin)
			if err := knock(t, d, with(b.node("n2"), c.protocols...)); err == nil {
				t.Error("served")
			}
			log.has(t, "refused", "protocol=none", c.reason)
		})
	}
}

func TestDoorSpeaksNoOlderTLS(t *testing.T) {
	b := newBed(t)
	d, log := b.open(b.node("n1"))
	b.echo(d, ProtocolGRPC)
	cfg := with(b.node("n2"), ProtocolGRPC)
	cfg.MaxVersion = tls.VersionTLS12
	if err := knock(t, d, cfg); err == nil {
		t.Error("served by TLS 1.2")
	}
	log.has(t, "refused", "version")
}

func TestDoorIsShutWithoutIdentity(t *testing.T) {
	b := newBed(t)
	d, log := b.open(nil)
	b.echo(d, ProtocolRaft, ProtocolGRPC, ProtocolJoin)
	for _, protocol := range protocols {
		if err := knock(t, d, with(b.node("n2"), protocol)); err == nil {
			t.Errorf("%s was served", protocol)
		}
	}
	log.has(t, "refused", "belongs to no cluster yet")
	if _, err := d.DialALPN(t.Context(), ProtocolGRPC, d.Addr().String(), "n1"); err == nil {
		t.Error("dialled without a certificate")
	}

	d.SetIdentity(b.node("n1"))
	for _, protocol := range protocols {
		if err := knock(t, d, with(b.node("n2"), protocol)); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
	}
	d.SetIdentity(nil)
	if err := knock(t, d, with(b.node("n2"), ProtocolGRPC)); err == nil {
		t.Error("served after the identity was taken away")
	}
}

func TestNobodyComesInBeforeTheMembersAreKnown(t *testing.T) {
	b := newBed(t)
	d, log := b.open(b.node("n1"))
	d.SetMembers(nil)
	b.echo(d, ProtocolRaft, ProtocolJoin)
	if err := knock(t, d, with(b.node("n2"), ProtocolRaft)); err == nil {
		t.Error("served")
	}
	log.has(t, "refused", "members are not known yet")
	if err := knock(t, d, with(nil, ProtocolJoin)); err != nil {
		t.Error(err)
	}
}

func TestRenewedCertificateIsShownAtOnce(t *testing.T) {
	b := newBed(t)
	d, _ := b.open(b.node("n1"))
	b.echo(d, ProtocolGRPC)
	shown := func() string {
		t.Helper()
		cfg := with(b.node("n2"), ProtocolGRPC)
		cfg.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", d.Addr().String(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := shown()
	renewed := b.node("n1")
	d.SetIdentity(renewed)
	if got := shown(); got == first || got != renewed.Certificate.Leaf.SerialNumber.String() {
		t.Errorf("serial number %s after the renewal, %s before", got, first)
	}
}

func TestRecheckClosesWhatTheStateAllowsNoMore(t *testing.T) {
	b := newBed(t)
	d1, log := b.open(b.node("n1"))
	d2, _ := b.open(b.node("n2"))
	d3, _ := b.open(b.node("n3"))
	for _, d := range []*Door{d1, d2, d3} {
		b.echo(d, ProtocolRaft)
	}
	dial := func(from *Door, to string) net.Conn {
		t.Helper()
		conn, err := from.DialNode(t.Context(), ProtocolRaft, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := ping(conn); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	in, out, other := dial(d2, "n1"), dial(d1, "n2"), dial(d3, "n1")

	b.remove("n2")
	if got := d1.Recheck(); got != 2 {
		t.Errorf("closed %d connections, want the one from n2 and the one to it", got)
	}
	if err := ping(in); err == nil {
		t.Error("the removed node's connection is served")
	}
	if err := ping(out); err == nil {
		t.Error("the connection to the removed node is open")
	}
	if err := ping(other); err != nil {
		t.Errorf("a member's connection was closed: %v", err)
	}
	log.has(t, "connection closed", "peer=n2", "removed at revision 7")
	if _, err := d1.DialNode(t.Context(), ProtocolRaft, "n2"); err == nil || !strings.Contains(err.Error(), "removed at revision 7") {
		t.Errorf("dialling a removed node: %v", err)
	}
}

func TestSilentClientIsSentAway(t *testing.T) {
	b := newBed(t)
	d, log := b.open(b.node("n1"), func(c *Config) { c.HandshakeTimeout = 50 * time.Millisecond })
	b.echo(d, ProtocolGRPC)
	conn, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil && strings.Contains(err.Error(), "timeout") || len(rest) > 0 {
		t.Errorf("read %q, %v", rest, err)
	}
	log.has(t, "refused", "handshake")
}

func TestRubbishIsSentAway(t *testing.T) {
	b := newBed(t)
	d, log := b.open(b.node("n1"))
	b.echo(d, ProtocolGRPC)
	conn, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	log.has(t, "refused", "handshake")
	if err := knock(t, d, with(b.node("n2"), ProtocolGRPC)); err != nil {
		t.Errorf("a member afterwards: %v", err)
	}
}

func TestHandshakesInProgressAreBounded(t *testing.T) {
	b := newBed(t)
	d, log := b.open(b.node("n1"), func(c *Config) { c.MaxHandshakes, c.HandshakeTimeout = 1, time.Minute })
	b.echo(d, ProtocolGRPC)
	idle, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the idle handshake has begun", func() bool { return len(d.handshakes) == 1 })
	if err := knock(t, d, with(b.node("n2"), ProtocolGRPC)); err == nil {
		t.Error("served beyond the bound")
	}
	log.has(t, "refused", "too many handshakes")
	_ = idle.Close()
	until(t, "a member is served again", func() bool { return knock(t, d, with(b.node("n2"), ProtocolGRPC)) == nil })
}

func TestJoinsAreBounded(t *testing.T) {
	b := newBed(t)
	d, log := b.open(b.node("n1"), func(c *Config) { c.MaxJoins = 1 })
	b.echo(d, ProtocolJoin, ProtocolGRPC)
	first, err := JoinDial(t.Context(), d.Addr().String(), b.ca.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	if err := ping(first); err != nil {
		t.Fatal(err)
	}
	if err := knock(t, d, with(nil, ProtocolJoin)); err == nil {
		t.Error("served beyond the bound")
	}
	log.has(t, "refused", "too many joins")
	if err := knock(t, d, with(b.node("n2"), ProtocolGRPC)); err != nil {
		t.Errorf("a member is kept out by joins: %v", err)
	}
	greeter := b.node("n2")
	shown := with(greeter, ProtocolJoin)
	shown.InsecureSkipVerify = true
	greeting, err := tls.Dial("tcp", d.Addr().String(), shown)
	if err != nil {
		t.Fatal(err)
	}
	if err := ping(greeting); err != nil {
		t.Errorf("a member's greeting is kept out by joins: %v", err)
	}
	if err := knock(t, d, with(greeter, ProtocolJoin)); err == nil {
		t.Error("greetings are not bounded")
	}
	_ = greeting.Close()
	_ = first.Close()
	until(t, "a join is served again", func() bool { return knock(t, d, with(nil, ProtocolJoin)) == nil })
}

func TestListenerComesAndGoes(t *testing.T) {
	b := newBed(t)
	d, log := b.open(b.node("n1"), func(c *Config) { c.Backlog = 1 })
	member := b.node("n2")
	if err := knock(t, d, with(member, ProtocolRaft)); err == nil {
		t.Error("served without a listener")
	}
	log.has(t, "refused", "protocol=raft/1", "nobody serves")

	l := d.Listener(ProtocolRaft)
	if d.Listener(ProtocolRaft) != l {
		t.Error("two listeners of one protocol")
	}
	if l.Addr().String() != d.Addr().String() {
		t.Errorf("address %s, want the door's", l.Addr())
	}
	// One connection waits in the backlog when the listener goes.
	cfg := with(member, ProtocolRaft)
	cfg.InsecureSkipVerify = true
	waiting, err := tls.Dial("tcp", d.Addr().String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = waiting.Close() }()
	until(t, "it waits", func() bool { return len(l.(*listener).conns) == 1 })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ping(waiting); err == nil {
		t.Error("a connection that nobody took is open")
	}
	if _, err := l.Accept(); err == nil {
		t.Error("a closed listener accepts")
	}
	b.echo(d, ProtocolRaft)
	if err := knock(t, d, with(member, ProtocolRaft)); err != nil {
		t.Errorf("the next listener: %v", err)
	}
}

func TestBacklogIsBounded(t *testing.T) {
	b := newBed(t)
	d, log := b.open(b.node("n1"), func(c *Config) { c.Backlog, c.HandshakeTimeout = 1, 300*time.Millisecond })
	l := d.Listener(ProtocolRaft)
	cfg := with(b.node("n2"), ProtocolRaft)
	cfg.InsecureSkipVerify = true
	// A slow machine may need more than the short handshake; then it knocks again.
	until(t, "one connection waits", func() bool {
		conn, err := tls.Dial("tcp", d.Addr().String(), cfg)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
		}
		return len(l.(*listener).conns) == 1
	})
	until(t, "the next one is refused", func() bool {
		if err := knock(t, d, with(b.node("n2"), ProtocolRaft)); err == nil {
			t.Error("served by nobody")
		}
		return strings.Contains(log.String(), "too many connections wait")
	})
	until(t, "the surplus is gone", func() bool { return len(d.handshakes) == 0 })
	if got := len(l.(*listener).conns); got != 1 {
		t.Errorf("%d connections wait, want 1", got)
	}
}

func TestDoorCloses(t *testing.T) {
	b := newBed(t)
	d, _ := b.open(b.node("n1"))
	l := d.Listener(ProtocolGRPC)
	if err := d.Listen("127.0.0.1:0"); err == nil {
		t.Error("listens twice")
	}
	d.Close()
	d.Close()
	if _, err := l.Accept(); err == nil {
		t.Error("accepts after Close")
	}
	if _, err := d.Listener(ProtocolRaft).Accept(); err == nil {
		t.Error("a new listener accepts after Close")
	}
	if err := d.Listen("127.0.0.1:0"); err == nil {
		t.Error("listens after Close")
	}
	if _, err := d.Dial(t.Context(), "n1"); err == nil {
		t.Error("dials after Close")
	}
	New(Config{}).Close()
}

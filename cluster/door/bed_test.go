package door

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-metrics/muster/cluster/pki"
)

// bed is a cluster's CA and its members, for doors on loopback.
type bed struct {
	t  *testing.T
	ca *pki.CA

	mu        sync.Mutex
	removed   map[string]bool
	addresses map[string]string
}

func newBed(t *testing.T) *bed {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	return &bed{t: t, ca: newCA(t, "c0ffee"), removed: map[string]bool{}, addresses: map[string]string{}}
}

func newCA(t *testing.T, cluster string) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(cluster, time.Now().Add(-60*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue gives credentials for id, signed by ca at that time. They believe in the
// bed's CA.
func (b *bed) issue(ca *pki.CA, id Identity, at time.Time) *pki.Credentials {
	b.t.Helper()
	dir, err := pki.OpenDir(filepath.Join(b.t.TempDir(), "pki"))
	if err != nil {
		b.t.Fatal(err)
	}
	key, err := dir.Key()
	if err != nil {
		b.t.Fatal(err)
	}
	der, err := pki.NewRequest(key, id.Name)
	if err != nil {
		b.t.Fatal(err)
	}
	req, err := pki.ParseRequest(der)
	if err != nil {
		b.t.Fatal(err)
	}
	as := id
	as.Role = pki.RoleNode // no other role has credentials of a node
	chain, err := ca.Sign(req, as, at)
	if err != nil {
		b.t.Fatal(err)
	}
	credentials, err := pki.NewCredentials(chain, key, ca.Bundle())
	if err != nil {
		b.t.Fatal(err)
	}
	credentials.CAs = b.ca.Bundle()
	if id.Role != pki.RoleNode {
		b.disguise(credentials, ca, req, id, at)
	}
	return credentials
}

// disguise puts a certificate of another role in a node's place.
func (b *bed) disguise(credentials *pki.Credentials, ca *pki.CA, req *pki.Request, id Identity, at time.Time) {
	b.t.Helper()
	chain, err := ca.Sign(req, id, at)
	if err != nil {
		b.t.Fatal(err)
	}
	block, _ := pem.Decode(chain)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		b.t.Fatal(err)
	}
	credentials.Identity, credentials.Certificate.Leaf, credentials.Certificate.Certificate[0] = id, leaf, leaf.Raw
}

func node(name string) Identity {
	return Identity{Cluster: "c0ffee", Role: pki.RoleNode, Name: name, Incarnation: 1}
}

func (b *bed) node(name string) *pki.Credentials { return b.issue(b.ca, node(name), time.Now()) }

// allowed is the committed state: everybody whom the CA calls a node, in their
// first incarnation, who was not removed.
func (b *bed) allowed(name string, incarnation uint64, keyHash []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.removed[name]:
		return fmt.Errorf("%s was removed at revision 7", name)
	case incarnation != 1:
		return fmt.Errorf("%s has incarnation 1, the certificate is of %d", name, incarnation)
	case len(keyHash) != 32:
		return fmt.Errorf("a key hash of %d bytes", len(keyHash))
	}
	return nil
}

func (b *bed) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removed[name] = true
}

func (b *bed) address(name string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.addresses[name]
	return a, ok
}

func (b *bed) move(name, address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if address == "" {
		delete(b.addresses, name)
		return
	}
	b.addresses[name] = address
}

// open gives a door that listens, with the node's credentials (nil: none yet).
func (b *bed) open(credentials *pki.Credentials, change ...func(*Config)) (*Door, *logbook) {
	b.t.Helper()
	log := &logbook{}
	cfg := Config{Addresses: b.address, Log: slog.New(slog.NewTextHandler(log, nil))}
	for _, f := range change {
		f(&cfg)
	}
	d := New(cfg)
	b.t.Cleanup(d.Close)
	if credentials != nil {
		d.SetIdentity(credentials)
		b.move(credentials.Identity.Name, "")
	}
	d.SetMembers(b.allowed)
	if err := d.Listen("127.0.0.1:0"); err != nil {
		b.t.Fatal(err)
	}
	if credentials != nil {
		b.move(credentials.Identity.Name, d.Addr().String())
	}
	return d, log
}

// echo serves a protocol: it sends back what it gets.
func (b *bed) echo(d *Door, protocols ...string) {
	var wait sync.WaitGroup
	for _, protocol := range protocols {
		l := d.Listener(protocol)
		wait.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				wait.Go(func() {
					_, _ = io.Copy(conn, conn)
					_ = conn.Close()
				})
			}
		})
	}
	b.t.Cleanup(func() {
		d.Close()
		wait.Wait()
	})
}

// knock comes to the door as a stranger's program would: with any certificate,
// protocols and TLS version. It returns an error unless a byte came back.
func knock(t *testing.T, d *Door, cfg *tls.Config) error {
	t.Helper()
	cfg.InsecureSkipVerify = true
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	raw, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", d.Addr().String())
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	return ping(raw)
}

func ping(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("neither served nor refused: %w", err)
		}
		return err
	}
	return nil
}

func with(credentials *pki.Credentials, protocols ...string) *tls.Config {
	cfg := &tls.Config{NextProtos: protocols}
	if credentials != nil {
		cfg.Certificates = []tls.Certificate{credentials.Certificate}
	}
	return cfg
}

// logbook keeps what was logged.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// has waits for a line with all words.
func (l *logbook) has(t *testing.T, words ...string) {
	t.Helper()
	until(t, fmt.Sprintf("a log line with %q", words), func() bool {
	lines:
		for line := range strings.Lines(l.String()) {
			for _, word := range words {
				if !strings.Contains(line, word) {
					continue lines
				}
			}
			return true
		}
		return false
	})
}

func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !reached() {
		select {
		case <-ctx.Done():
			t.Fatalf("not reached: %s", what)
		case <-tick.C:
		}
	}
}

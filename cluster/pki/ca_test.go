package pki

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newTestCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA("c0ffee", noon)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newTestRequest(t *testing.T) (*Key, *Request) {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := NewRequest(key, "whoever")
	if err != nil {
		t.Fatal(err)
	}
	req, err := ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, req
}

func chainOf(t *testing.T, text []byte) []*x509.Certificate {
	t.Helper()
	certs, err := parseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

var n1 = Identity{Cluster: "c0ffee", Role: RoleNode, Name: "n1", Incarnation: 7}

func TestSignedCertificateSpeaksForItsNode(t *testing.T) {
	ca := newTestCA(t)
	key, req := newTestRequest(t)
	text, err := ca.Sign(req, n1, noon, "10.0.0.1", "n1.example.org", "bad host!")
	if err != nil {
		t.Fatal(err)
	}
	chain := chainOf(t, text)
	if len(chain) != 2 || !chain[1].Equal(ca.Certificate()) {
		t.Fatalf("%d certificates, want the node's and the CA's", len(chain))
	}
	leaf := chain[0]
	if !bytes.Equal(KeyHash(leaf), key.Hash()) || !bytes.Equal(KeyHash(leaf), req.KeyHash()) {
		t.Error("key, request and certificate have different key hashes")
	}
	if life := leaf.NotAfter.Sub(noon); life != 30*24*time.Hour {
		t.Errorf("it lasts %s", life)
	}
	if len(leaf.IPAddresses) != 1 || len(leaf.DNSNames) != 1 || leaf.IsCA {
		t.Errorf("hosts %v %v, CA %t", leaf.IPAddresses, leaf.DNSNames, leaf.IsCA)
	}
	for name, c := range map[string]struct {
		usage x509.ExtKeyUsage
		at    time.Time
		want  string
	}{
		"as client":               {x509.ExtKeyUsageClientAuth, noon, ""},
		"as server":               {x509.ExtKeyUsageServerAuth, noon, ""},
		"by a clock that is slow": {x509.ExtKeyUsageClientAuth, noon.Add(-59 * time.Minute), ""},
		"at its end":              {x509.ExtKeyUsageClientAuth, leaf.NotAfter, ""},
		"after its end":           {x509.ExtKeyUsageClientAuth, leaf.NotAfter.Add(time.Second), "is after"},
		"before its time":         {x509.ExtKeyUsageClientAuth, noon.Add(-2 * time.Hour), "is before"},
		"to sign code":            {x509.ExtKeyUsageCodeSigning, noon, "usage"},
	} {
		id, err := ca.Bundle().Verify(chain, c.usage, c.at)
		switch {
		case c.want == "" && (err != nil || id != n1):
			t.Errorf("%s: %s, %v", name, id, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := ca.Bundle().Verify(nil, x509.ExtKeyUsageClientAuth, noon); err == nil {
		t.Error("no chain passed")
	}
	if _, err := newTestCA(t).Bundle().Verify(chain, x509.ExtKeyUsageClientAuth, noon); err == nil {
		t.Error("another cluster's CA vouched for it")
	}
	// A node is no CA: what its key signs is nothing.
	fake := &CA{leaf, key}
	_, other := newTestRequest(t)
	forged, err := fake.Sign(other, n1, noon)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := ca.Bundle().Verify(append(chainOf(t, forged), chain...), x509.ExtKeyUsageClientAuth, noon); err == nil {
		t.Errorf("a node signed a certificate for %s", id)
	}
}

func TestSignRefusesAnImpossibleIdentity(t *testing.T) {
	ca := newTestCA(t)
	_, req := newTestRequest(t)
	for _, id := range []Identity{
		{},
		{Cluster: "c0ffee", Role: "root", Name: "n1"},
		{Cluster: "c0ffee", Role: RoleNode, Name: "n1/../n2"},
		{Cluster: "c0ffee", Role: RoleNode, Name: "n1", Tenant: "a"},
		{Cluster: "c0ffee", Role: RoleReader, Name: "r", Incarnation: 1},
		{Cluster: "c0ffee", Role: RoleReader, Name: "r", Tenant: "a/b"},
	} {
		if _, err := ca.Sign(req, id, noon); err == nil {
			t.Errorf("signed for %+v", id)
		}
	}
	if _, err := ca.Sign(req, n1, noon, make([]string, maxHosts+1)...); err == nil {
		t.Error("signed for any number of hosts")
	}
	// A name may be longer than X.509 lets a common name be.
	long := Identity{Cluster: "c0ffee", Role: RoleReader, Name: strings.Repeat("n", 128), Tenant: "a@b"}
	text, err := ca.Sign(req, long, noon)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := ca.Bundle().Verify(chainOf(t, text), x509.ExtKeyUsageClientAuth, noon); err != nil || id != long {
		t.Errorf("%s, %v", id, err)
	}
}

func TestCertificateDoesNotOutliveItsCA(t *testing.T) {
	ca := newTestCA(t)
	_, req := newTestRequest(t)
	text, err := ca.Sign(req, n1, ca.Certificate().NotAfter.Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := chainOf(t, text)[0]; leaf.NotAfter.After(ca.Certificate().NotAfter) {
		t.Errorf("it ends at %s, its CA at %s", leaf.NotAfter, ca.Certificate().NotAfter)
	}
}

func TestBundleBelievesOldAndNewCA(t *testing.T) {
	old, next := newTestCA(t), newTestCA(t)
	both, err := ParseBundle(old.Bundle().With(next.Bundle()).With(old.Bundle()).PEM())
	if err != nil {
		t.Fatal(err)
	}
	if len(both.certs) != 2 || both.Fingerprint() != next.Fingerprint() || !both.Has(old.Fingerprint()) {
		t.Fatalf("%d CAs, newest %s", len(both.certs), both.Fingerprint().Short())
	}
	for _, ca := range []*CA{old, next} {
		_, req := newTestRequest(t)
		text, err := ca.Sign(req, n1, noon)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := both.Verify(chainOf(t, text), x509.ExtKeyUsageServerAuth, noon); err != nil || id != n1 {
			t.Errorf("%s, %v", id, err)
		}
		again, err := NewCAFrom(both, ca.Key())
		if err != nil || again.Fingerprint() != ca.Fingerprint() {
			t.Errorf("the key found another certificate: %v", err)
		}
	}
	if _, err := NewCAFrom(next.Bundle(), old.Key()); err == nil {
		t.Error("a key was joined with another CA's certificate")
	}
}

func TestParseBundleRefuses(t *testing.T) {
	ca := newTestCA(t)
	_, req := newTestRequest(t)
	node, err := ca.Sign(req, n1, noon)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.Key().PEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"nothing":                  nil,
		"no PEM":                   []byte("hello"),
		"a node's certificate":     node,
		"a key":                    key,
		"a CA and a key":           append(ca.Bundle().PEM(), key...),
		"more than it should":      bytes.Repeat(ca.Bundle().PEM(), maxBundle+1),
		"a certificate of rubbish": encodeCertificate([]byte("rubbish")),
	} {
		if _, err := ParseBundle(text); err == nil {
			t.Errorf("%s is a bundle", name)
		}
	}
}

func TestParseRequestChecksTheProof(t *testing.T) {
	key, _ := newTestRequest(t)
	der, err := NewRequest(key, "n1")
	if err != nil {
		t.Fatal(err)
	}
	der[len(der)-1] ^= 1
	if _, err := ParseRequest(der); err == nil {
		t.Error("a request with a broken signature passed")
	}
	if _, err := ParseRequest(make([]byte, maxRequest+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a huge request: %v", err)
	}
	if _, err := ParseRequest(nil); err == nil {
		t.Error("an empty request passed")
	}
}

func TestRenewalComesBetweenHalfAndFourFifths(t *testing.T) {
	ca := newTestCA(t)
	seen := map[time.Time]bool{}
	for range 20 {
		_, req := newTestRequest(t)
		text, err := ca.Sign(req, n1, noon)
		if err != nil {
			t.Fatal(err)
		}
		leaf := chainOf(t, text)[0]
		at := RenewAt(leaf)
		if at.Before(noon.Add(15*24*time.Hour)) || at.After(noon.Add(24*24*time.Hour)) {
			t.Errorf("renewal after %s", at.Sub(noon))
		}
		if !RenewAt(leaf).Equal(at) {
			t.Error("the moment moves")
		}
		seen[at] = true
	}
	if len(seen) < 15 {
		t.Errorf("20 certificates are renewed at %d moments", len(seen))
	}
}

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"
)

// Who has heard of the old CA alone believes the nodes of both, by what they
// show in a handshake. Who believes the new one alone believes nothing that the
// old one's key has signed, however it is presented.
func TestTheOldCAVouchesForTheNewAndNotTheOtherWayRound(t *testing.T) {
	old, next := newTestCA(t), newTestCA(t)
	both, err := old.Bundle().Rotated(old, next, noon)
	if err != nil {
		t.Fatal(err)
	}
	if both, err = ParseBundle(both.PEM()); err != nil {
		t.Fatal(err)
	}
	if len(both.Certificates()) != 2 || both.Fingerprint() != next.Fingerprint() {
		t.Fatalf("%d CAs, newest %s", len(both.Certificates()), both.Fingerprint().Short())
	}
	for _, c := range []struct {
		name              string
		signer            *CA
		byOld, byNext, by bool // believed by who knows the old one, the next, both
	}{
		{"of the old CA", old, true, false, true},
		{"of the next CA", next, true, true, true},
	} {
		key, req := newTestRequest(t)
		text, err := c.signer.Sign(req, n1, noon)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := NewCredentials(text, key, both)
		if err != nil {
			t.Fatal(err)
		}
		if shown.CA() != c.signer.Fingerprint() {
			t.Errorf("%s: %s signed it", c.name, shown.CA().Short())
		}
		chain := presented(t, shown.Certificate)
		for who, w := range map[string]struct {
			bundle *Bundle
			want   bool
		}{
			"the old CA": {old.Bundle(), c.byOld}, "the next CA": {next.Bundle(), c.byNext}, "both": {both, c.by},
			"what is left": {both.Newest(), c.byNext}, "a third": {newTestCA(t).Bundle(), false},
		} {
			id, err := w.bundle.Verify(chain, x509.ExtKeyUsageServerAuth, noon)
			if (err == nil) != w.want || err == nil && id != n1 {
				t.Errorf("%s, shown to who believes %s: %s, %v", c.name, who, id, err)
			}
		}
		if _, err := NewCredentials(text, key, both.Newest()); (err == nil) != c.byNext {
			t.Errorf("%s, after the old one was dropped: %v", c.name, err)
		}
	}
}

func presented(t *testing.T, pair tls.Certificate) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	return chain
}

func TestKeyOfTheNextCASettlesWhenThatCAHasCome(t *testing.T) {
	dir, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	old := newTestCA(t)
	if err := errors.Join(dir.SaveBundle(old.Bundle()), dir.SaveCAKey(old.Key())); err != nil {
		t.Fatal(err)
	}
	key, err := dir.NextCAKey()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := dir.NextCAKey(); err != nil || !again.signer.Equal(key.signer) {
		t.Fatalf("another key the second time: %v", err)
	}
	settled := func() Fingerprint {
		t.Helper()
		if err := dir.SettleCAKey(); err != nil {
			t.Fatal(err)
		}
		ca, err := dir.CA()
		if err != nil {
			t.Fatal(err)
		}
		return ca.Fingerprint()
	}
	if got := settled(); got != old.Fingerprint() {
		t.Errorf("settled as %s before the new CA has come", got.Short())
	}
	next, err := NewCAWith(key, "c0ffee", noon)
	if err != nil {
		t.Fatal(err)
	}
	both, err := old.Bundle().Rotated(old, next, noon)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.SaveBundle(both); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := settled(); got != next.Fingerprint() {
			t.Errorf("settled as %s", got.Short())
		}
	}
	if err := dir.DropCAKey(); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.CA(); !errors.Is(err, ErrAbsent) {
		t.Errorf("after the drop: %v", err)
	}
}

func TestSerialHasOneSpelling(t *testing.T) {
	n, err := NewSerial()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseSerial(SerialText(n)); err != nil || again.Cmp(n) != 0 {
		t.Errorf("%v, %v", again, err)
	}
	for _, text := range []string{"", "0", "1", "-00000000000000000000000000000001", "0000000000000000000000000000000G", "0000000000000000000000000000000A", "00000000000000000000000000000000"} {
		if _, err := ParseSerial(text); err == nil {
			t.Errorf("%q is a serial number", text)
		}
	}
}

func TestReaderIsNoServer(t *testing.T) {
	ca := newTestCA(t)
	_, req := newTestRequest(t)
	serial, err := NewSerial()
	if err != nil {
		t.Fatal(err)
	}
	id := Identity{Cluster: "c0ffee", Role: RoleReader, Name: "thanos", Tenant: "a"}
	text, err := ca.Grant(req, Grant{Identity: id, Life: time.Hour, Serial: serial}, noon)
	if err != nil {
		t.Fatal(err)
	}
	chain := chainOf(t, text)
	if chain[0].SerialNumber.Cmp(serial) != 0 || !chain[0].NotAfter.Equal(noon.Add(time.Hour)) {
		t.Errorf("serial %s, until %s", chain[0].SerialNumber, chain[0].NotAfter)
	}
	if _, err := ca.Bundle().Verify(chain, x509.ExtKeyUsageServerAuth, noon); err == nil {
		t.Error("it may be a server")
	}
	if got, err := ca.Bundle().Verify(chain, x509.ExtKeyUsageClientAuth, noon); err != nil || got != id {
		t.Errorf("%v, %v", got, err)
	}
}

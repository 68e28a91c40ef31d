package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

func serialOn(n *bedNode) string {
	return pki.SerialText(n.node.credentials().Certificate.Leaf.SerialNumber)
}

func TestCertificatesAreRenewedBeforeTheyEnd(t *testing.T) {
	b := newBed(t)
	b.timing.Certificate, b.timing.Stable = 8*time.Second, time.Hour // n2 gets no vote: another signs for it
	nodes := b.cluster(2, InitRequest{})
	first := map[string]string{}
	for _, n := range nodes {
		first[n.name] = serialOn(n)
	}
	b.eventually("each node has another certificate", func() string {
		for _, n := range nodes {
			creds := n.node.credentials()
			if serialOn(n) == first[n.name] {
				return fmt.Sprintf("%s has its first one until %s", n.name, creds.Expires())
			}
			if now := time.Now(); !creds.RenewAt().Before(creds.Expires()) || creds.Expires().After(now.Add(8*time.Second)) {
				t.Fatalf("%s: renewal at %s, end at %s", n.name, creds.RenewAt(), creds.Expires())
			}
		}
		return ""
	})
	for _, n := range nodes {
		onDisk, err := n.node.pki.Credentials()
		if err != nil || !onDisk.Expires().Equal(n.node.credentials().Expires()) && time.Since(onDisk.Expires()) < 0 && serialOn(n) == first[n.name] {
			t.Errorf("%s keeps another certificate than it shows: %v", n.name, err)
		}
	}
	nodes[1].propose(putTenant("after-renewal"))
	b.eventually("the cluster tells when they end", func() string {
		for _, h := range nodes[1].node.Health() {
			if r := h.GetReport(); r.GetCertificateExpiresMs() <= r.GetCertificateRenewAtMs() || len(r.GetTrustedCas()) != 1 {
				return fmt.Sprintf("%s says %v", r.GetNode(), r)
			}
		}
		return ""
	})
}

func TestANodeWhoseCertificateHasRunOutComesBackByItself(t *testing.T) {
	b := newBed(t)
	b.timing.Certificate, b.timing.Stable = 4*time.Second, time.Hour
	nodes := b.cluster(2, InitRequest{})
	away := nodes[1]
	end := away.node.credentials().Expires()
	away.stop()
	nodes[0].propose(putTenant("while-it-was-away"))
	b.eventually("its certificate has run out", func() string {
		if time.Now().After(end) {
			return ""
		}
		return "until " + end.String()
	})
	away.start()
	b.agree()
	if away.node.State().Tenant("while-it-was-away") == nil {
		t.Error("it has not heard what it missed")
	}
}

// A node that was away for too long is let in again by a token, as itself.
func TestANodeThatWasAwayForTooLongJoinsAgain(t *testing.T) {
	b := newBed(t)
	b.timing.Certificate, b.timing.Stable, b.timing.Late = 4*time.Second, time.Hour, time.Nanosecond
	n1 := b.add("n1")
	tokens := n1.init(InitRequest{Slots: 64, ReplicationFactor: 1}).JoinTokens
	away := b.add("n2")
	away.join(tokens[0], n1)
	end := away.node.credentials().Expires()
	incarnation := away.node.credentials().Identity.Incarnation
	away.stop()
	b.eventually("its certificate has run out", func() string {
		if time.Now().After(end) {
			return ""
		}
		return "until " + end.String()
	})
	away.start()
	err := away.node.RenewCertificate(away.ctx())
	if err == nil || !strings.Contains(err.Error(), "run `muster cluster join` on that node again") {
		t.Errorf("a renewal that comes too late: %v", err)
	}
	away.join(tokens[1], n1)
	if now := away.node.credentials(); !now.Expires().After(end) || now.Identity.Incarnation != incarnation {
		t.Errorf("it is %v until %v", now.Identity, now.Expires())
	}
	n1.propose(putTenant("after-it-came-back"))
	b.agree()
}

func TestWhoseLateRenewalIsRefused(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(1, InitRequest{JoinTokens: 2})
	n := nodes[0].node
	st, now := n.State(), time.Now()
	ca, err := n.pki.CA()
	if err != nil {
		t.Fatal(err)
	}
	member := st.Members()[0]
	key, err := n.pki.Key()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	strangeCA, err := pki.NewCA(st.Cluster().GetId(), now)
	if err != nil {
		t.Fatal(err)
	}
	id := pki.Identity{Cluster: st.Cluster().GetId(), Role: pki.RoleNode, Name: member.GetName(), Incarnation: member.GetIncarnation()}
	reader, gone := id, id
	reader.Role, reader.Incarnation = pki.RoleReader, 0
	gone.Name = "gone"
	for _, c := range []struct {
		name   string
		signer *pki.CA
		id     pki.Identity
		key    *pki.Key // of the certificate
		asks   *pki.Key // of the request
		late   int      // days after its end
		want   string
	}{
		{"29 days late", ca, id, key, key, 29, ""},
		{"again at once", ca, id, key, key, 29, "a moment ago"},
		{"31 days late", ca, id, key, key, 31, "more than 30 days ago"},
		{"another key asks", ca, id, key, stranger, 10, "another key"},
		{"a key that is no member's", ca, id, stranger, stranger, 10, "no member"},
		{"no member", ca, gone, key, key, 10, "no member"},
		{"a reader", ca, reader, key, key, 10, "role reader"},
		{"another CA", strangeCA, id, key, key, 10, "unknown authority"},
	} {
		request := func(key *pki.Key) []byte {
			csr, err := pki.NewRequest(key, "x")
			if err != nil {
				t.Fatal(err)
			}
			return csr
		}
		req, err := pki.ParseRequest(request(c.key))
		if err != nil {
			t.Fatal(err)
		}
		chain, err := c.signer.Sign(req, c.id, now)
		if err != nil {
			t.Fatal(err)
		}
		got, err := n.renewLate(t.Context(), &clusterpb.RenewLateRequest{Csr: request(c.asks), Certificate: chain}, now.Add(time.Duration(30+c.late)*24*time.Hour))
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case c.want == "" && !signedBy(got, ca.Fingerprint()):
			t.Errorf("%s: it got %q", c.name, got)
		}
	}
}

func TestIssuedCertificatesFollowTheirRecord(t *testing.T) {
	b := newBed(t)
	b.timing.Stable = time.Hour
	nodes := b.cluster(2, InitRequest{})
	asked := nodes[1] // it has not the CA's key
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(key, "thanos")
	if err != nil {
		t.Fatal(err)
	}
	asked.propose(putTenant("a"))
	made, err := asked.node.IssueCertificate(asked.ctx(), IssueRequest{CSR: csr, Role: "reader", Name: "thanos", Tenant: "a", Life: time.Hour, Actor: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	roots, err := pki.ParseBundle(made.Roots)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := pki.ParseIssued(made.Chain, roots, time.Now())
	if err != nil || creds.Name != "thanos" || creds.Tenant != "a" || creds.Role != "reader" {
		t.Errorf("issued to %v: %v", creds, err)
	}
	if made.Record.GetCreatedBy() != "alice" {
		t.Errorf("record %v", made.Record)
	}
	// Nobody gets one that is not on record, or for another key.
	other, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := pki.NewRequest(other, "thanos")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := asked.door.Dial(asked.ctx(), nodes[0].name)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*clusterpb.RenewRequest{
		"another key": {Csr: foreign, Serial: made.Record.GetSerial()},
		"no record":   {Csr: csr, Serial: serialOf(1)},
		"no serial":   {Csr: csr, Serial: "x"},
	} {
		if _, err := clusterpb.NewControlClient(conn).Renew(asked.ctx(), r); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	var refused *RefusedError
	_, err = asked.node.IssueCertificate(context.Background(), IssueRequest{CSR: []byte("x"), Role: "reader", Name: "thanos"})
	if !errors.As(err, &refused) || refused.Refusal.GetField() != "csr" {
		t.Errorf("a request that is none: %v", err)
	}
}

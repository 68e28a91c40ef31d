package pki

import (
	"crypto/x509"
	"errors"
	"net/url"
	"testing"
)

func TestIdentityHasOneSpelling(t *testing.T) {
	for text, want := range map[string]Identity{
		"muster://c0ffee/node/n1/7":                     {Cluster: "c0ffee", Role: RoleNode, Name: "n1", Incarnation: 7},
		"muster://c0ffee/node/n1":                       {Cluster: "c0ffee", Role: RoleNode, Name: "n1"},
		"muster://c0ffee/reader/thanos-1":               {Cluster: "c0ffee", Role: RoleReader, Name: "thanos-1"},
		"muster://c0ffee/writer/w.x_y?tenant=a%3Ab%2Bc": {Cluster: "c0ffee", Role: RoleWriter, Name: "w.x_y", Tenant: "a:b+c"},
	} {
		if got := want.String(); got != text {
			t.Errorf("%+v is spelled %s, want %s", want, got, text)
		}
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseIdentity(u); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestParseIdentityRefusesEverythingElse(t *testing.T) {
	for _, text := range []string{
		"muster://c0ffee/node", "muster://c0ffee/node/", "muster://c0ffee/node/n1/", "muster://c0ffee/node/n1/x",
		"muster://c0ffee/node/n1/07", "muster://c0ffee/node/n1/0", "muster://c0ffee/node/n1/-1", "muster://c0ffee/node/n1/7/8",
		"muster://c0ffee/node/n1/18446744073709551616", "muster://c0ffee/king/n1", "muster://c0ffee/Node/n1",
		"muster://C0FFEE/node/n1", "muster:///node/n1", "muster://u@c0ffee/node/n1", "muster://c0ffee:1/node/n1",
		"muster://c0ffee/node/n1#x", "muster://c0ffee/node/n%31", "muster://c0ffee/node/n1?tenant=a",
		"muster://c0ffee/reader/r/3", "muster://c0ffee/reader/r?tenant=a&tenant=b", "muster://c0ffee/reader/r?x=1",
		"muster://c0ffee/reader/r?tenant=", "muster://c0ffee/reader/r?", "muster://c0ffee/reader/r?tenant=a%2Fb",
		"muster:c0ffee/node/n1", "muster://c0ffee//node/n1", "muster://c0ffee/node/.n1", "spiffe://c0ffee/node/n1",
	} {
		u, err := url.Parse(text)
		if err != nil {
			continue
		}
		if got, err := ParseIdentity(u); err == nil {
			t.Errorf("%s was taken for %s", text, got)
		}
	}
	if _, err := ParseIdentity(nil); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("nil: %v", err)
	}
}

func TestTwoIdentitiesAreNone(t *testing.T) {
	one := Identity{Cluster: "c0ffee", Role: RoleNode, Name: "n1"}.URI()
	two := Identity{Cluster: "c0ffee", Role: RoleNode, Name: "n2"}.URI()
	other := &url.URL{Scheme: "spiffe", Host: "x"}
	if got, err := IdentityOf(&x509.Certificate{URIs: []*url.URL{other, one}}); err != nil || got.Name != "n1" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := IdentityOf(&x509.Certificate{URIs: []*url.URL{one, two}}); err == nil {
		t.Error("a certificate with two identities passed")
	}
	if _, err := IdentityOf(&x509.Certificate{URIs: []*url.URL{other}}); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("no identity: %v", err)
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add("muster://c0ffee/node/n1/7")
	f.Add("muster://c0ffee/writer/w.x_y?tenant=a%3Ab")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		id, err := ParseIdentity(u)
		if err != nil {
			return
		}
		if again, err := ParseIdentity(id.URI()); err != nil || again != id {
			t.Fatalf("%q: %+v comes back as %+v, %v", text, id, again, err)
		}
	})
}

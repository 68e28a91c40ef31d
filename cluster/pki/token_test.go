package pki

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestTokenComesBackAsItWas(t *testing.T) {
	ca := Fingerprint{1, 2, 3}
	node, err := NewToken(ca)
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := NewTenantToken()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Token{node, tenant} {
		got, err := ParseToken(" " + want.Text() + "\n")
		if err != nil {
			t.Fatalf("parse %s: %v", want, err)
		}
		if got.Text() != want.Text() || got.ID != want.ID || got.CA != want.CA || !bytes.Equal(got.Hash(), want.Hash()) {
			t.Errorf("parsed %s, want %s", got, want)
		}
		if !Matches(want.Hash(), got.Text()) {
			t.Errorf("%s does not match its own hash", want)
		}
	}
	if !strings.HasPrefix(node.Text(), "MUSTER1."+ca.String()+"."+node.ID+".") || node.ForTenant() {
		t.Errorf("token %s has another form", node)
	}
	if !tenant.ForTenant() {
		t.Errorf("token %s is a tenant's", tenant)
	}
	if Matches(node.Hash(), tenant.Text()) || Matches(nil, node.Text()) || Matches(node.Hash()[:31], node.Text()) {
		t.Error("another hash matches")
	}
	if _, err := NewToken(Fingerprint{}); err == nil {
		t.Error("a token without a CA was made")
	}
}

func TestTokensDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		token, err := NewTenantToken()
		if err != nil {
			t.Fatal(err)
		}
		if seen[*token.secret] || seen[token.ID] || len(*token.secret) < minSecret {
			t.Fatalf("token %s is not new, or short", token)
		}
		seen[*token.secret], seen[token.ID] = true, true
	}
}

func TestParseTokenSaysWhatIsWrong(t *testing.T) {
	hash := Fingerprint{0xab}.String()
	secret := strings.Repeat("s", 32)
	for _, c := range []struct{ text, want string }{
		{"", "empty"},
		{"  \n", "empty"},
		{"hunter2" + secret, "begins with neither"},
		{"MUSTER2." + hash + ".id." + secret, "begins with neither"},
		{"MUSTER1", "2 parts"},
		{"MUSTER1." + hash, "copied whole"},
		{"MUSTER1." + hash + ".id", "3 parts"},
		{"MUSTER1." + hash + ".id." + secret + ".more", "5 parts"},
		{"MUSTER1." + hash[1:] + ".id." + secret, "CA hash has 63 characters"},
		{"MUSTER1." + strings.ToUpper(hash) + ".id." + secret, "lower-case hex"},
		{"MUSTER1." + hash[1:] + "g.id." + secret, "lower-case hex"},
		{"MUSTER1." + Fingerprint{}.String() + ".id." + secret, "zero"},
		{"MUSTER1." + hash + ".." + secret, "its id"},
		{"MUSTER1." + hash + ".i d." + secret, "its id"},
		{"MUSTER1." + hash + ".id." + secret[:21], "21 characters"},
		{"MUSTER1." + hash + ".id." + secret + "=", "its secret has characters"},
		{"MUSTERT1." + secret, "2 parts"},
		{"MUSTERT1.id." + secret[:10], "10 characters"},
		{"MUSTERT1.id." + strings.Repeat("s", maxToken), "at most 512"},
	} {
		_, err := ParseToken(c.text)
		if !errors.Is(err, ErrToken) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), secret[:10]) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%q: the error shows the secret: %v", c.text, err)
		}
	}
	if _, err := ParseClusterToken("MUSTERT1.id." + secret); !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), "tenant") {
		t.Errorf("a tenant's token to join with: %v", err)
	}
	if _, err := ParseClusterToken("MUSTER1." + hash + ".id." + secret); err != nil {
		t.Errorf("a cluster's token: %v", err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	token, err := NewToken(Fingerprint{7})
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	number := key.signer.D.String() //nolint:staticcheck // the number itself is what must not show
	credentials := &Credentials{Identity: n1, Certificate: tls.Certificate{PrivateKey: key.signer}}
	type hidden struct {
		token Token
		key   *Key
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", token)
		fmt.Fprintf(&out, verb+"\n", &token)
		fmt.Fprintf(&out, verb+"\n", key)
		fmt.Fprintf(&out, verb+"\n", credentials)
		fmt.Fprintf(&out, verb+"\n", hidden{token, key})
		fmt.Fprintf(&out, verb+"\n", &hidden{token, key})
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("made", "token", token, "key", key, "both", hidden{token, key}, "credentials", credentials, "list", []any{token, key})
	}
	if err := json.NewEncoder(&out).Encode(map[string]any{"token": token, "credentials": credentials}); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.Contains(text, *token.secret) || strings.Contains(text, fmt.Sprintf("%x", *token.secret)) {
		t.Error("the token's secret was printed")
	}
	if strings.Contains(text, number) {
		t.Error("the private key was printed")
	}
	if !strings.Contains(text, token.ID) {
		t.Error("the token's id was not printed")
	}
}

func FuzzToken(f *testing.F) {
	node, err := NewToken(Fingerprint{1})
	if err != nil {
		f.Fatal(err)
	}
	tenant, err := NewTenantToken()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{node.Text(), tenant.Text(), node.Text() + "\n", "MUSTER1...", "MUSTERT1..", "", ".", "MUSTER1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrToken) {
				t.Fatalf("error %v is no ErrToken", err)
			}
			return
		}
		// Tokens are compared as text: what was parsed has one spelling, the given one.
		if token.Text() != strings.TrimSpace(text) {
			t.Fatalf("parsed %q, and it says %q", text, token.Text())
		}
		again, err := ParseToken(token.Text())
		if err != nil || again.ID != token.ID || again.CA != token.CA || *again.secret != *token.secret {
			t.Fatalf("%q does not come back: %v", text, err)
		}
		if strings.Contains(token.String(), *token.secret) && !strings.Contains(token.public()+".[redacted]", *token.secret) {
			t.Fatalf("String shows the secret of %q", text)
		}
	})
}

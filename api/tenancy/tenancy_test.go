package tenancy

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// world is a committed state with the tenants alice and bob (two tokens),
// sam (suspended) and gone (deleted).
type world struct {
	st     *cluster.State
	tokens map[string]string
}

func newWorld(t *testing.T, change func(*clusterpb.Settings)) *world {
	t.Helper()
	w := &world{st: cluster.EmptyState(), tokens: map[string]string{}}
	settings := cluster.DefaultSettings()
	change(settings)
	w.apply(t, &clusterpb.Command{Change: &clusterpb.Command_Init{Init: &clusterpb.InitCluster{
		Name: "test", Id: strings.Repeat("0", 32),
		Member:   &clusterpb.Member{Name: "n1", Address: "127.0.0.1:19391", KeyHash: make([]byte, 32)},
		StoreId:  make([]byte, 16),
		Settings: settings, ReplicationFactor: 1,
	}}})
	for _, id := range []string{"alice", "bob", "sam", "gone"} {
		w.put(t, id, clusterpb.TenantState_TENANT_ACTIVE)
		w.token(t, id, id)
	}
	w.token(t, "bob", "bob2")
	w.token(t, "bob", "old", 1_700_000_000_000)
	w.put(t, "sam", clusterpb.TenantState_TENANT_SUSPENDED)
	w.apply(t, &clusterpb.Command{Change: &clusterpb.Command_DeleteTenant{DeleteTenant: &clusterpb.DeleteTenant{Id: "gone"}}})
	return w
}

func (w *world) apply(t *testing.T, cmd *clusterpb.Command) {
	t.Helper()
	w.applyAt(t, 1_800_000_000_000, cmd)
}

func (w *world) applyAt(t *testing.T, now int64, cmd *clusterpb.Command) {
	t.Helper()
	cmd.TimeMs = now
	next, res := w.st.Apply(w.st.Revision()+1, cmd)
	if res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	w.st = next
}

func (w *world) put(t *testing.T, id string, state clusterpb.TenantState) {
	t.Helper()
	w.apply(t, &clusterpb.Command{Change: &clusterpb.Command_PutTenant{PutTenant: &clusterpb.PutTenant{Id: id, State: state}}})
}

// token makes one that may expire; the state's clock is not the wall's.
func (w *world) token(t *testing.T, tenant, as string, expires ...int64) {
	t.Helper()
	token, err := pki.NewTenantToken()
	if err != nil {
		t.Fatal(err)
	}
	w.tokens[as] = token.Text()
	made := &clusterpb.TenantToken{Id: token.ID, Hash: token.Hash()}
	for _, end := range expires {
		made.ExpiresMs = end
	}
	w.applyAt(t, 1_600_000_000_000, &clusterpb.Command{Change: &clusterpb.Command_CreateTenantToken{CreateTenantToken: &clusterpb.CreateTenantToken{
		Tenant: tenant, Token: made,
	}}})
}

// header is a request's headers: name, value, name, value.
func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func verified(subject pkix.Name) *tls.ConnectionState {
	cert := &x509.Certificate{Subject: subject}
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
}

type story struct {
	name   string
	header http.Header
	tls    *tls.ConnectionState
	// What a write and a query get: a status, or 200 and the tenant.
	write, query int
	tenant       string
}

func (w *world) run(t *testing.T, stories []story) {
	t.Helper()
	reg := prometheus.NewRegistry()
	ten := New(func() *cluster.State { return w.st }, Config{Reg: reg})
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			ask(t, ten.Write, s, s.write, "text/plain; charset=utf-8")
			ask(t, ten.Query, s, s.query, "application/json")
		})
	}
	if n := testutil.CollectAndCount(ten.refused); n == 0 {
		t.Error("no refusal was counted")
	}
}

func ask(t *testing.T, door func(func(http.ResponseWriter, *http.Request, string)) http.Handler, s story, want int, contentType string) {
	t.Helper()
	got, called := "", false
	h := door(func(_ http.ResponseWriter, _ *http.Request, tenant string) { got, called = tenant, true })
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header, r.TLS = s.header, s.tls
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	if rec.Code != want || called != (want == http.StatusOK) {
		t.Fatalf("status %d (%s), passed on: %v; want %d", rec.Code, strings.TrimSpace(rec.Body.String()), called, want)
	}
	if want == http.StatusOK {
		if got != s.tenant {
			t.Errorf("tenant %q, want %q", got, s.tenant)
		}
		return
	}
	if ct := rec.Header().Get("Content-Type"); ct != contentType {
		t.Errorf("content type %s", ct)
	}
	if contentType == "application/json" {
		var body struct{ Status, ErrorType, Error string }
		if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil || body.Status != "error" || body.ErrorType == "" || body.Error == "" {
			t.Errorf("body %s: %v", rec.Body, err)
		}
	}
	if has := len(rec.Header().Values("WWW-Authenticate")) > 0; has != (want == http.StatusUnauthorized) {
		t.Errorf("WWW-Authenticate: %v with %d", rec.Header().Values("WWW-Authenticate"), want)
	}
	if has := rec.Header().Get("Retry-After") != ""; has != (want == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After %v with %d", has, want)
	}
	for _, v := range s.header.Values("Authorization") {
		if _, secret, ok := strings.Cut(v, " "); ok && secret != "" && strings.Contains(rec.Body.String(), secret) {
			t.Error("the answer shows the credential")
		}
	}
}

func TestToken(t *testing.T) {
	w := newWorld(t, func(s *clusterpb.Settings) { s.TenantAuth = clusterpb.TenantAuth_AUTH_TOKEN })
	alice, bob2, sam, gone, old := w.tokens["alice"], w.tokens["bob2"], w.tokens["sam"], w.tokens["gone"], w.tokens["old"]
	other, err := pki.NewTenantToken()
	if err != nil {
		t.Fatal(err)
	}
	w.run(t, []story{
		{"none", header(), nil, 401, 401, ""},
		{"tenant header alone", header("THANOS-TENANT", "alice"), nil, 401, 401, ""},
		{"bearer", header("Authorization", "Bearer "+alice), nil, 200, 200, "alice"},
		{"bearer, lower case, spaces", header("Authorization", "bearer   "+alice+" "), nil, 200, 200, "alice"},
		{"basic", header("Authorization", basic("whoever", alice)), nil, 200, 200, "alice"},
		{"basic without a user", header("Authorization", basic("", alice)), nil, 200, 200, "alice"},
		{"basic, the token as the user", header("Authorization", basic(alice, "")), nil, 401, 401, ""},
		{"basic, not base64", header("Authorization", "Basic !!!"), nil, 401, 401, ""},
		{"second token of a tenant", header("Authorization", "Bearer "+bob2), nil, 200, 200, "bob"},
		{"unknown token", header("Authorization", "Bearer "+other.Text()), nil, 401, 401, ""},
		{"not a token", header("Authorization", "Bearer x"), nil, 401, 401, ""},
		{"the token's hash", header("Authorization", "Bearer "+string(other.Hash())), nil, 401, 401, ""},
		{"token, one character short", header("Authorization", "Bearer "+alice[:len(alice)-1]), nil, 401, 401, ""},
		{"another scheme", header("Authorization", "Digest "+alice), nil, 401, 401, ""},
		{"scheme alone", header("Authorization", "Bearer"), nil, 401, 401, ""},
		{"two credentials", header("Authorization", "Bearer "+alice, "Authorization", "Bearer "+bob2), nil, 401, 401, ""},
		{"same header", header("Authorization", "Bearer "+alice, "THANOS-TENANT", "alice"), nil, 200, 200, "alice"},
		{"empty header", header("Authorization", "Bearer "+alice, "THANOS-TENANT", ""), nil, 200, 200, "alice"},
		{"differing header", header("Authorization", "Bearer "+alice, "THANOS-TENANT", "bob"), nil, 403, 403, ""},
		{"differing scope", header("Authorization", "Bearer "+alice, "X-Scope-OrgID", "bob"), nil, 403, 403, ""},
		{"differing second header", header("Authorization", "Bearer "+alice, "THANOS-TENANT", "alice", "THANOS-TENANT", "bob"), nil, 403, 403, ""},
		{"differing header that is no id", header("Authorization", "Bearer "+alice, "THANOS-TENANT", "../x"), nil, 403, 403, ""},
		{"suspended", header("Authorization", "Bearer "+sam), nil, 403, 200, "sam"},
		{"deleted", header("Authorization", "Bearer "+gone), nil, 403, 403, ""},
		{"expired", header("Authorization", "Bearer "+old), nil, 401, 401, ""},
		{"certificate counts for nothing", header(), verified(pkix.Name{CommonName: "alice"}), 401, 401, ""},
	})
}

func TestRevokedTokenIsUnknown(t *testing.T) {
	w := newWorld(t, func(*clusterpb.Settings) {})
	alice, err := pki.ParseToken(w.tokens["alice"])
	if err != nil {
		t.Fatal(err)
	}
	w.apply(t, &clusterpb.Command{Change: &clusterpb.Command_RevokeTenantToken{RevokeTenantToken: &clusterpb.RevokeTenantToken{Tenant: "alice", Id: alice.ID}}})
	w.run(t, []story{{"revoked", header("Authorization", "Bearer "+alice.Text()), nil, 401, 401, ""}})
}

func TestHeader(t *testing.T) {
	long := strings.Repeat("x", 128)
	for _, create := range []bool{true, false} {
		w := newWorld(t, func(s *clusterpb.Settings) {
			s.TenantAuth, s.AutoCreateTenants = clusterpb.TenantAuth_AUTH_HEADER, create
		})
		unknown := 403
		if create {
			unknown = 200
		}
		w.run(t, []story{
			{"none: the default tenant", header(), nil, unknown, 200, "default-tenant"},
			{"empty: the default tenant", header("THANOS-TENANT", ""), nil, unknown, 200, "default-tenant"},
			{"known", header("THANOS-TENANT", "alice"), nil, 200, 200, "alice"},
			{"scope", header("X-Scope-OrgID", "alice"), nil, 200, 200, "alice"},
			{"empty, then scope", header("THANOS-TENANT", "", "X-Scope-OrgID", "alice"), nil, 200, 200, "alice"},
			{"both, equal", header("THANOS-TENANT", "alice", "X-Scope-OrgID", "alice"), nil, 200, 200, "alice"},
			{"both, differing", header("THANOS-TENANT", "alice", "X-Scope-OrgID", "bob"), nil, 400, 400, ""},
			{"one, twice, differing", header("THANOS-TENANT", "alice", "THANOS-TENANT", "bob"), nil, 400, 400, ""},
			{"unknown", header("THANOS-TENANT", "new"), nil, unknown, 200, "new"},
			{"every character", header("THANOS-TENANT", "A9._:@=+-z"), nil, unknown, 200, "A9._:@=+-z"},
			{"longest", header("THANOS-TENANT", long), nil, unknown, 200, long},
			{"too long", header("THANOS-TENANT", long+"x"), nil, 400, 400, ""},
			{"begins with a dot", header("THANOS-TENANT", ".."), nil, 400, 400, ""},
			{"a path", header("THANOS-TENANT", "a/b"), nil, 400, 400, ""},
			{"several tenants", header("THANOS-TENANT", "a|b"), nil, 400, 400, ""},
			{"a space around it", header("THANOS-TENANT", " alice"), nil, 400, 400, ""},
			{"not ASCII", header("THANOS-TENANT", "ü"), nil, 400, 400, ""},
			{"suspended", header("THANOS-TENANT", "sam"), nil, 403, 200, "sam"},
			{"deleted", header("THANOS-TENANT", "gone"), nil, 403, 403, ""},
			{"a token counts for nothing", header("Authorization", "Bearer "+w.tokens["bob"], "THANOS-TENANT", "alice"), nil, 200, 200, "alice"},
		})
	}
}

func TestHeaderByAnotherName(t *testing.T) {
	w := newWorld(t, func(s *clusterpb.Settings) { s.TenantAuth = clusterpb.TenantAuth_AUTH_HEADER })
	ten := New(func() *cluster.State { return w.st }, Config{TenantHeader: "x-team"})
	ask(t, ten.Write, story{header: header("X-Team", "bob", "THANOS-TENANT", "alice"), tenant: "bob"}, 200, "")
}

func TestCertificate(t *testing.T) {
	with := func(field string) *world {
		return newWorld(t, func(s *clusterpb.Settings) {
			s.TenantAuth, s.TenantCertificateField, s.AutoCreateTenants = clusterpb.TenantAuth_AUTH_CERTIFICATE, field, false
		})
	}
	subject := pkix.Name{CommonName: "alice", Organization: []string{"bob"}, OrganizationalUnit: []string{"sam"}}
	unverified := verified(subject)
	unverified.VerifiedChains = nil
	with("commonName").run(t, []story{
		{"common name", header(), verified(subject), 200, 200, "alice"},
		{"same header", header("THANOS-TENANT", "alice"), verified(subject), 200, 200, "alice"},
		{"differing header", header("THANOS-TENANT", "bob"), verified(subject), 403, 403, ""},
		{"no TLS", header("THANOS-TENANT", "alice"), nil, 401, 401, ""},
		{"no certificate", header(), &tls.ConnectionState{}, 401, 401, ""},
		{"not verified", header(), unverified, 401, 401, ""},
		{"field empty", header(), verified(pkix.Name{}), 401, 401, ""},
		{"no id", header(), verified(pkix.Name{CommonName: "a b"}), 400, 400, ""},
		{"unknown", header(), verified(pkix.Name{CommonName: "new"}), 403, 200, "new"},
		{"deleted", header(), verified(pkix.Name{CommonName: "gone"}), 403, 403, ""},
	})
	with("organization").run(t, []story{
		{"organization", header(), verified(subject), 200, 200, "bob"},
		{"two organizations", header(), verified(pkix.Name{Organization: []string{"alice", "bob"}}), 400, 400, ""},
	})
	with("organizationalUnit").run(t, []story{{"unit, suspended", header(), verified(subject), 403, 200, "sam"}})
}

func TestWithoutACluster(t *testing.T) {
	ten := New(cluster.EmptyState, Config{})
	ask(t, ten.Write, story{header: header()}, 503, "text/plain; charset=utf-8")
	ask(t, ten.Query, story{header: header()}, 503, "application/json")
}

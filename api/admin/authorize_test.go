package admin

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// token makes one of a role through the API.
func (b *bed) token(role string) string {
	b.t.Helper()
	var made struct{ Token string }
	b.call("POST", "/tokens", `{"role":"`+role+`"}`, 200).as(&made)
	return made.Token
}

func TestPlainHTTPServesMetricsOnly(t *testing.T) {
	b := newCluster(t)
	admin := b.token("admin")
	srv := httptest.NewServer(b.handler())
	defer srv.Close()
	if r := ask(t, srv.Client(), srv.URL+"/metrics", "GET", ""); r.code != 200 {
		t.Errorf("metrics: %d", r.code)
	}
	for _, path := range []string{"/", "/api/v1/cluster/status", "/api/v1/query", "/debug/pprof/", "/metrics/x", "/-/reload", "/nothing"} {
		r := ask(t, srv.Client(), srv.URL+path, "GET", "", "Authorization", "Bearer "+admin)
		if r.code != 403 || !strings.Contains(r.text, "use https or the unix socket") {
			t.Errorf("%s: %d %s", path, r.code, r.text)
		}
	}
	if r := ask(t, srv.Client(), srv.URL+"/metrics", "POST", ""); r.code != 403 {
		t.Errorf("POST /metrics: %d", r.code)
	}
}

func TestTokensOverTLS(t *testing.T) {
	b := newCluster(t)
	url, client := b.https()
	tokens := map[string]string{
		"none": "", "garbage": "x", "node": b.token("node"), "viewer": b.token("viewer"), "operator": b.token("operator"), "admin": b.token("admin"),
	}
	b.call("PUT", "/tenants/t", `{}`, 200)
	var tenant struct{ Token string }
	b.call("POST", "/tenants/t/tokens", ``, 200).as(&tenant)
	tokens["tenant"] = tenant.Token

	for _, c := range []struct {
		method, path, body       string
		viewer, operator, admins int
	}{
		{"GET", "/api/v1/cluster/status", "", 200, 200, 200},
		{"GET", "/api/v1/tenants", "", 200, 200, 200},
		{"POST", "/api/v1/rings/default/plan", "", 200, 200, 200},
		{"POST", "/api/v1/query", "", 404, 404, 404}, // let through; nobody serves it here
		{"PUT", "/api/v1/tenants/a", "{}", 403, 200, 200},
		{"POST", "/api/v1/tenants/a/tokens", "{}", 403, 200, 200},
		{"DELETE", "/api/v1/tenants/nobody", "", 403, 404, 404},
		{"PUT", "/api/v1/settings", "{}", 403, 200, 200},
		{"DELETE", "/api/v1/rings/plan", "", 403, 404, 404},
		{"GET", "/api/v1/tokens", "", 403, 403, 200},
		{"POST", "/api/v1/tokens", `{"role":"viewer"}`, 403, 403, 200},
		{"POST", "/api/v1/cluster/init", "{}", 403, 403, 409},
		{"GET", "/debug/pprof/heap", "", 403, 403, 404},
		{"GET", "/api/v1/snapshot", "", 403, 403, 200},
		{"GET", "/api/v1/certificates", "", 403, 403, 200},
		{"POST", "/api/v1/certificates", "{}", 403, 403, 400},
		{"POST", "/api/v1/certificates/rotate", "{\"finish\":true}", 403, 403, 404},
		{"GET", "/metrics", "", 200, 200, 200},
	} {
		for who, text := range tokens {
			want := 401
			switch who {
			case "viewer":
				want = c.viewer
			case "operator":
				want = c.operator
			case "admin":
				want = c.admins
			}
			if c.path == "/metrics" {
				want = 200
			}
			r := ask(t, client, url+c.path, c.method, c.body, "Authorization", "Bearer "+text)
			if r.code != want {
				t.Errorf("%s: %s %s: %d, want %d: %s", who, c.method, c.path, r.code, want, r.text)
			}
			if (r.code == 401) != (r.header.Get("WWW-Authenticate") != "") {
				t.Errorf("%s: %s %s: WWW-Authenticate %q", who, c.method, c.path, r.header.Get("WWW-Authenticate"))
			}
		}
	}
	for _, h := range [][]string{
		{},
		{"Authorization", tokens["admin"]},
		{"Authorization", "Basic " + tokens["admin"]},
		{"Authorization", "Bearer " + tokens["admin"] + "x"},
		{"Authorization", "Bearer " + tokens["viewer"], "Authorization", "Bearer " + tokens["admin"]},
	} {
		if r := ask(t, client, url+"/api/v1/tokens", "GET", "", h...); r.code != 401 {
			t.Errorf("%v: %d", h, r.code)
		}
	}

	var events struct{ Events []eventObject }
	b.call("GET", "/cluster/events", "", 200).as(&events)
	found := false
	for _, e := range events.Events {
		if e.Action == "tenant created" && e.Object == "a" {
			id, err := pki.ParseToken(tokens["operator"])
			ok(t, err)
			idAdmin, err := pki.ParseToken(tokens["admin"])
			ok(t, err)
			found = e.Actor == "operator token "+id.ID || e.Actor == "admin token "+idAdmin.ID
		}
	}
	if !found {
		t.Error("no event says whose token created the tenant")
	}

	// A revoked token is nobody's at once.
	viewer, err := pki.ParseToken(tokens["viewer"])
	ok(t, err)
	b.call("DELETE", "/tokens/"+viewer.ID, "", 200)
	if r := ask(t, client, url+"/api/v1/rings", "GET", "", "Authorization", "Bearer "+tokens["viewer"]); r.code != 401 {
		t.Errorf("revoked: %d", r.code)
	}
}

func TestExpiredTokenIsNobodys(t *testing.T) {
	b := newCluster(t)
	var made struct{ Token string }
	b.call("POST", "/tokens", `{"role":"admin","expires":"1h"}`, 200).as(&made)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+made.Token)
	if has, c, why := identify(b.node.State(), r, time.Now()); has != admin || !strings.HasPrefix(c.actor, "admin token ") || why != "" {
		t.Errorf("valid: %v %+v %s", has, c, why)
	}
	if has, _, why := identify(b.node.State(), r, time.Now().Add(2*time.Hour)); has != nobody || !strings.Contains(why, "has expired at 2") {
		t.Errorf("expired: %v %s", has, why)
	}
}

// TestEveryRouteHasItsRole lists the whole API: a route that is added without
// a thought about who may use it fails here.
func TestEveryRouteHasItsRole(t *testing.T) {
	want := map[string]role{
		"GET /api/v1/openapi.json": viewer, "GET /api/v1/cluster/verify": viewer, "GET /api/v1/snapshot": admin, "POST /api/v1/snapshot": admin, "POST /api/v1/cluster/members/{name}/undrain": operator,
		"GET /api/v1/cluster/status": viewer, "GET /api/v1/cluster/members": viewer, "GET /api/v1/cluster/members/{name}": viewer,
		"PUT /api/v1/cluster/members/{name}": operator, "DELETE /api/v1/cluster/members/{name}": operator,
		"GET /api/v1/cluster/events": viewer, "POST /api/v1/cluster/init": admin, "POST /api/v1/cluster/join": admin,
		"POST /api/v1/cluster/leader": operator,
		"GET /api/v1/tenants":         viewer, "GET /api/v1/tenants/{id}": viewer, "PUT /api/v1/tenants/{id}": operator,
		"DELETE /api/v1/tenants/{id}": operator, "GET /api/v1/tenants/{id}/tokens": viewer,
		"POST /api/v1/tenants/{id}/tokens": operator, "DELETE /api/v1/tenants/{id}/tokens/{tid}": operator,
		"GET /api/v1/tenants/{id}/ring": viewer, "PUT /api/v1/tenants/{id}/ring": operator, "POST /api/v1/rings": operator,
		"GET /api/v1/rings": viewer, "GET /api/v1/rings/{name}": viewer, "PUT /api/v1/rings/{name}": operator,
		"DELETE /api/v1/rings/{name}": operator, "GET /api/v1/rings/{name}/slots": viewer,
		"POST /api/v1/rings/{name}/plan": viewer, "POST /api/v1/rings/{name}/rebalance": operator,
		"GET /api/v1/settings": viewer, "PUT /api/v1/settings": operator,
		"GET /api/v1/certificates": admin, "POST /api/v1/certificates": admin, "DELETE /api/v1/certificates/{serial}": admin,
		"POST /api/v1/certificates/renew": admin, "POST /api/v1/certificates/rotate": admin,
		"POST /api/v1/cluster/members/{name}/drain": operator,
		"POST /api/v1/cluster/recover":              admin,
		"GET /api/v1/tokens":                        admin, "POST /api/v1/tokens": admin, "DELETE /api/v1/tokens/{id}": admin,
	}
	routes := (&api{}).routes()
	for pattern := range routes {
		method, path, _ := strings.Cut(pattern, " ")
		r := httptest.NewRequest(method, path, nil)
		r.TLS = &tls.ConnectionState{}
		if got, known := needs(r), want[pattern]; known == nobody || got != known {
			t.Errorf("%s needs %v, want %v", pattern, got, known)
		}
	}
	if len(want) != len(routes) {
		t.Errorf("%d routes, %d are listed here", len(routes), len(want))
	}
	// A plan only tells; a ring that is called plan is a ring.
	for _, line := range []string{
		"PUT /api/v1/rings/plan", "DELETE /api/v1/rings/plan", "POST /api/v1/rings/plan", "PUT /api/v1/rings/default/plan",
		"PUT /api/v1/rings/default%2Fplan", "POST /api/v1/rings//plan", "PUT /api/v1/query", "DELETE /api/v1/series",
	} {
		method, path, _ := strings.Cut(line, " ")
		if got := needs(httptest.NewRequest(method, path, nil)); got != operator {
			t.Errorf("%s needs %v, want %v", line, got, operator)
		}
	}
	for _, r := range []clusterpb.TokenRole{clusterpb.TokenRole_ROLE_NODE, clusterpb.TokenRole_TOKEN_ROLE_UNSPECIFIED} {
		if tokenRoles[r] != nobody {
			t.Errorf("%v may do something", r)
		}
	}
}

package admin

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// objects is a hash of all that an operator can change.
func (b *bed) objects() string {
	b.t.Helper()
	h := sha256.New()
	for _, path := range []string{"/tenants?limit=1000", "/rings", "/settings", "/tokens", "/cluster/members", "/cluster/events", "/tenants/a/tokens"} {
		r := ask(b.t, b.socket, "http://muster/api/v1"+path, "GET", "")
		fmt.Fprintln(h, path, r.code, r.text)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestBadInput: whatever is wrong, the answer is 400 and names it, and nothing
// has changed.
func TestBadInput(t *testing.T) {
	b := newCluster(t)
	b.call("PUT", "/tenants/a", `{"retention":"15d"}`, 200)
	before := b.objects()
	long := strings.Repeat("x", 300)
	ring := func(fields string) string { return `{"tenants":["x"],"replication_factor":1,` + fields + `}` }
	deep := strings.Repeat(`{"limits":`, 100) + "1" + strings.Repeat("}", 100)
	for _, c := range []struct{ method, path, body, field string }{
		// Fields: unknown, twice, of another type or case, null where it counts.
		{"PUT", "/tenants/a", `{"retentoin":"1d"}`, "retentoin"},
		{"PUT", "/tenants/a", `{"Retention":"1d"}`, "Retention"},
		{"PUT", "/tenants/a", `{"limits":{"active_serie":1}}`, "limits.active_serie"},
		{"PUT", "/settings", `{"tenant_defaults":{"limits":{"colour":1}}}`, "tenant_defaults.limits.colour"},
		{"PUT", "/tenants/a", `{"retention":"1d","retention":"2d"}`, "retention"},
		{"PUT", "/tenants/a", `{"limits":{"exemplars":1,"exemplars":2}}`, "limits.exemplars"},
		{"PUT", "/tenants/a", `{"limits":{"exemplars":1},"limits":{}}`, "limits"},
		{"PUT", "/tenants/a", `{"limits":[1]}`, "limits"},
		{"PUT", "/tenants/a", `{"state":5}`, "state"},
		{"PUT", "/tenants/a", `{"limits":{"active_series":"5"}}`, "limits.active_series"},
		{"PUT", "/tenants/a", `{"retention":["1d"]}`, "retention"},
		{"PUT", "/rings/r", ring(`"tenants":"x"`), "tenants"},
		{"POST", "/rings", `{"rings":[{"name":"r","slotz":1}]}`, "rings.slotz"},
		{"POST", "/rings", `{"rings":[{"name":"r","slots":"8"}]}`, "rings.slots"},
		{"POST", "/rings", `{"rings":[{"name":"r","write_quorum":"most"}]}`, "rings[0].write_quorum"},
		{"POST", "/rings", `{"rings":[]}`, "rings"},
		{"PUT", "/tenants/a/ring", `{}`, "ring"},
		{"PUT", "/tenants/a/ring", `{"ring":"default","to":"x"}`, "to"},
		{"PUT", "/rings/r", `{"tenants":"x"}`, "tenants"},
		{"PUT", "/rings/r", `{"tenants":[1]}`, "tenants"},
		{"PUT", "/cluster/members/n1", `{"weight":true}`, "weight"},
		{"POST", "/tokens", `{"role":["admin"]}`, "role"},
		{"POST", "/tenants/a/tokens", `{"role":"admin"}`, "role"},
		// Numbers that are none, or too large.
		{"PUT", "/tenants/a", `{"limits":{"active_series":NaN}}`, "limits.active_series"},
		{"PUT", "/tenants/a", `{"limits":{"active_series":Infinity}}`, "limits.active_series"},
		{"PUT", "/tenants/a", `{"limits":{"active_series":1e400}}`, "limits.active_series"},
		{"PUT", "/tenants/a", `{"limits":{"active_series":9223372036854775807}}`, "limits.active_series"},
		{"PUT", "/tenants/a", `{"limits":{"active_series":99999999999999999999}}`, "limits.active_series"},
		{"PUT", "/tenants/a", `{"limits":{"active_series":1.5}}`, "limits.active_series"},
		{"PUT", "/tenants/a", `{"limits":{"active_series":-1}}`, "limits.active_series"},
		{"PUT", "/tenants/a", `{"retention":-1}`, "retention"},
		{"PUT", "/tenants/a", `{"retention":"-1d"}`, "retention"},
		{"PUT", "/tenants/a", `{"retention":"9999y"}`, "retention"},
		{"PUT", "/settings", `{"tenant_defaults":{"retention":-1}}`, "tenant_defaults.retention"},
		{"PUT", "/settings", `{"max_tenants":1e18}`, "max_tenants"},
		{"PUT", "/cluster/members/n1", `{"weight":4294967296}`, "weight"},
		{"PUT", "/cluster/members/n1", `{"weight":-1}`, "weight"},
		// Bodies that are no object, or more than one, or too much.
		{"PUT", "/tenants/a", `[]`, "body"},
		{"PUT", "/tenants/a", `null`, "body"},
		{"PUT", "/tenants/a", `"a"`, "body"},
		{"PUT", "/tenants/a", `{`, "body"},
		{"PUT", "/tenants/a", `{"state":`, "state"},
		{"PUT", "/tenants/a", `{"state":"active"}}`, "body"},
		{"PUT", "/tenants/a", `{} {}`, "body"},
		{"PUT", "/tenants/a", `{"state":"active"} // so`, "body"},
		{"PUT", "/tenants/a", deep, "limits.limits"},
		{"PUT", "/tenants/a", `{"state":"` + strings.Repeat("x", 10<<20) + `"}`, "body"},
		{"PUT", "/settings", strings.Repeat(" ", 10<<20), "body"},
		{"POST", "/rings/default/plan", `{"add":["` + strings.Repeat("x", 10<<20) + `"]}`, "body"},
		// Names.
		{"PUT", "/tenants/a%2Fb", `{}`, "id"},
		{"PUT", "/tenants/..", `{}`, "path"},
		{"PUT", "/tenants/%2E%2E", `{}`, "path"},
		{"DELETE", "/tenants/.", ``, "path"},
		{"PUT", "/tenants/a%2F..%2Fb", `{}`, "path"},
		{"PUT", "/tenants//", `{}`, "path"},
		{"PUT", "/tenants/.a", `{}`, "id"},
		{"PUT", "/tenants/a%00b", `{}`, "id"},
		{"PUT", "/tenants/a%0Ab", `{}`, "id"},
		{"PUT", "/tenants/a%20b", `{}`, "id"},
		{"PUT", "/tenants/%C3%A4", `{}`, "id"},
		{"PUT", "/tenants/" + long, `{}`, "id"},
		{"DELETE", "/tenants/" + long, ``, "id"},
		{"GET", "/tenants/" + long, ``, "id"},
		{"POST", "/tenants/a%2Fb/tokens", `{}`, "tenant"},
		{"PUT", "/tenants/a", `{"id":"b"}`, "id"},
		{"PUT", "/rings/" + long, ring(`"slots":8`), "name"},
		{"PUT", "/rings/a%2Fb", ring(`"slots":8`), "name"},
		{"PUT", "/rings/a%07", ring(`"slots":8`), "name"},
		{"DELETE", "/rings/" + long, ``, "name"},
		{"PUT", "/cluster/members/" + long, `{"weight":1}`, "name"},
		{"PUT", "/cluster/members/n1", `{"zone":"a\u0000b"}`, "zone"},
		{"PUT", "/settings", `{"default_tenant":"a/b"}`, "default_tenant"},
		// Rings.
		{"PUT", "/rings/r", `{"tenants":["[a"],"replication_factor":1}`, "tenants"},
		{"PUT", "/rings/r", `{"tenants":["a-[z-"],"replication_factor":1}`, "tenants"},
		{"PUT", "/rings/r", `{"tenants":["a\\"],"replication_factor":1}`, "tenants"},
		{"PUT", "/rings/r", `{"tenants":[""],"replication_factor":1}`, "tenants"},
		{"PUT", "/rings/r", `{"tenants":["a/b*"],"replication_factor":1}`, "tenants"},
		{"PUT", "/rings/r", `{"tenants":["` + long + `*"],"replication_factor":1}`, "tenants"},
		{"PUT", "/rings/r", `{"tenants":["a","a"],"replication_factor":1}`, "tenants"},
		{"PUT", "/rings/r", `{"replication_factor":1}`, "tenants"}, // a second one that takes the rest
		{"PUT", "/rings/r", ring(`"nodes":["n9"]`), "nodes"},
		{"PUT", "/rings/r", ring(`"nodes":["n1","n1"]`), "nodes"},
		{"PUT", "/rings/r", `{"tenants":["x"],"replication_factor":2,"nodes":["n1"]}`, "nodes"},
		{"PUT", "/rings/r", `{"tenants":["x"],"replication_factor":0}`, "replication_factor"},
		{"PUT", "/rings/r", `{"tenants":["x"],"replication_factor":-1}`, "replication_factor"},
		{"PUT", "/rings/r", ring(`"slots":12`), "slots"},
		{"PUT", "/rings/r", ring(`"write_quorum":"some"`), "write_quorum"},
		{"PUT", "/rings/default", `{"replication_factor":1,"slots":128}`, "slots"},
		{"POST", "/rings/default/plan", `{"weight":{"n9":1}}`, "weight"},
		{"POST", "/rings/default/plan", `{"weight":{"n1":1,"n1":2}}`, "weight.n1"},
		{"POST", "/rings/default/plan", `{"remove":["n1"]}`, "remove"},
		// Queries and headers.
		{"GET", "/tenants?limit=0", ``, "limit"},
		{"GET", "/tenants?limit=1001", ``, "limit"},
		{"GET", "/tenants?limit=many", ``, "limit"},
		{"GET", "/tenants?after=a%2Fb", ``, "after"},
		{"GET", "/tenants?after=" + long, ``, "after"},
		{"GET", "/cluster/events?since=yesterday", ``, "since"},
		{"GET", "/settings?consistency=strong", ``, "consistency"},
		{"PUT", "/tenants/b?dry_run=perhaps", `{}`, "dry_run"},
		{"PUT", "/tenants/b?dryrun=true", `{}`, "dryrun"},
		{"PUT", "/tenants/b?timeout=0", `{}`, "timeout"},
		{"PUT", "/tenants/b?timeout=1h", `{}`, "timeout"},
		{"PUT", "/tenants/b?timeout=soon", `{}`, "timeout"},
		{"DELETE", "/cluster/members/n1?force=perhaps", ``, "force"},
	} {
		r := ask(t, b.socket, "http://muster/api/v1"+c.path, c.method, c.body)
		var e refused
		if r.code != http.StatusBadRequest {
			t.Errorf("%s %s %.80s: %d %.200s", c.method, c.path, c.body, r.code, r.text)
			continue
		}
		if r.as(&e); e.Field != c.field || e.Error == "" || len(e.Error) > 700 {
			t.Errorf("%s %s %.80s: field %q, want %q: %.800s", c.method, c.path, c.body, e.Field, c.field, e.Error)
		}
	}
	for header, value := range map[string]string{"If-Match": `"five"`, "If-None-Match": `"5"`, requestHeader: "twelve"} {
		b.refused("PUT", "/tenants/b", `{}`, 400, header, header, value)
	}
	if b.objects() != before {
		t.Error("something was changed")
	}
}

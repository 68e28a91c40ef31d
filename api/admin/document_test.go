package admin

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// document is the OpenAPI document as a test reads it.
type document struct {
	t    *testing.T
	root map[string]any
	done map[string]bool // operations that answered as they should
}

func newDocument(t *testing.T) *document {
	t.Helper()
	d := &document{t: t, done: map[string]bool{}}
	ok(t, json.Unmarshal(openAPI, &d.root))
	return d
}

// at goes down the document.
func (d *document) at(keys ...string) any {
	var v any = d.root
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

func (d *document) resolve(v any) map[string]any {
	m, _ := v.(map[string]any)
	if ref, ok := m["$ref"].(string); ok {
		m, _ = d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(map[string]any)
		if m == nil {
			d.t.Errorf("%s leads nowhere", ref)
		}
	}
	return m
}

// operations are all of them, by method and path below /api/v1.
func (d *document) operations() map[string]map[string]any {
	out := map[string]map[string]any{}
	paths, _ := d.at("paths").(map[string]any)
	for at, methods := range paths {
		for method, op := range methods.(map[string]any) {
			out[strings.ToUpper(method)+" "+at], _ = op.(map[string]any)
		}
	}
	return out
}

// TestTheDocumentHasEveryRoute and no other; each with its path's parameters,
// its role, a summary and what it answers.
func TestTheDocumentHasEveryRoute(t *testing.T) {
	d := newDocument(t)
	ops, routes := d.operations(), (&api{}).routes()
	if v := d.at("openapi"); v != "3.1.0" {
		t.Errorf("openapi %v", v)
	}
	for pattern := range routes {
		if ops[strings.Replace(pattern, " /api/v1", " ", 1)] == nil {
			t.Errorf("%s is served and not in openapi.json", pattern)
		}
	}
	for key, op := range ops {
		method, at, _ := strings.Cut(key, " ")
		if routes[method+" /api/v1"+at] == nil {
			t.Errorf("%s is in openapi.json and not served", key)
		}
		var inPath []string
		params, _ := op["parameters"].([]any)
		for _, p := range params {
			p := d.resolve(p)
			if p["in"] == "path" {
				inPath = append(inPath, fmt.Sprintf("{%v}", p["name"]))
			}
		}
		if want := regexp.MustCompile(`\{\w+\}`).FindAllString(at, -1); !slices.Equal(inPath, want) {
			t.Errorf("%s: parameters %v, want %v", key, inPath, want)
		}
		r, err := http.NewRequest(method, "https://muster/api/v1"+at, nil)
		ok(t, err)
		if op["summary"] == "" || op["description"] != "role: "+needs(r).String() {
			t.Errorf("%s: %v, %v; it needs %v", key, op["summary"], op["description"], needs(r))
		}
		if d.answer(op, "200") == nil && key != "GET /snapshot" || d.answer(op, "400") == nil {
			t.Errorf("%s: an answer has no schema", key)
		}
	}
}

// answer is the schema of an answer.
func (d *document) answer(op map[string]any, code string) map[string]any {
	responses, _ := op["responses"].(map[string]any)
	resp, found := responses[code].(map[string]any)
	if !found {
		resp, _ = responses["default"].(map[string]any)
	}
	content, _ := resp["content"].(map[string]any)
	media, _ := content["application/json"].(map[string]any)
	s, _ := media["schema"].(map[string]any)
	return s
}

// call asks, and holds what was sent and what came back against the document.
func (d *document) call(b *bed, method, pattern, at, body string, code int) reply {
	d.t.Helper()
	op := d.operations()[method+" "+pattern]
	if op == nil {
		d.t.Fatalf("%s %s is not in the document", method, pattern)
	}
	r := b.call(method, at, body, code)
	if body != "" && code == http.StatusOK {
		content, _ := op["requestBody"].(map[string]any)
		media := d.resolve(d.resolve(content["content"])["application/json"])
		d.fits("request of "+method+" "+pattern, media["schema"], []byte(body))
	}
	if r.header.Get("Content-Type") == "application/json" {
		d.fits("answer of "+method+" "+pattern, d.answer(op, fmt.Sprint(code)), []byte(r.text))
	}
	if code == http.StatusOK {
		d.done[method+" "+pattern] = true
	}
	return r
}

func (d *document) fits(what string, schema any, text []byte) {
	d.t.Helper()
	var v any
	ok(d.t, json.Unmarshal(text, &v))
	if err := d.check("", schema, v); err != "" {
		d.t.Errorf("%s: %s\n%s", what, err, text)
	}
}

// check holds a value against the part of JSON Schema that the document uses;
// "" where it fits.
func (d *document) check(at string, schema, v any) string {
	s := d.resolve(schema)
	if s == nil {
		return at + ": no schema"
	}
	if one, ok := s["oneOf"].([]any); ok {
		fit := 0
		for _, s := range one {
			if d.check(at, s, v) == "" {
				fit++
			}
		}
		if fit != 1 {
			return fmt.Sprintf("%s fits %d of %d schemas", at, fit, len(one))
		}
		return ""
	}
	kinds, ok := s["type"].([]any)
	if !ok && s["type"] != nil {
		kinds = []any{s["type"]}
	}
	if len(kinds) > 0 && !slices.ContainsFunc(kinds, func(k any) bool { return isA(k, v) }) {
		return fmt.Sprintf("%s: %v is no %v", at, v, kinds)
	}
	if allowed, ok := s["enum"].([]any); ok && !slices.Contains(allowed, v) {
		return fmt.Sprintf("%s: %v is none of %v", at, v, allowed)
	}
	if least, ok := s["minimum"].(float64); ok && v.(float64) < least {
		return fmt.Sprintf("%s: %v is below %v", at, v, least)
	}
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			if err := d.check(fmt.Sprintf("%s[%d]", at, i), s["items"], e); err != "" {
				return err
			}
		}
	case map[string]any:
		return d.checkObject(at, s, v)
	}
	return ""
}

func (d *document) checkObject(at string, s, v map[string]any) string {
	props, _ := s["properties"].(map[string]any)
	for key, value := range v {
		of, known := props[key]
		if !known {
			switch more := s["additionalProperties"].(type) {
			case map[string]any:
				of = more
			case bool:
				return fmt.Sprintf("%s.%s is not in the document", at, key)
			default:
				continue
			}
		}
		if err := d.check(at+"."+key, of, value); err != "" {
			return err
		}
	}
	required, _ := s["required"].([]any)
	for _, key := range required {
		if _, has := v[key.(string)]; !has {
			return fmt.Sprintf("%s.%s is missing", at, key)
		}
	}
	return ""
}

func isA(kind, v any) bool {
	switch v := v.(type) {
	case string:
		return kind == "string"
	case bool:
		return kind == "boolean"
	case float64:
		return kind == "number" || kind == "integer" && v == math.Trunc(v)
	case []any:
		return kind == "array"
	case map[string]any:
		return kind == "object"
	default:
		return false
	}
}

// TestTheDocumentIsTrue calls every operation on real nodes.
func TestTheDocumentIsTrue(t *testing.T) {
	d, b, other := newDocument(t), newNode(t, "n1"), newNode(t, "n2")
	post := func(b *bed, pattern, at, body string, code int) reply {
		t.Helper()
		return d.call(b, "POST", pattern, at, body, code)
	}
	get := func(pattern, at string) reply { t.Helper(); return d.call(b, "GET", pattern, at, "", 200) }
	put := func(pattern, at, body string) { t.Helper(); d.call(b, "PUT", pattern, at, body, 200) }
	del := func(pattern, at string) { t.Helper(); d.call(b, "DELETE", pattern, at, "", 200) }

	d.call(b, "GET", "/tenants", "/tenants", "", 503)
	post(b, "/cluster/init", "/cluster/init?dry_run=true", `{"name":"test"}`, 200)
	var made struct {
		ID         string   `json:"id"`
		JoinTokens []string `json:"join_tokens"`
	}
	post(b, "/cluster/init", "/cluster/init", `{"name":"test","replication_factor":2,"slots":64,"tenant_auth":"token","join_tokens":1}`, 200).as(&made)
	join := fmt.Sprintf(`{"token":%q,"address":%q}`, made.JoinTokens[0], b.door.Addr())
	post(other, "/cluster/join", "/cluster/join?dry_run=true", join, 200)
	if len(b.node.State().Members()) != 1 {
		t.Error("a dry run let the node in")
	}
	post(other, "/cluster/join", "/cluster/join", join, 200)

	put("/tenants/{id}", "/tenants/a", `{"state":"suspended","retention":"15d","out_of_order_window":0,"limits":{"active_series":5}}`)
	put("/tenants/{id}", "/tenants/a", get("/tenants/{id}", "/tenants/a").text)
	put("/tenants/{id}", "/tenants/b?dry_run=true", `{}`)
	put("/tenants/{id}", "/tenants/c", `{}`)
	get("/tenants", "/tenants?limit=1")
	post(b, "/tenants/{id}/tokens", "/tenants/a/tokens?dry_run=true", "", 200)
	post(b, "/tenants/{id}/tokens", "/tenants/a/tokens", `{"expires":"30d"}`, 200).as(&made)
	get("/tenants/{id}/tokens", "/tenants/a/tokens")
	del("/tenants/{id}/tokens/{tid}", "/tenants/a/tokens/"+made.ID)
	del("/tenants/{id}", "/tenants/a")
	d.call(b, "PUT", "/tenants/{id}", "/tenants/c", `{"retention":"-1d"}`, 400)
	d.call(b, "GET", "/tenants/{id}", "/tenants/nobody", "", 404)

	put("/rings/{name}", "/rings/hard", `{"tenants":["a","x-*"],"replication_factor":1,"write_quorum":"all","slots":8,"nodes":["n1"]}`)
	put("/rings/{name}", "/rings/hard", get("/rings/{name}", "/rings/hard").text)
	put("/tenants/{id}/ring", "/tenants/c/ring?dry_run=true", `{"ring":"hard","delete_emptied":true}`)
	put("/tenants/{id}/ring", "/tenants/c/ring", `{"ring":"hard"}`)
	if text := get("/tenants/{id}/ring", "/tenants/c/ring").text; !strings.Contains(text, `"claim":"c"`) || !strings.Contains(text, `"ring":"default"`) {
		t.Errorf("the tenant that has moved: %s", text)
	}
	d.call(b, "PUT", "/tenants/{id}/ring", "/tenants/c/ring", `{"ring":"nowhere"}`, 400)
	d.call(b, "PUT", "/tenants/{id}/ring", "/tenants/nobody/ring", `{"ring":"hard"}`, 404)
	post(b, "/rings", "/rings", `{"rings":[{"name":"pair","tenants":["p"],"replication_factor":1,"slots":8,"version":0}],"source":"a test"}`, 200)
	post(b, "/rings", "/rings", `{"rings":[{"name":"pair","version":1,"delete":true}]}`, 412)
	get("/rings", "/rings?consistency=local")
	get("/rings/{name}/slots", "/rings/hard/slots")
	post(b, "/rings/{name}/plan", "/rings/default/plan", `{"add":["n9"],"weight":{"n1":200}}`, 200)
	post(b, "/rings/{name}/rebalance", "/rings/hard/rebalance?dry_run=true", "", 200)
	post(b, "/rings/{name}/rebalance", "/rings/hard/rebalance", "", 200)
	del("/rings/{name}", "/rings/hard")
	del("/rings/{name}", "/rings/pair")

	put("/settings", "/settings", get("/settings", "/settings").text)
	post(b, "/tokens", "/tokens?dry_run=true", `{"role":"viewer"}`, 200)
	post(b, "/tokens", "/tokens", `{"role":"node","expires":"2h"}`, 200).as(&made)
	get("/tokens", "/tokens")
	del("/tokens/{id}", "/tokens/"+made.ID)

	d.certificates(b)
	put("/cluster/members/{name}", "/cluster/members/n2", `{"weight":150,"zone":"b"}`)
	get("/cluster/members", "/cluster/members")
	get("/cluster/status", "/cluster/status")
	get("/cluster/events", "/cluster/events?since=1h")
	get("/cluster/verify", "/cluster/verify")
	for _, at := range []string{"/cluster/leader", "/cluster/members/n2/drain"} {
		eventually(t, "n2 votes and holds its slots: "+at, func() bool {
			return ask(t, b.socket, "http://muster/api/v1"+at+"?dry_run=true", "POST", "").code == 200
		})
	}
	post(b, "/cluster/leader", "/cluster/leader?dry_run=true", `{}`, 200)
	post(b, "/cluster/members/{name}/drain", "/cluster/members/n2/drain", `{"reason":"a new kernel"}`, 200)
	get("/cluster/members/{name}", "/cluster/members/n2")
	get("/cluster/status", "/cluster/status")
	post(b, "/cluster/members/{name}/undrain", "/cluster/members/n2/undrain", "", 200)
	d.moves(b)
	del("/cluster/members/{name}", "/cluster/members/n2?dry_run=true")

	archive := get("/snapshot", "/snapshot")
	post(b, "/snapshot", "/snapshot?dry_run=true", "", 400)
	back := ask(t, b.socket, "http://muster/api/v1/snapshot?dry_run=true", "POST", archive.whole)
	d.fits("answer of POST /snapshot", d.answer(d.operations()["POST /snapshot"], "200"), []byte(back.text))
	d.done["POST /snapshot"] = back.code == 200
	get("/openapi.json", "/openapi.json")
	post(b, "/cluster/recover", "/cluster/recover?dry_run=true", "", 200)
	d.call(b, "POST", "/cluster/recover", "/cluster/recover", `{"as_sole_voter":true,"confirm":"prod"}`, 400)

	for key := range d.operations() {
		if !d.done[key] {
			t.Errorf("%s is not proven", key)
		}
	}
}

// moves looks at a ring whose slots are on their way, and wait.
func (d *document) moves(b *bed) {
	d.t.Helper()
	settings := b.call("GET", "/settings", "", 200).text
	d.call(b, "PUT", "/settings", "/settings", strings.Replace(settings, `"maintenance":false`, `"maintenance":true`, 1), 200)
	d.call(b, "PUT", "/rings/{name}", "/rings/default", `{"replication_factor":1}`, 200)
	eventually(d.t, "the slots of the ring are on their way", func() bool {
		text := d.call(b, "GET", "/rings/{name}/slots", "/rings/default/slots", "", 200).text
		return strings.Contains(text, `"move":{"state":"waiting","cause":"repair"`) && strings.Contains(text, `"since":`)
	})
	if text := d.call(b, "GET", "/cluster/status", "/cluster/status", "", 200).text; !strings.Contains(text, `"move":{"state":"waiting"`) {
		d.t.Errorf("status %s", text)
	}
	d.call(b, "POST", "/rings/{name}/rebalance", "/rings/default/rebalance?cancel=true", "", 409)
	d.call(b, "POST", "/rings/{name}/rebalance", "/rings/default/rebalance?cancel=perhaps", "", 400)
	b.call("PUT", "/settings", settings, 200)
}

// TestWhatTheDocumentDoesNotHaveIsRefused: what was mistyped is not left out.
func TestWhatTheDocumentDoesNotHaveIsRefused(t *testing.T) {
	b := newCluster(t)
	b.refused("PUT", "/tenants/a?dryrun=true", `{}`, 400, "dryrun")
	b.refused("PUT", "/tenants/a?dry_run=true&dry_run=false", `{}`, 400, "dry_run")
	b.refused("PUT", "/tenants/a?dry_run=%zz", `{}`, 400, "query")
	b.refused("GET", "/cluster/events?sincee=1h", "", 400, "sincee")
	b.refused("POST", "/cluster/leader", `{}`, 400, "If-Match", "If-Match", `"3"`)
	b.refused("POST", "/rings/default/rebalance", ``, 412, "version", "If-Match", `"999"`)
	if b.node.State().Tenant("a") != nil {
		t.Error("a tenant was created")
	}
	b.refused("GET", "/nothing", "", 404, "")
	r := b.call("PATCH", "/settings", "{}", 405)
	if allow := r.header.Get("Allow"); !strings.Contains(allow, "PUT") || !strings.Contains(r.text, `"error"`) {
		t.Errorf("Allow %q, %s", allow, r.text)
	}
	if len(documented()) < 20 {
		t.Errorf("the document has %d routes", len(documented()))
	}
}

package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// refused is what an error's answer says.
type refused struct {
	Error, Field, Node, Since, Next string
	Voters, Missing                 []string
	Current                         map[string]any
}

func (b *bed) refused(method, path, body string, code int, field string, header ...string) refused {
	b.t.Helper()
	var e refused
	b.call(method, path, body, code, header...).as(&e)
	if e.Error == "" || e.Field != field || e.Node != b.name {
		b.t.Errorf("%s %s %s: answer %+v, want field %q", method, path, body, e, field)
	}
	return e
}

func TestWithoutAClusterOnlyInitAndJoin(t *testing.T) {
	b := newNode(t, "n1")
	for _, path := range []string{"/cluster/status", "/cluster/members", "/tenants", "/rings", "/settings", "/tokens", "/cluster/status?consistency=local"} {
		if e := b.refused("GET", path, "", 503, ""); e.Next == "" || e.Voters != nil {
			t.Errorf("%s: %+v", path, e)
		}
	}
	b.refused("PUT", "/tenants/a", "{}", 503, "")
	b.refused("POST", "/tokens", `{"role":"viewer"}`, 503, "")
	b.refused("POST", "/cluster/join", `{}`, 400, "token")
	b.refused("POST", "/cluster/join", `{"token":"x"}`, 400, "address")
	b.refused("POST", "/cluster/join", `{"token":"x","address":"127.0.0.1:1"}`, 400, "token")
	b.refused("POST", "/cluster/init", `{"tenant_auth":"password"}`, 400, "tenant_auth")
	b.refused("POST", "/cluster/init", `{"replication_factor":9}`, 400, "replication_factor")
	b.refused("POST", "/cluster/init", `{"replicas":3}`, 400, "replicas")
	b.refused("POST", "/cluster/init", `{}`, 400, "If-Match", "If-Match", `"1"`)
	b.refused("POST", "/cluster/init?dry_run=true", `{"replication_factor":9}`, 400, "replication_factor")
	b.refused("POST", "/cluster/join?dry_run=true", `{"token":"x","address":"127.0.0.1:1"}`, 400, "token")
	b.call("POST", "/cluster/init?dry_run=true", `{"name":"prod"}`, 200)
	b.refused("GET", "/tenants", "", 503, "") // that was a dry run

	r := b.call("POST", "/cluster/init", `{"name":"prod","replication_factor":1,"tenant_auth":"header","tenant_label":"team","join_tokens":3}`, 200)
	if got := r.keys(); !slices.Equal(got, []string{"cluster", "id", "join_tokens", "node"}) {
		t.Errorf("fields %v", got)
	}
	var made struct {
		Cluster, ID, Node string
		JoinTokens        []string `json:"join_tokens"`
	}
	r.as(&made)
	if made.Cluster != "prod" || made.Node != "n1" || len(made.ID) != 32 || len(made.JoinTokens) != 3 {
		t.Errorf("answer %+v", made)
	}
	var s struct {
		TenantAuth   string `json:"tenant_auth"`
		TenantLabel  string `json:"tenant_label"`
		ReplicaLabel string `json:"replica_label"`
	}
	b.call("GET", "/settings", "", 200).as(&s)
	if s.TenantAuth != "header" || s.TenantLabel != "team" || s.ReplicaLabel != "receive_replica" {
		t.Errorf("settings %+v", s)
	}
	b.refused("POST", "/cluster/init", `{}`, 409, "")
}

func TestStatus(t *testing.T) {
	b := newCluster(t)
	var st statusObject
	r := b.call("GET", "/cluster/status", "", 200)
	r.as(&st)
	if got := r.keys(); !slices.Equal(got, []string{
		"cluster", "cluster_version", "failure_tolerance", "healthy", "leader", "local", "maintenance", "nodes", "raft", "revision", "rings", "spoken_version",
	}) {
		t.Errorf("fields %v", got)
	}
	if !st.Healthy || st.Cluster != "test" || st.Leader != "n1" || st.FailureTolerance != 0 || st.Revision == 0 {
		t.Errorf("status %+v", st)
	}
	if len(st.Rings) != 1 || st.Rings[0] != (ringStatus{"default", st.Rings[0].Revision, 1, 64, 0, 0, nil}) || st.Rings[0].Revision == 0 {
		t.Errorf("rings %+v", st.Rings)
	}
	n := st.Nodes[0]
	if n.Name != "n1" || n.State != "active" || n.Role != "leader" || n.Lag != 0 || n.Slots != 64 || n.Version != "1.2.3" || n.Zone != "z" || n.Address != b.door.Addr().String() {
		t.Errorf("node %+v", n)
	}
	local := b.call("GET", "/cluster/status?consistency=local", "", 200)
	if local.header.Get("Muster-Revision") == "" || local.header.Get("Muster-Last-Contact") != "0" {
		t.Errorf("headers %v", local.header)
	}
	b.refused("GET", "/cluster/status?consistency=strong", "", 400, "consistency")
	b.refused("GET", "/rings?consistency=strong", "", 400, "consistency")
}

func TestTenants(t *testing.T) {
	b := newCluster(t)
	b.refused("GET", "/tenants/a", "", 404, "")
	r := b.call("PUT", "/tenants/a", `{"retention":"15d","future_window":0,"limits":{"active_series":5,"exemplars":0}}`, 200)
	if got := r.keys(); !slices.Equal(got, []string{"applied", "pending", "revision"}) {
		t.Errorf("fields %v", got)
	}
	var out outcome
	r.as(&out)
	if !slices.Equal(out.Applied, []string{"n1"}) || !strings.Contains(r.text, `"pending":[]`) {
		t.Errorf("answer %s", r.text)
	}
	if want := fmt.Sprintf("%q", fmt.Sprint(out.Revision)); r.header.Get("ETag") != want {
		t.Errorf("ETag %s, want %s", r.header.Get("ETag"), want)
	}

	got := b.call("GET", "/tenants/a", "", 200)
	want := fmt.Sprintf(`{"id":"a","state":"active","retention":"15d","future_window":"0s","limits":{"active_series":5,"exemplars":0},"ring":"default","version":%d,"created":`, out.Revision)
	if !strings.HasPrefix(got.text, want) || !strings.Contains(got.text, `"created_by":"local"`) || !strings.Contains(got.text, `"changed_by":"local"}`) || got.header.Get("ETag") != r.header.Get("ETag") {
		t.Errorf("tenant %s\nwant %s", got.text, want)
	}
	b.call("PUT", "/tenants/a", got.text, 200) // what was read can be written

	for field, body := range map[string]string{
		"retention":                     `{"retention":"-1d"}`,
		"out_of_order_window":           `{"out_of_order_window":"soon"}`,
		"future_window":                 `{"future_window":true}`,
		"limits.active_series":          `{"limits":{"active_series":-1}}`,
		"limits.samples_per_second":     `{"limits":{"samples_per_second":"many"}}`,
		"limits.label_names_per_series": `{"limits":{"label_names_per_series":1.5}}`,
		"state":                         `{"state":"deleted"}`,
		"id":                            `{"id":"b"}`,
		"retentoin":                     `{"retentoin":"1d"}`,
		"limits.limit":                  `{"limits":{"limit":1}}`,
		"body":                          `{"state":"active"} {}`,
	} {
		b.refused("PUT", "/tenants/a", body, 400, field)
	}
	b.refused("PUT", "/tenants/a", `[]`, 400, "body")
	b.refused("PUT", "/tenants/a", `{`, 400, "body")
	b.refused("PUT", "/tenants/-a", `{}`, 400, "id")
	b.refused("PUT", "/tenants/a", strings.Repeat(" ", maxBody+1), 400, "body")

	b.call("PUT", "/tenants/a", `{"state":"suspended"}`, 200)
	var tenant tenantObject
	b.call("GET", "/tenants/a", "", 200).as(&tenant)
	if tenant.State != "suspended" || tenant.Retention != nil || tenant.Limits != nil {
		t.Errorf("a PUT replaces: %+v", tenant)
	}
	b.call("DELETE", "/tenants/a", "", 200)
	b.refused("DELETE", "/tenants/a", "", 404, "")
	b.call("PUT", "/tenants/a", "", 200) // the API may create it again, an empty body is enough
}

func TestVersions(t *testing.T) {
	b := newCluster(t)
	etag := b.call("PUT", "/tenants/a", `{}`, 200, "If-Match", `"0"`).header.Get("ETag")
	if e := b.refused("PUT", "/tenants/a", `{}`, 412, "version", "If-Match", "0"); e.Current["id"] != "a" {
		t.Errorf("current %v", e.Current)
	}
	b.refused("PUT", "/tenants/a", `{}`, 412, "version", "If-None-Match", "*")
	r := b.call("PUT", "/tenants/a", `{"retention":"1d"}`, 200, "If-Match", etag)
	stale := b.call("PUT", "/tenants/a", `{"retention":"2d"}`, 412, "If-Match", etag)
	var e refused
	stale.as(&e)
	if e.Current["retention"] != "1d" || stale.header.Get("ETag") != r.header.Get("ETag") {
		t.Errorf("current %v, ETag %s", e.Current, stale.header.Get("ETag"))
	}
	b.refused("DELETE", "/tenants/a", "", 412, "version", "If-Match", etag)
	b.refused("DELETE", "/tenants/none", "", 412, "version", "If-Match", etag)
	for _, match := range []string{"*", `W/"1"`, "one", "-1"} {
		b.refused("PUT", "/tenants/a", `{}`, 400, "If-Match", "If-Match", match)
	}
	b.refused("PUT", "/tenants/a", `{}`, 400, "If-None-Match", "If-None-Match", etag)
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/rings/default", `{"replication_factor":1}`},
		{"DELETE", "/rings/default", ""},
		{"PUT", "/settings", `{}`},
		{"PUT", "/cluster/members/n1", `{"weight":50}`},
		{"DELETE", "/cluster/members/n1", ""},
		{"POST", "/tenants/a/tokens", ""},
	} {
		if e := b.refused(c.method, c.path, c.body, 412, "version", "If-Match", "999999"); e.Current["version"] == nil {
			t.Errorf("%s: current %v", c.path, e.Current)
		}
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	b := newCluster(t)
	before := b.node.State().Revision()
	r := b.call("PUT", "/tenants/a?dry_run=true", `{}`, 200)
	if !strings.Contains(r.text, `"dry_run":true`) || r.header.Get("ETag") != "" {
		t.Errorf("answer %s %v", r.text, r.header)
	}
	if r := b.call("POST", "/tokens?dry_run=true", `{"role":"admin"}`, 200); strings.Contains(r.text, "MUSTER1") {
		t.Errorf("a token that nothing knows: %s", r.text)
	}
	b.refused("PUT", "/tenants/a?dry_run=true", `{"limits":{"exemplars":-1}}`, 400, "limits.exemplars")
	b.refused("PUT", "/tenants/a?dry_run=true", `{}`, 412, "version", "If-Match", "7")
	b.refused("PUT", "/tenants/a?dry_run=maybe", `{}`, 400, "dry_run")
	b.refused("GET", "/tenants/a", "", 404, "")
	if after := b.node.State().Revision(); after != before {
		t.Errorf("revision %d, was %d", after, before)
	}
}

func TestTenantPages(t *testing.T) {
	b := newCluster(t)
	for i := range 7 {
		b.call("PUT", fmt.Sprintf("/tenants/t%d", i), `{}`, 200)
	}
	var seen []string
	after, pages := "", 0
	for {
		var page struct {
			Tenants []tenantObject
			Next    string
		}
		b.call("GET", "/tenants?limit=3&after="+after, "", 200).as(&page)
		pages++
		for _, t := range page.Tenants {
			seen = append(seen, t.ID)
		}
		if page.Next == "" {
			break
		}
		after = page.Next
	}
	if got := strings.Join(seen, " "); got != "t0 t1 t2 t3 t4 t5 t6" || pages != 3 {
		t.Errorf("%s in %d pages", got, pages)
	}
	if r := b.call("GET", "/tenants?limit=7", "", 200); strings.Contains(r.text, "next") {
		t.Errorf("a page follows the last: %s", r.text)
	}
	if r := b.call("GET", "/tenants?after=t6", "", 200); r.text != `{"tenants":[]}` {
		t.Errorf("after the last: %s", r.text)
	}
	for _, limit := range []string{"0", "-1", "1001", "x"} {
		b.refused("GET", "/tenants?limit="+limit, "", 400, "limit")
	}
}

func TestTenantTokens(t *testing.T) {
	b := newCluster(t)
	b.refused("POST", "/tenants/a/tokens", "", 404, "")
	b.refused("GET", "/tenants/a/tokens", "", 404, "")
	b.call("PUT", "/tenants/a", `{}`, 200)
	var made struct{ ID, Tenant, Token string }
	r := b.call("POST", "/tenants/a/tokens", `{}`, 200)
	r.as(&made)
	if made.Tenant != "a" || !strings.HasPrefix(made.Token, "MUSTERT1."+made.ID+".") || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("answer %s", r.text)
	}
	b.refused("POST", "/tenants/a/tokens", `{"token":"mine"}`, 400, "token")
	list := b.call("GET", "/tenants/a/tokens", "", 200)
	if !strings.Contains(list.text, `"id":"`+made.ID+`"`) || strings.Contains(list.text, made.Token) {
		t.Errorf("list %s", list.text)
	}
	if text := b.call("GET", "/tenants/a", "", 200).text + b.call("GET", "/cluster/events", "", 200).text; strings.Contains(text, made.Token) {
		t.Error("the secret is shown again")
	}
	b.call("DELETE", "/tenants/a/tokens/"+made.ID, "", 200)
	b.refused("DELETE", "/tenants/a/tokens/"+made.ID, "", 404, "")
}

func TestRings(t *testing.T) {
	b := newCluster(t)
	got := b.call("GET", "/rings/default", "", 200)
	want := fmt.Sprintf(`{"name":"default","tenants":[],"replication_factor":1,"write_quorum":"majority","slots":64,"nodes":[],"version":%s,"created":"`, strings.Trim(got.header.Get("ETag"), `"`))
	if !strings.HasPrefix(got.text, want) || !strings.Contains(got.text, `"changed_by":"local"}`) {
		t.Errorf("ring %s", got.text)
	}
	b.call("PUT", "/rings/default", got.text, 200)
	b.call("PUT", "/rings/hard", `{"tenants":["a","b-*"],"replication_factor":1,"write_quorum":"all","slots":8,"nodes":["n1"]}`, 200)
	b.call("PUT", "/tenants/b-1", `{}`, 200)
	var tenant tenantObject
	b.call("GET", "/tenants/b-1", "", 200).as(&tenant)
	if tenant.Ring != "hard" {
		t.Errorf("ring %s", tenant.Ring)
	}
	var list struct{ Rings []ringObject }
	b.call("GET", "/rings", "", 200).as(&list)
	if len(list.Rings) != 2 || list.Rings[1].Name != "hard" || list.Rings[1].WriteQuorum != "all" {
		t.Errorf("rings %+v", list.Rings)
	}
	var slots slotsObject
	r := b.call("GET", "/rings/hard/slots", "", 200)
	r.as(&slots)
	if slots.Name != "hard" || len(slots.Slots) != 8 || slots.Moving != 0 || slots.Short != 0 || slots.Slots[7].Slot != 7 ||
		!slices.Equal(slots.Slots[7].Replicas, []string{"n1"}) || slots.Slots[7].Changed == 0 {
		t.Errorf("slots %s", r.text)
	}
	for field, body := range map[string]string{
		"nodes":              `{"nodes":["n1"],"replication_factor":2}`,
		"replication_factor": `{"replication_factor":6,"tenants":["c"]}`,
		"write_quorum":       `{"write_quorum":"most"}`,
		"slots":              `{"slots":16,"replication_factor":1,"tenants":["a"]}`,
		"tenants":            `{"replication_factor":1}`,
		"name":               `{"name":"soft"}`,
		"tenant":             `{"tenant":"a"}`,
	} {
		b.refused("PUT", "/rings/hard", body, 400, field)
	}
	b.refused("GET", "/rings/none/slots", "", 404, "")
	b.refused("POST", "/rings/none/rebalance", "", 404, "")
	var done outcome
	b.call("POST", "/rings/hard/rebalance", "", 200).as(&done)
	if !slices.Equal(done.Applied, []string{"n1"}) {
		t.Errorf("rebalanced: %+v", done)
	}
	b.call("DELETE", "/rings/hard", "", 200)
	b.refused("DELETE", "/rings/default", "", 409, "") // b-1 has nowhere to go
}

func TestPlanShowsAndMovesNothing(t *testing.T) {
	b := newCluster(t)
	b.call("PUT", "/rings/default", `{"replication_factor":1}`, 200)
	before := b.node.State().Revision()
	var p planObject
	b.call("POST", "/rings/default/plan", `{"add":["n2","n3"]}`, 200).as(&p)
	then := 0
	for _, n := range p.Nodes {
		then += n.Then
	}
	if p.Slots != 64 || len(p.Nodes) != 3 || then != 64 || p.Moves < 42 || p.Moves > 43 || p.Nodes[0].Now != 64 {
		t.Errorf("plan %+v", p)
	}
	b.call("POST", "/rings/default/plan", `{"add":["n2"],"weight":{"n2":300}}`, 200).as(&p)
	if p.Moves != 48 {
		t.Errorf("with three times the weight: %d moves", p.Moves)
	}
	b.call("POST", "/rings/default/plan", ``, 200).as(&p)
	if p.Moves != 0 {
		t.Errorf("a balanced ring moves %d", p.Moves)
	}
	b.call("POST", "/rings/default/plan", `{"add":["n2","n3","n4"],"zone":{"n2":"b","n3":"c","n4":"b"},"replication_factor":3}`, 200).as(&p)
	if p.Before.Nodes != 1 || p.Before.Two.Pairs != 0 || p.Steps != 132 || p.Rounds != 3 || p.MovedPercent != 68.75 || p.WriteQuorum != 2 {
		t.Errorf("with three replicas: %+v", p)
	}
	// n1 and n3 hold 60 of 64 slots each, at most 1.25 of their part: 56 of them both.
	if a := p.After; a.Nodes != 4 || a.Apart != 56 || len(a.Zones) != 3 || a.Zones[0] != (planZone{"b", 2, 72, 8}) || a.Two.Pairs != 6 || a.Two.Average != 50 || a.Two.Worst != 87.5 || !slices.Equal(a.Two.Names, []string{"n1", "n3"}) || a.ReplicaSets != 4 {
		t.Errorf("after that: %+v", a)
	}
	b.refused("POST", "/rings/default/plan", `{"zone":{"n9":"b"}}`, 400, "zone")
	b.refused("POST", "/rings/default/plan", `{"zone":{"n1":"a b"}}`, 400, "zone")
	b.refused("POST", "/rings/default/plan", `{"replication_factor":6}`, 400, "replication_factor")
	b.refused("POST", "/rings/default/plan", `{"remove":["n1"]}`, 400, "remove")
	b.refused("POST", "/rings/default/plan", `{"remove":["n9"]}`, 400, "remove")
	b.refused("POST", "/rings/default/plan", `{"add":["n1"]}`, 400, "add")
	b.refused("POST", "/rings/default/plan", `{"weight":{"n1":0}}`, 400, "weight")
	b.refused("POST", "/rings/none/plan", ``, 404, "")
	b.call("POST", "/rings/default/rebalance?dry_run=true", ``, 200).as(&p)
	if p.Slots != 64 || p.Moves != 0 {
		t.Errorf("dry run of a rebalance: %+v", p)
	}
	b.refused("POST", "/rings/none/rebalance?dry_run=true", ``, 404, "")
	b.refused("POST", "/rings/default/rebalance?dry_run=perhaps", ``, 400, "dry_run")
	if after := b.node.State().Revision(); after != before {
		t.Error("a plan changed the state")
	}
}

func TestSettings(t *testing.T) {
	b := newCluster(t)
	got := b.call("GET", "/settings", "", 200)
	want := `{"default_tenant":"default-tenant","tenant_label":"tenant_id","replica_label":"receive_replica","tenant_auth":"token",` +
		`"tenant_certificate_field":"","split_tenant_label":"","auto_create_tenants":true,"max_tenants":10000,` +
		`"tenant_defaults":{"retention":"15d","out_of_order_window":"2h","future_window":"10m","limits":{"label_names_per_series":64,` +
		`"label_name_length":1024,"label_value_length":4096,"exemplars":100000}},"dead_after":"30m","maintenance":false,"move_series_per_second":20000,"version":`
	if !strings.HasPrefix(got.text, want) {
		t.Errorf("settings %s\nwant %s", got.text, want)
	}
	b.call("PUT", "/settings", got.text, 200)
	b.call("PUT", "/settings", `{"tenant_auth":"header","auto_create_tenants":false,"tenant_defaults":{"retention":0},"dead_after":"1h"}`, 200)
	var s settingsObject
	b.call("GET", "/settings", "", 200).as(&s)
	if *s.TenantAuth != "header" || *s.AutoCreateTenants || *s.TenantDefaults.Retention != "0s" || *s.DeadAfter != "1h" || *s.MaxTenants != 10_000 || *s.TenantLabel != "tenant_id" {
		t.Errorf("settings %+v", s)
	}
	for field, body := range map[string]string{
		"tenant_auth":               `{"tenant_auth":"none"}`,
		"tenant_certificate_field":  `{"tenant_auth":"certificate"}`,
		"tenant_label":              `{"tenant_label":"other"}`,
		"replica_label":             `{"replica_label":"other"}`,
		"dead_after":                `{"dead_after":"never"}`,
		"max_tenants":               `{"max_tenants":0}`,
		"default_tenant":            `{"default_tenant":"a b"}`,
		"tenant_defaults.retention": `{"tenant_defaults":{"retention":"x"}}`,
		"auto_create_tenants":       `{"auto_create_tenants":"yes"}`,
		"maintenance":               `{"maintenance":"on"}`,
		"split_tenant_label":        `{"split_tenant_label":"__name__"}`,
		"colour":                    `{"colour":1}`,
	} {
		b.refused("PUT", "/settings", body, 400, field)
	}
}

func TestRelabellingRules(t *testing.T) {
	b := newCluster(t)
	const rules = `[{"source_labels":["__name__"],"regex":"go_.*","action":"drop"},{"regex":"pod","action":"labeldrop"},` +
		`{"source_labels":["a","b"],"separator":"","modulus":8,"target_label":"shard","action":"hashmod"},{"target_label":"x","replacement":""}]`
	b.call("PUT", "/tenants/a", `{"relabel":`+rules+`}`, 200)
	var got tenantObject
	reply := b.call("GET", "/tenants/a", "", 200)
	if reply.as(&got); !strings.Contains(reply.text, `"relabel":`+rules) || len(*got.Relabel) != 4 {
		t.Errorf("tenant %s", reply.text)
	}
	b.call("PUT", "/tenants/a", reply.text, 200)
	b.call("PUT", "/tenants/b", `{"relabel":[]}`, 200)
	if reply := b.call("GET", "/tenants/b", "", 200); !strings.Contains(reply.text, `"relabel":[]`) {
		t.Errorf("tenant %s", reply.text)
	}
	b.call("PUT", "/settings", `{"split_tenant_label":"team","tenant_defaults":{"relabel":[{"regex":"pod","action":"labeldrop"}]}}`, 200)
	for field, body := range map[string]string{
		"relabel[0].action":        `{"relabel":[{"action":"shout"}]}`,
		"relabel[1].regex":         `{"relabel":[{"target_label":"a"},{"target_label":"a","regex":"("}]}`,
		"relabel[0].source_labels": `{"relabel":[{"target_label":"a","source_labels":["\u0000",""]}]}`,
		"relabel[0]":               `{"relabel":[{"source_labels":["a"]}]}`, // replace wants a target
		"relabel":                  `{"relabel":"drop"}`,
		"relabel.colour":           `{"relabel":[{"colour":1}]}`,
		"relabel.regex":            `{"relabel":[{"regex":1}]}`,
	} {
		b.refused("PUT", "/tenants/c", body, 400, field)
	}
	b.refused("PUT", "/tenants/c", `{"relabel":[`+strings.Repeat(`{"target_label":"a"},`, 100)+`{"target_label":"a"}]}`, 400, "relabel")
	b.refused("PUT", "/tenants/c", `{"relabel":[{"target_label":"a","replacement":"`+strings.Repeat("x", 17<<10)+`"}]}`, 400, "relabel")
	b.refused("PUT", "/settings", `{"tenant_defaults":{"relabel":[{"modulus":1,"action":"hashmod"}]}}`, 400, "tenant_defaults.relabel[0]")

	var events struct{ Events []eventObject }
	b.call("GET", "/cluster/events", "", 200).as(&events)
	told := fmt.Sprint(events)
	for _, want := range []string{`drop source_labels="__name__" regex="go_.*"`, "{relabel  none}", "{split_tenant_label  team}"} {
		if !strings.Contains(told, want) {
			t.Errorf("no event tells %s: %s", want, told)
		}
	}
}

func TestMembersAndEvents(t *testing.T) {
	b := newCluster(t)
	b.call("PUT", "/cluster/members/n1", `{"weight":200,"zone":"b"}`, 200)
	b.call("PUT", "/cluster/members/n1", `{"weight":150}`, 200)
	var m memberObject
	b.call("GET", "/cluster/members/n1", "", 200).as(&m)
	if m.Weight != 150 || m.Zone != "b" || m.State != "active" || len(m.Store) != 32 {
		t.Errorf("member %+v", m)
	}
	var list struct{ Members []memberObject }
	b.call("GET", "/cluster/members", "", 200).as(&list)
	if len(list.Members) != 1 || list.Members[0] != m {
		t.Errorf("members %+v", list)
	}
	b.refused("PUT", "/cluster/members/n1", `{"weight":0}`, 400, "weight")
	b.refused("PUT", "/cluster/members/n1", `{"address":"x:1"}`, 400, "address")
	b.refused("PUT", "/cluster/members/n9", `{"weight":1}`, 404, "")
	b.refused("GET", "/cluster/members/n9", "", 404, "")
	b.refused("DELETE", "/cluster/members/n1?force=perhaps", "", 400, "force")
	b.refused("DELETE", "/cluster/members/n1?force=true", "", 409, "") // it is the last, and it answers

	var events struct{ Events []eventObject }
	b.call("GET", "/cluster/events", "", 200).as(&events)
	last := events.Events[len(events.Events)-1]
	if last.Action != "member changed" || last.Object != "n1" || last.Actor != "local" || last.Source != "unix socket" || last.Time == "" {
		t.Errorf("event %+v", last)
	}
	if want := []fieldChange{{"weight", "200", "150"}}; !slices.Equal(last.Changes, want) {
		t.Errorf("changes %+v, want %+v", last.Changes, want)
	}
	if events.Events[0].Action != "cluster created" {
		t.Errorf("first event %+v", events.Events[0])
	}
	for _, since := range []string{"1h", "7d", "2020-01-01T00:00:00Z"} {
		b.call("GET", "/cluster/events?since="+since, "", 200).as(&events)
		if len(events.Events) < 3 {
			t.Errorf("since %s: %d events", since, len(events.Events))
		}
	}
	if r := b.call("GET", "/cluster/events?since=2100-01-01T00:00:00Z", "", 200); r.text != `{"events":[]}` {
		t.Errorf("events of the future: %s", r.text)
	}
	b.refused("GET", "/cluster/events?since=yesterday", "", 400, "since")
}

func TestTokens(t *testing.T) {
	b := newCluster(t)
	var made struct{ ID, Role, Token, Expires string }
	b.call("POST", "/tokens", `{"role":"node"}`, 200).as(&made)
	if made.Role != "node" || made.Expires == "" || !strings.HasPrefix(made.Token, "MUSTER1.") {
		t.Errorf("node token %+v", made)
	}
	r := b.call("POST", "/tokens", `{"role":"viewer"}`, 200)
	r.as(&made)
	if !strings.Contains(r.text, `"expires":""`) {
		t.Errorf("a person's token expires never: %s", r.text)
	}
	b.call("POST", "/tokens", `{"role":"operator","expires":"30d"}`, 200)
	b.refused("POST", "/tokens", `{"role":"root"}`, 400, "role")
	b.refused("POST", "/tokens", `{}`, 400, "role")
	b.refused("POST", "/tokens", `{"role":"viewer","expires":"x"}`, 400, "expires")
	list := b.call("GET", "/tokens", "", 200)
	if !strings.Contains(list.text, `"id":"`+made.ID+`"`) || strings.Contains(list.text, made.Token) || strings.Contains(list.text, "hash") {
		t.Errorf("list %s", list.text)
	}
	b.call("DELETE", "/tokens/"+made.ID, "", 200)
	b.refused("DELETE", "/tokens/"+made.ID, "", 404, "")
}

func TestUnknownRoutesAndMethods(t *testing.T) {
	b := newCluster(t)
	for path, code := range map[string]int{"/nothing": 404, "/cluster/verify": 405, "/settings": 405} {
		if r := ask(t, b.socket, "http://muster/api/v1"+path, http.MethodPost, ""); r.code != code {
			t.Errorf("%s: %d", path, r.code)
		}
	}
}

package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// told is a difference as text, a line for each object and note.
func told(d *Difference) string {
	var out strings.Builder
	for _, o := range d.Objects {
		fmt.Fprintf(&out, "%s %s %s: %s\n", o.Change, o.Kind, o.Name, o.Detail)
	}
	for _, n := range d.Notes {
		fmt.Fprintf(&out, "note: %s\n", n)
	}
	return out.String()
}

// beforeRestore is a state that was archived, and what became of it since.
func beforeRestore(t testing.TB) (file *State, h *story) {
	h = created(t, 2, 3)
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a", "c-*"}, ReplicationFactor: 2, Nodes: []string{"n1", "n2"}, Slots: 4})
	h.do(&clusterpb.PutRing{Name: "soft", Tenants: []string{"b"}, ReplicationFactor: 1, Slots: 4})
	for _, id := range []string{"a", "b", "gone", "same"} {
		h.do(&clusterpb.PutTenant{Id: id, Spec: &clusterpb.TenantSpec{RetentionMs: ref(30 * day)}})
	}
	h.do(&clusterpb.CreateTenantToken{Tenant: "a", Token: &clusterpb.TenantToken{Id: "t1", Hash: hashOf("t1")}})
	h.do(&clusterpb.CreateTenantToken{Tenant: "gone", Token: &clusterpb.TenantToken{Id: "t2", Hash: hashOf("t2")}})
	h.do(&clusterpb.CreateToken{Token: &clusterpb.Token{Id: "alice", Role: clusterpb.TokenRole_ROLE_OPERATOR, Hash: hashOf("alice")}})
	h.do(&clusterpb.CreateToken{Token: &clusterpb.Token{Id: "bob", Role: clusterpb.TokenRole_ROLE_VIEWER, Hash: hashOf("bob"), ExpiresMs: h.now + hour}})
	file = h.state

	h.do(&clusterpb.DeleteTenant{Id: "gone"})
	h.do(&clusterpb.PutTenant{Id: "a", State: clusterpb.TenantState_TENANT_SUSPENDED, Spec: &clusterpb.TenantSpec{RetentionMs: ref(day), Limits: &clusterpb.Limits{ActiveSeries: ref(int64(5))}}})
	h.do(&clusterpb.RevokeTenantToken{Tenant: "a", Id: "t1"})
	h.do(&clusterpb.CreateTenantToken{Tenant: "a", Token: &clusterpb.TenantToken{Id: "t3", Hash: hashOf("t3")}})
	h.do(&clusterpb.PutTenant{Id: "new"})
	// The two rings exchange what they claim: only together can they go back.
	h.do(&clusterpb.PutRing{Name: "soft", Tenants: []string{"d"}, ReplicationFactor: 1})
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"b"}, ReplicationFactor: 2, Nodes: []string{"n1", "n2"}})
	h.do(&clusterpb.PutRing{Name: "soft", Tenants: []string{"a", "c-*"}, ReplicationFactor: 1})
	h.do(&clusterpb.PutRing{Name: "later", Tenants: []string{"z"}, ReplicationFactor: 1, Slots: 2})
	h.do(&clusterpb.RevokeToken{Id: "alice"})
	h.do(&clusterpb.RevokeToken{Id: "bob"})
	s := DefaultSettings()
	s.MaxTenants, s.Maintenance = 7, true
	h.do(&clusterpb.PutSettings{Settings: s})
	return file, h
}

func TestADifferenceTellsWhatARestoreWouldDo(t *testing.T) {
	file, h := beforeRestore(t)
	const changed = `~ settings : max_tenants 7 -> 10000; maintenance true -> false
~ ring hard: tenants b -> a,c-*
~ ring soft: tenants a,c-* -> b
`
	const tenants = `~ tenant a: state suspended -> active; retention 1d -> 30d; limits.active_series 5 -> none; 1 tokens made since are revoked; 1 tokens revoked since are valid again
+ tenant gone: active, 1 tokens
`
	const tokens = `+ token alice: operator, it was revoked since and is valid again
`
	const back = "note: 1 tenants come back as new incarnations: their old samples are not back\n"
	want := changed + tenants + tokens +
		"note: 1 live rings are not in the snapshot and stay: later; --prune deletes them\n" + back +
		"note: 1 live tenants are not in the snapshot and stay: new; --prune deletes them, and their samples\n"
	if got := told(Compare(h.state, file, false, h.now+2*hour)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	want = changed + "- ring later: \n" + tenants + "- tenant new: its samples are deleted\n" + tokens + back
	if got := told(Compare(h.state, file, true, h.now+2*hour)); got != want {
		t.Errorf("pruned: got\n%swant\n%s", got, want)
	}
	if d := Compare(file, file, true, h.now); !d.Empty() {
		t.Errorf("a state differs from itself:\n%s", told(d))
	}
}

func TestARestoreMakesTheDifferenceAtOnce(t *testing.T) {
	for _, prune := range []bool{false, true} {
		file, h := beforeRestore(t)
		before := h.state
		h.do(Compare(h.state, file, prune, h.now).command(ArchiveHeader{Cluster: "test"}))
		if left := Compare(h.state, file, prune, h.now); !left.Empty() {
			t.Errorf("prune %v: still differs:\n%s", prune, told(left))
		}
		gone, was := h.state.Tenant("gone"), file.Tenant("gone")
		switch {
		case gone.GetIncarnation() <= was.GetIncarnation():
			t.Errorf("the deleted tenant is back as incarnation %d, it was %d", gone.GetIncarnation(), was.GetIncarnation())
		case h.state.TenantByToken(hashOf("t2")) != gone || h.state.TenantByToken(hashOf("t3")) != nil || h.state.TenantByToken(hashOf("t1")).GetId() != "a":
			t.Error("the tenants' tokens are not those of the file")
		case (h.state.Tenant("new") == nil) != prune || (h.state.Ring("later") == nil) != prune:
			t.Errorf("prune %v: tenant new %v, ring later %v", prune, h.state.Tenant("new"), h.state.Ring("later"))
		case h.state.Tenant("a").GetIncarnation() != file.Tenant("a").GetIncarnation():
			t.Error("a tenant that was there all the time is another one now")
		case h.state.Tenant("a").GetRoute().GetRing() != file.Ring("hard").Spec.GetId():
			t.Error("the tenant a goes by another ring")
		}
		for _, r := range h.state.Rings() {
			if r.Table != before.Ring(r.Spec.GetName()).Table {
				t.Errorf("ring %s has another table", r.Spec.GetName())
			}
		}
		if ev := h.state.Events(before.Revision()); len(ev) != 1 || ev[0].GetAction() != "state restored" {
			t.Errorf("events %v", ev)
		}
	}
}

func TestARestoreIsRefusedWhereSomethingChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]*clusterpb.Command{
		"tenant":   command(&clusterpb.PutTenant{Id: "a"}),
		"created":  command(&clusterpb.PutTenant{Id: "gone"}),
		"ring":     command(&clusterpb.PutRing{Name: "hard", Tenants: []string{"x"}, ReplicationFactor: 1}),
		"settings": command(&clusterpb.PutSettings{Settings: DefaultSettings()}),
	} {
		file, h := beforeRestore(t)
		restore := Compare(h.state, file, false, h.now).command(ArchiveHeader{})
		if name == "settings" {
			change.GetPutSettings().GetSettings().MaxTenants = 8
		}
		if res := h.send(change); res.Refusal != nil {
			t.Fatal(res.Refusal)
		}
		if r := h.refused(clusterpb.Refusal_CONFLICT_VERSION, "version", restore); !strings.Contains(r.GetMessage(), "compare again") {
			t.Errorf("%s: %s", name, r.GetMessage())
		}
	}
}

func TestARestoreThatCannotBeChangesNothing(t *testing.T) {
	file, h := beforeRestore(t)
	for field, spoil := range map[string]func(*clusterpb.RestoreState){
		"id":                 func(c *clusterpb.RestoreState) { c.Tenants[0].Id = "no/good" },
		"retention":          func(c *clusterpb.RestoreState) { c.Tenants[0].Spec.RetentionMs = ref(int64(-1)) },
		"hash":               func(c *clusterpb.RestoreState) { c.Tenants[0].Tokens[0].Hash = []byte("short") },
		"replication_factor": func(c *clusterpb.RestoreState) { c.Rings[0].Ring.ReplicationFactor = 9 },
		"nodes":              func(c *clusterpb.RestoreState) { c.Rings[0].Ring.Nodes = []string{"nobody"} },
		"tenants":            func(c *clusterpb.RestoreState) { c.Rings[0].Ring.Tenants = []string{"b"} },
		"max_tenants":        func(c *clusterpb.RestoreState) { c.Settings.MaxTenants = -1 },
		"role":               func(c *clusterpb.RestoreState) { c.Tokens[0].Role = 9 },
	} {
		c := copyOf(Compare(h.state, file, false, h.now).command(ArchiveHeader{}))
		spoil(c)
		h.refused(clusterpb.Refusal_INVALID, field, c)
	}
}

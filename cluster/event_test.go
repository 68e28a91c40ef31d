package cluster

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func changeTexts(ev *clusterpb.Event) string {
	var lines []string
	for _, c := range ev.GetChanges() {
		lines = append(lines, ChangeText(c))
	}
	return strings.Join(lines, "; ")
}

// as makes a change as somebody, who calls from somewhere.
func (h *story) as(actor, source string, change proto.Message) Result {
	h.t.Helper()
	cmd := command(proto.CloneOf(change))
	h.state.Place(cmd)
	cmd.Actor, cmd.Source = actor, source
	cmd.ExpectedVersion, h.expect = h.expect, nil
	return h.send(cmd)
}

func TestEventsSayWhatWasAndWhatIs(t *testing.T) {
	h := created(t, 1, 3)
	limits := func(n int64) *clusterpb.TenantSpec {
		return &clusterpb.TenantSpec{RetentionMs: ref(15 * day), Limits: &clusterpb.Limits{ActiveSeries: ref(n)}}
	}
	settings := DefaultSettings()
	settings.MaxTenants, settings.TenantDefaults.RetentionMs = 7, ref(30*day)
	for _, c := range []struct {
		change proto.Message
		says   string
	}{
		{&clusterpb.PutTenant{Id: "a", Spec: limits(5)}, "state=active; retention=15d; limits.active_series=5"},
		{&clusterpb.PutTenant{Id: "a", Spec: limits(9), State: clusterpb.TenantState_TENANT_SUSPENDED}, "state active -> suspended; limits.active_series 5 -> 9"},
		{&clusterpb.CreateTenantToken{Tenant: "a", Token: &clusterpb.TenantToken{Id: "t1", Hash: hashOf("t1")}}, "tokens=t1"},
		{&clusterpb.DeleteTenant{Id: "a"}, "state was suspended; retention was 15d; limits.active_series was 9; tokens was t1"},
		{
			&clusterpb.PutRing{Name: "hard", Tenants: []string{"a", "b-*"}, ReplicationFactor: 1, Slots: 8, Nodes: []string{"n2"}},
			"tenants=a,b-*; replication_factor=1; write_quorum=majority; nodes=n2",
		},
		{&clusterpb.PutRing{Name: "hard", Tenants: []string{"b-*"}, ReplicationFactor: 2, Nodes: []string{"n2", "n3"}}, "tenants a,b-* -> b-*; replication_factor 1 -> 2; nodes n2 -> n2,n3"},
		{&clusterpb.PutSettings{Settings: settings}, "max_tenants 10000 -> 7; tenant_defaults.retention 15d -> 30d"},
		{nodeToken("t", h.now+day), "role=node; expires=" + timeOf(h.now+day)},
		{&clusterpb.RevokeToken{Id: "t"}, "role was node; expires was " + timeOf(h.now+day)},
	} {
		if res := h.as("bob", "10.0.0.9:555", c.change); res.Refusal != nil {
			t.Fatalf("%v refused: %v", c.change, res.Refusal)
		}
		ev := h.state.Event(h.rev)
		if got := changeTexts(ev); got != c.says {
			t.Errorf("%T: the event says\n%q, want\n%q", c.change, got, c.says)
		}
		if ev.GetActor() != "bob" || ev.GetSource() != "10.0.0.9:555" || ev.GetTimeMs() != h.now {
			t.Errorf("%T: by %q from %q at %d", c.change, ev.GetActor(), ev.GetSource(), ev.GetTimeMs())
		}
	}
	raw := encoded(t, h.state)
	restored, err := ReadState(bytes.NewReader(raw))
	if err != nil || restored.eventBytes != h.state.eventBytes || h.state.eventBytes == 0 {
		t.Fatalf("%v; %d bytes of events after a restore, %d before", err, restored.eventBytes, h.state.eventBytes)
	}
}

func timeOf(ms int64) string {
	for _, f := range tokenFacts(&clusterpb.Token{ExpiresMs: ms}) {
		if f.field == "expires" {
			return f.value
		}
	}
	return ""
}

// TestEventsKnowNoSecret: whatever a hash is of, no event has it.
func TestEventsKnowNoSecret(t *testing.T) {
	h := created(t, 1, 2)
	h.do(&clusterpb.PutTenant{Id: "a"})
	h.do(&clusterpb.CreateTenantToken{Tenant: "a", Token: &clusterpb.TenantToken{Id: "t1", Hash: hashOf("secret")}})
	h.do(nodeToken("t", h.now+day))
	var secrets [][]byte
	for _, m := range h.state.Members() {
		secrets = append(secrets, m.GetKeyHash())
	}
	for _, tok := range h.state.Tokens() {
		secrets = append(secrets, tok.GetHash())
	}
	secrets = append(secrets, hashOf("secret"), h.state.Cluster().GetCaCertificates())
	for _, ev := range h.state.Events(0) {
		text := ev.String()
		for _, s := range secrets {
			if len(s) > 0 && (strings.Contains(text, string(s)) || strings.Contains(text, fmt.Sprintf("%x", s))) {
				t.Errorf("%s", text)
			}
		}
	}
}

func TestEventsAreBoundedInBytes(t *testing.T) {
	h := created(t, 1, 1)
	long := make([]string, 3000)
	for i := range long {
		long[i] = fmt.Sprintf("tenant-number-%d", i)
	}
	h.do(&clusterpb.PutRing{Name: "r", Tenants: long, ReplicationFactor: 1, Slots: 1})
	h.do(&clusterpb.PutRing{Name: "r", Tenants: append(long[1:], "new"), ReplicationFactor: 1})
	ev := h.state.Event(h.rev)
	if got := changeTexts(ev); got != "tenants -tenant-number-0 -> +new" {
		t.Fatalf("of a long list the event says %q", got)
	}
	if first := h.state.Event(h.rev - 1); first.SizeVT() > 2000 {
		t.Fatalf("an event of %d bytes", first.SizeVT())
	}
	e := &edit{next: *h.state, rev: h.rev, now: h.now, cmd: &clusterpb.Command{Actor: strings.Repeat("a", 1000)}, action: "tenant changed"}
	for range maxFieldChanges * 2 {
		e.differ("tenant", strings.Repeat("n", 500), []fact{{field: "f", value: strings.Repeat("b", 500)}}, []fact{{field: "f", value: strings.Repeat("c", 500)}})
	}
	for range 2000 {
		e.rev++
		e.record()
	}
	if e.next.eventBytes > maxEventBytes || e.next.events.Len() > 1000 {
		t.Fatalf("%d events of %d bytes are kept", e.next.events.Len(), e.next.eventBytes)
	}
	newest, _, ok := e.next.events.Root().Maximum()
	if !ok || !bytes.Equal(newest, numberKey(e.rev)) {
		t.Fatal("the newest event is gone")
	}
}

func TestObjectsKnowWhoChangedThem(t *testing.T) {
	h := created(t, 1, 2)
	h.as("local", LocalSource, &clusterpb.PutTenant{Id: "a"})
	born := h.now
	h.as("bob", "10.0.0.9:555", &clusterpb.PutTenant{Id: "a", State: clusterpb.TenantState_TENANT_SUSPENDED})
	if tn := h.state.Tenant("a"); tn.GetCreatedMs() != born || tn.GetCreatedBy() != "local" || tn.GetChangedMs() != h.now || tn.GetChangedBy() != "bob@10.0.0.9" {
		t.Fatalf("tenant %v", tn)
	}
	h.as("eve", "n2", &clusterpb.PutRing{Name: "r", Tenants: []string{"a"}, ReplicationFactor: 1, Slots: 4})
	if r := h.state.Ring("r").Spec; r.GetCreatedBy() != "eve@n2" || r.GetChangedMs() != h.now || r.GetCreatedMs() != h.now {
		t.Fatalf("ring %v", r)
	}
	if tn := h.state.Tenant("a"); tn.GetRoute().GetRing() != h.state.Ring("r").Spec.GetId() || tn.GetChangedBy() != "bob@10.0.0.9" {
		t.Fatalf("a tenant that was sent to another ring was changed by nobody: %v", tn)
	}
	h.as("ann", "", &clusterpb.PutSettings{Settings: DefaultSettings()})
	if s := h.state.Settings(); s.GetChangedBy() != "ann" || s.GetChangedMs() != h.now {
		t.Fatalf("settings %v", s)
	}
	h.as("ann", "", &clusterpb.UpdateMember{Name: "n2", Weight: ref(uint32(7))})
	if m := h.state.Member("n2"); m.GetChangedBy() != "ann" || m.GetChangedMs() != h.now {
		t.Fatalf("member %v", m)
	}
	restored, err := ReadState(bytes.NewReader(encoded(t, h.state)))
	if err != nil || !proto.Equal(restored.Ring("r").Spec, h.state.Ring("r").Spec) {
		t.Fatalf("%v: after a restore the ring is %v", err, restored.Ring("r"))
	}
}

func TestAConflictSaysWhoWasFaster(t *testing.T) {
	h := created(t, 1, 2)
	h.as("bob", "10.0.0.9:555", &clusterpb.PutTenant{Id: "a"})
	at := h.rev
	h.now += 11 * second
	for _, c := range []struct {
		version int64
		change  proto.Message
		says    string
	}{
		{1, &clusterpb.PutTenant{Id: "a"}, fmt.Sprintf("conflict: a is at version %d (changed 12s ago by bob@10.0.0.9)", at)},
		{0, &clusterpb.PutTenant{Id: "a"}, fmt.Sprintf("conflict: a exists already, at version %d (changed 13s ago by bob@10.0.0.9)", at)},
		{9, &clusterpb.DeleteTenant{Id: "b"}, "conflict: there is no tenant \"b\", version 9 was expected"},
		{9, &clusterpb.DeleteRing{Name: "b"}, "conflict: there is no ring \"b\", version 9 was expected"},
	} {
		if r := h.version(c.version).refused(clusterpb.Refusal_CONFLICT_VERSION, "version", c.change); r.GetMessage() != c.says {
			t.Errorf("%q, want\n%q", r.GetMessage(), c.says)
		}
	}
	if r := h.version(1).refused(clusterpb.Refusal_CONFLICT_VERSION, "version", &clusterpb.PutSettings{Settings: DefaultSettings()}); !strings.HasPrefix(r.GetMessage(), "conflict: the settings are at version ") {
		t.Errorf("%q", r.GetMessage())
	}
}

func TestARequestIDIsForOneRequest(t *testing.T) {
	h := created(t, 1, 1)
	put := func(id string, digest uint64) Result {
		cmd := command(&clusterpb.PutTenant{Id: id})
		cmd.RequestId, cmd.RequestDigest = []byte("0123456789abcdef"), digest
		return h.send(cmd)
	}
	made := put("a", 1)
	if again := put("a", 1); again.Refusal != nil || again.Version != made.Version || again.Revision != made.Revision {
		t.Fatalf("asked again: %+v, at first %+v", again, made)
	}
	if other := put("b", 2); other.Refusal.GetKind() != clusterpb.Refusal_INVALID || other.Refusal.GetField() != "Muster-Request-Id" || h.state.Tenant("b") != nil {
		t.Fatalf("another request with the same id: %+v", other)
	}
}

// TestChangesAreLogged is what an operator finds in the leader's log.
func TestChangesAreLogged(t *testing.T) {
	h := created(t, 1, 1)
	h.as("bob", "10.0.0.9:555", &clusterpb.PutTenant{Id: "a", Spec: &clusterpb.TenantSpec{RetentionMs: ref(30 * day)}})
	var out strings.Builder
	ev := h.state.Event(h.rev)
	slog.New(slog.NewTextHandler(&out, nil)).Info(ev.GetAction(), eventAttrs(ev)...)
	want := fmt.Sprintf(`level=INFO msg="tenant created" object=a actor=bob source=10.0.0.9:555 revision=%d changes="state=active; retention=30d"`, h.rev)
	if !strings.Contains(out.String(), want) {
		t.Fatalf("%q, want %q in it", out.String(), want)
	}
}

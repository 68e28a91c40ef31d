package cluster

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func TestNothingButInitBeforeThereIsACluster(t *testing.T) {
	h := begin(t)
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.PutTenant{Id: "a"})
	h.refused(clusterpb.Refusal_NOT_FOUND, "", joining("n1", "n1/a", false))
	if h.state.Cluster() != nil || h.state.Settings() != nil || h.state.RouteOf("a") != nil {
		t.Fatal("a refused command made something")
	}
}

func TestInitMakesAClusterThatServes(t *testing.T) {
	h := begin(t)
	c := initCluster("n1", 3)
	c.Tokens = []*clusterpb.Token{nodeToken("first", testTime+hour).GetToken()}
	h.do(c)
	m, r := h.state.Member("n1"), h.state.Ring(DefaultRing)
	switch {
	case h.state.Cluster().GetName() != "test" || h.state.Cluster().GetNextStore() != 2:
		t.Fatalf("cluster %v", h.state.Cluster())
	case m.GetState() != clusterpb.MemberState_ACTIVE || m.GetStore() != 1 || m.GetWeight() != 100 || m.GetActivated() != h.rev:
		t.Fatalf("member %v", m)
	case h.state.Settings().GetReplicaLabel() != "receive_replica" || !h.state.Settings().GetAutoCreateTenants():
		t.Fatalf("settings %v", h.state.Settings())
	case r.Short() != 8 || r.BelowQuorum() != 8 || r.Table.At(0).Replicas.At(0) != 1 || r.Table.At(0).Quorum != 2:
		t.Fatalf("slot %+v", r.Table.At(0))
	case h.state.Token("first") == nil || h.state.WidestWindow() != 2*hour+10*minute:
		t.Fatalf("token %v, widest window %d", h.state.Token("first"), h.state.WidestWindow())
	}
	h.refused(clusterpb.Refusal_EXISTS, "", c)
}

func TestInitRefusesWhatCannotBe(t *testing.T) {
	for field, spoil := range map[string]func(*clusterpb.InitCluster){
		"name":               func(c *clusterpb.InitCluster) { c.Name = "no good" },
		"id":                 func(c *clusterpb.InitCluster) { c.Id = "short" },
		"member":             func(c *clusterpb.InitCluster) { c.Member = nil },
		"store_id":           func(c *clusterpb.InitCluster) { c.StoreId = []byte{1} },
		"key_hash":           func(c *clusterpb.InitCluster) { c.Member.KeyHash = nil },
		"address":            func(c *clusterpb.InitCluster) { c.Member.Address = "nowhere" },
		"http_address":       func(c *clusterpb.InitCluster) { c.Member.HttpAddress = "h:0" },
		"zone":               func(c *clusterpb.InitCluster) { c.Member.Zone = "\n" },
		"weight":             func(c *clusterpb.InitCluster) { c.Member.Weight = 1 << 30 },
		"ca_certificates":    func(c *clusterpb.InitCluster) { c.CaCertificates = make([]byte, 1<<20) },
		"replication_factor": func(c *clusterpb.InitCluster) { c.ReplicationFactor = 6 },
		"slots":              func(c *clusterpb.InitCluster) { c.Slots = 100 },
		"expires":            func(c *clusterpb.InitCluster) { c.Tokens = []*clusterpb.Token{nodeToken("t", 1).GetToken()} },
		"replica_label":      func(c *clusterpb.InitCluster) { c.Settings = &clusterpb.Settings{ReplicaLabel: "tenant_id"} },
		"tenant_defaults.retention": func(c *clusterpb.InitCluster) {
			c.Settings = &clusterpb.Settings{TenantDefaults: &clusterpb.TenantSpec{RetentionMs: ref(int64(-1))}}
		},
	} {
		t.Run(field, func(t *testing.T) {
			c := initCluster("n1", 3)
			spoil(c)
			begin(t).refused(clusterpb.Refusal_INVALID, field, c)
		})
	}
}

func ref[T any](v T) *T { return &v }

func TestExpectedVersion(t *testing.T) {
	h := created(t, 1, 1)
	put := &clusterpb.PutTenant{Id: "a"}
	h.version(5).refused(clusterpb.Refusal_CONFLICT_VERSION, "version", put)
	v := h.version(0).do(put).Version
	if got := h.state.Tenant("a").GetVersion(); got != v || v != h.rev {
		t.Fatalf("version %d, answered %d at revision %d", got, v, h.rev)
	}
	h.version(0).refused(clusterpb.Refusal_CONFLICT_VERSION, "version", put)
	h.version(int64(v)+1).refused(clusterpb.Refusal_CONFLICT_VERSION, "version", &clusterpb.DeleteTenant{Id: "a"})
	h.version(-2).refused(clusterpb.Refusal_INVALID, "expected_version", put)
	h.version(-1).do(put)
	h.version(int64(h.rev)).do(&clusterpb.DeleteTenant{Id: "a"})
}

func TestARequestIsAppliedOnceAndAnsweredAgain(t *testing.T) {
	h := created(t, 1, 1)
	id := func(b byte) []byte { return bytes.Repeat([]byte{b}, requestIDLen) }
	ask := func(b byte, tenant string) Result {
		cmd := command(&clusterpb.PutTenant{Id: tenant})
		cmd.RequestId = id(b)
		cmd.ExpectedVersion = ref(int64(0))
		return h.send(cmd)
	}
	first := ask(1, "a")
	events := len(h.state.Events(0))
	again := ask(1, "a")
	if again.Refusal != nil || again.Version != first.Version || again.Revision != first.Revision {
		t.Fatalf("answered %+v, then %+v", first, again)
	}
	bad := ask(2, "not a tenant")
	badAgain := ask(2, "not a tenant")
	if bad.Refusal.GetField() != "id" || badAgain.Refusal.String() != bad.Refusal.String() {
		t.Fatalf("refused with %v, then with %v", bad.Refusal, badAgain.Refusal)
	}
	if n := len(h.state.Events(0)); n != events {
		t.Fatalf("%d events, %d after repetitions and refusals", events, n)
	}
	h.now += requestMemory
	h.do(&clusterpb.PutTenant{Id: "b"}) // forgets what is too old
	if res := ask(1, "a"); res.Refusal.GetKind() != clusterpb.Refusal_CONFLICT_VERSION {
		t.Fatalf("after ten minutes and a change the request is still answered from memory: %+v", res)
	}
	if n := h.state.requests.Len(); n != 1 {
		t.Fatalf("%d requests remembered", n)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	h := created(t, 1, 1)
	fill(h, maxRequests-10, maxEvents-10)
	s := h.state
	var id [requestIDLen]byte
	for i := range uint64(50) {
		h.rev++
		cmd := withTime(command(&clusterpb.PutTenant{Id: "a"}), h.now)
		copy(id[8:], numberKey(i+1))
		cmd.RequestId = id[:]
		s, _ = s.Apply(h.rev, cmd)
	}
	if n := s.requests.Len(); n != maxRequests {
		t.Errorf("%d requests", n)
	}
	ev := s.Events(0)
	if len(ev) != maxEvents || ev[len(ev)-1].GetRevision() != h.rev {
		t.Errorf("%d events", len(ev))
	}
	if got := s.Events(h.rev - 3); len(got) != 3 || got[0].GetRevision() != h.rev-2 {
		t.Errorf("the last three events are %v", got)
	}
	if len(s.Events(^uint64(0))) != 0 {
		t.Error("events after the end of time")
	}
	checkSound(t, s)
}

// fill gives the state a past of so many requests and events.
func fill(h *story, requests, events int) {
	s := *h.state
	byID, answered, told := s.requests.Txn(), s.answered.Txn(), s.events.Txn()
	for i := range max(requests, events) {
		h.rev++
		if i < requests {
			r := &clusterpb.Request{Id: append(numberKey(h.rev), make([]byte, 8)...), Revision: h.rev, TimeMs: h.now}
			byID.Insert(r.GetId(), r)
			answered.Insert(numberKey(h.rev), r)
			s.sum += sumOf(kindRequest, r)
		}
		if i < events {
			ev := &clusterpb.Event{Revision: h.rev, TimeMs: h.now}
			told.Insert(numberKey(h.rev), ev)
			s.sum += sumOf(kindEvent, ev)
		}
	}
	s.requests, s.answered, s.events = byID.CommitOnly(), answered.CommitOnly(), told.CommitOnly()
	s.revision = h.rev
	h.state = &s
}

func withTime(cmd *clusterpb.Command, ms int64) *clusterpb.Command {
	cmd.TimeMs = ms
	return cmd
}

func TestApplyRefusesAnOldRevisionAndACommandOfNothing(t *testing.T) {
	h := created(t, 1, 1)
	if s, res := h.state.Apply(h.rev, command(&clusterpb.PutTenant{Id: "a"})); s != h.state || res.Refusal == nil {
		t.Fatal("a revision was applied twice")
	}
	for _, cmd := range []*clusterpb.Command{nil, {}, {TimeMs: -1}, withTime(command(&clusterpb.PutTenant{Id: "a"}), -5)} {
		s, res := h.state.Apply(h.rev+1, cmd)
		if res.Refusal.GetKind() != clusterpb.Refusal_INVALID || s.Revision() != h.rev+1 {
			t.Fatalf("%v: answered %+v at %d", cmd, res, s.Revision())
		}
	}
}

func TestEventsTellWhoDidWhat(t *testing.T) {
	h := created(t, 1, 1)
	cmd := command(&clusterpb.PutTenant{Id: "a", Automatic: true})
	cmd.Actor, cmd.Source = strings.Repeat("é", 1000), "bad\xff"
	h.send(cmd)
	ev := h.state.Events(h.rev - 1)
	if len(ev) != 1 || ev[0].GetAction() != "tenant created" || ev[0].GetObject() != "a" || ev[0].GetSource() != "bad" || len(ev[0].GetActor()) != 256 {
		t.Fatalf("events %v", ev)
	}
}

func TestNames(t *testing.T) {
	for id, good := range map[string]bool{
		"a": true, "team-A.b_c:d@e=f+g": true, strings.Repeat("x", 128): true, "9": true,
		"": false, "-a": false, ".": false, "a b": false, "a/b": false, "é": false, strings.Repeat("x", 129): false, "a\n": false,
	} {
		if ValidTenantID(id) != good {
			t.Errorf("tenant id %q: valid is %v", id, !good)
		}
	}
	for name, good := range map[string]bool{
		"n1": true, "a.b-c_d": true, strings.Repeat("x", 63): true,
		"": false, "a:b": false, "-n": false, strings.Repeat("x", 64): false, "n1\n": false,
	} {
		if ValidName(name) != good {
			t.Errorf("name %q: valid is %v", name, !good)
		}
	}
	for addr, good := range map[string]bool{
		"10.0.0.1:1": true, "[::1]:65535": true, "host.example:19391": true,
		":80": false, "host": false, "host:0": false, "host:65536": false, "ho st:1": false, "host:http": false, "a/b:1": false,
	} {
		if (checkAddress("address", addr, true) == nil) != good {
			t.Errorf("address %q: valid is %v", addr, !good)
		}
	}
}

func TestPersistentValuesStayAsTheyWere(t *testing.T) {
	h := created(t, 2, 3)
	type moment struct {
		state *State
		bytes []byte
		hash  uint64
	}
	var past []moment
	for i := range 30 {
		past = append(past, moment{h.state, encoded(t, h.state), h.state.Hash()})
		h.do(&clusterpb.PutTenant{Id: fmt.Sprintf("t%d", i%7)})
		if i%5 == 4 {
			h.do(&clusterpb.DeleteTenant{Id: fmt.Sprintf("t%d", i%7)})
		}
	}
	for i, m := range past {
		if m.state.Hash() != m.hash || !bytes.Equal(encoded(t, m.state), m.bytes) {
			t.Fatalf("state %d changed after it was replaced", i)
		}
	}
	// Two futures of one past do not see each other.
	base := h.state
	a, _ := base.Apply(h.rev+1, withTime(command(&clusterpb.PutTenant{Id: "left"}), h.now))
	b, _ := base.Apply(h.rev+1, withTime(command(&clusterpb.PutTenant{Id: "right"}), h.now))
	if a.Tenant("right") != nil || b.Tenant("left") != nil || a.Hash() == b.Hash() {
		t.Fatal("two futures share their changes")
	}
	if got := a.Events(h.rev)[0].GetObject(); got != "left" {
		t.Fatalf("one future has the other's event: %s", got)
	}
}

package cluster

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// TestARestoredStateIsTheSame lets one state live through a history of
// commands, good and bad, and a second one through the same, which is written
// to a snapshot and read again now and then. They never differ.
func TestARestoredStateIsTheSame(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := EmptyState(), EmptyState()
		rev, now := uint64(0), testTime
		if rapid.IntRange(0, 9).Draw(rt, "begin") > 0 {
			for _, change := range []proto.Message{
				initCluster("n1", 2), nodeToken("join-n2", now+day), nodeToken("join-n3", now+day),
				joining("n2", "n2/a", false), &clusterpb.ActivateMember{Name: "n2"}, &clusterpb.PutTenant{Id: "a"},
			} {
				rev++
				a, _ = a.Apply(rev, withTime(command(change), now))
				b, _ = b.Apply(rev, withTime(command(change), now))
			}
		}
		for range rapid.IntRange(1, 60).Draw(rt, "commands") {
			rev += rapid.Uint64Range(1, 3).Draw(rt, "step")
			now += rapid.Int64Range(-1000, 3*hour).Draw(rt, "pause")
			cmd := withTime(command(anyChange(rt, a, now)), now)
			placeSomehow(rt, a, cmd)
			if id := rapid.IntRange(0, 40).Draw(rt, "request"); id > 30 {
				cmd.RequestId = bytes.Repeat([]byte{byte(id)}, requestIDLen)
			}
			if rapid.IntRange(0, 9).Draw(rt, "expects") == 9 {
				cmd.ExpectedVersion = ref(rapid.Int64Range(-1, int64(rev)).Draw(rt, "version"))
			}
			old, before := a, encoded(t, a)
			var ra, rb Result
			a, ra = a.Apply(rev, cmd)
			b, rb = b.Apply(rev, proto.CloneOf(cmd))
			if ra.Version != rb.Version || ra.Revision != rb.Revision || ra.Refusal.String() != rb.Refusal.String() {
				rt.Fatalf("%v: one answers %+v, the other %+v", cmd, ra, rb)
			}
			if a.Hash() != b.Hash() {
				rt.Fatalf("%v: the hashes differ\n%s\n%s", cmd, objects(a), objects(b))
			}
			if !bytes.Equal(before, encoded(t, old)) {
				rt.Fatalf("%v changed the state that it was applied to", cmd)
			}
			if rapid.IntRange(0, 5).Draw(rt, "restore") == 0 {
				restored, err := ReadState(bytes.NewReader(encoded(t, b)))
				if err != nil {
					rt.Fatalf("restore: %v", err)
				}
				b = restored
			}
			checkSound(t, a)
		}
		if !bytes.Equal(encoded(t, a), encoded(t, b)) {
			rt.Fatalf("the encodings differ\n%s\n%s", objects(a), objects(b))
		}
	})
}

// placeSomehow stamps a placement as a leader does, mostly.
func placeSomehow(rt *rapid.T, s *State, cmd *clusterpb.Command) {
	if cmd.GetPutRing() == nil {
		return
	}
	how := rapid.IntRange(0, 5).Draw(rt, "placed")
	if how > 0 {
		s.Place(cmd)
	}
	if placed := cmd.GetPutRing().GetPlacement(); how == 5 && len(placed) > 0 {
		step := rapid.SampledFrom(placed).Draw(rt, "spoiled")
		step.Slot = rapid.Uint32Range(0, 9).Draw(rt, "slot")
		step.Replicas = rapid.SliceOfN(rapid.Uint32Range(0, 5), 0, 4).Draw(rt, "replicas")
	}
}

// anyChange draws a command that has a fair chance to be accepted.
func anyChange(rt *rapid.T, s *State, now int64) proto.Message {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(rt, label) }
	node := func() string { return pick("node", "n1", "n2", "n3", "n4", "") }
	tenant := func() string { return pick("tenant", "a", "ab", "b-1", "b-2", "c", "-") }
	id := func() string { return pick("token", "t1", "t2", "t3", "join-n2", "join-n3") }
	name := func() string { return pick("ring", DefaultRing, "hard", "soft") }
	number := func(label string) *int64 {
		if v := rapid.Int64Range(-2, 100).Draw(rt, label); v >= -1 {
			return ref(v * minute)
		}
		return nil
	}
	spec := func() *clusterpb.TenantSpec {
		if rapid.Bool().Draw(rt, "spec") {
			return nil
		}
		return &clusterpb.TenantSpec{OutOfOrderWindowMs: number("ooo"), FutureWindowMs: number("future"), Limits: &clusterpb.Limits{Exemplars: number("exemplars")}}
	}
	switch rapid.IntRange(0, 32).Draw(rt, "change") {
	case 24:
		if rapid.Bool().Draw(rt, "rotate") {
			return &clusterpb.RotateCA{CaCertificates: []byte(pick("cas", "", "x", "y")), Again: rapid.Bool().Draw(rt, "again")}
		}
		return &clusterpb.RetireCA{Drop: rapid.Bool().Draw(rt, "drop"), CaCertificates: []byte("z")}
	case 25:
		return issue(serialOf(rapid.IntRange(0, 5).Draw(rt, "serial")), pick("bound", "", "a", "b-1"), now+rapid.Int64Range(-1, 5*hour).Draw(rt, "ends"))
	case 26:
		return &clusterpb.RevokeCertificate{Serial: serialOf(rapid.IntRange(0, 5).Draw(rt, "serial"))}
	case 0:
		return initCluster("n1", rapid.Uint32Range(0, 6).Draw(rt, "rf"))
	case 1, 2:
		n := pick("node", "n2", "n3", "n4")
		add := joining(n, n+pick("store", "/a", "/a", "/b", "/c"), rapid.Bool().Draw(rt, "replace"))
		if rapid.IntRange(0, 3).Draw(rt, "other token") == 0 {
			add.TokenId = id()
		}
		return add
	case 3, 4:
		return &clusterpb.ActivateMember{Name: node()}
	case 5:
		return &clusterpb.UpdateMember{Name: node(), Weight: ref(rapid.Uint32Range(0, 300).Draw(rt, "weight")), Zone: ref(pick("zone", "", "a", "?"))}
	case 6:
		return &clusterpb.RemoveMember{Name: node(), Force: rapid.Bool().Draw(rt, "force")}
	case 21, 22:
		return &clusterpb.DrainMember{Name: node(), Undo: rapid.Bool().Draw(rt, "undo"), Process: rapid.Uint64Range(0, 2).Draw(rt, "process")}
	case 28:
		of := rapid.Uint32Range(1, 5).Draw(rt, "store")
		return &clusterpb.SetCustodians{
			Store: of, Were: s.Store(storeOf(of)).GetCustodians(),
			Custodians: rapid.SliceOfN(rapid.Uint32Range(0, 5), 0, 3).Draw(rt, "custodians"),
		}
	case 29:
		return &clusterpb.EmptyStore{Store: rapid.Uint32Range(0, 5).Draw(rt, "store"), InBucket: rapid.Bool().Draw(rt, "in bucket")}
	case 27:
		if r := s.Ring(name()); r != nil {
			return &clusterpb.CloseRoutes{Ring: r.Spec.GetId(), Through: rapid.Uint64Range(0, s.Revision()).Draw(rt, "through")}
		}
		return &clusterpb.CloseRoutes{Ring: 1, Through: s.Revision()}
	case 23:
		return &clusterpb.BeginRemoval{Name: node(), Cancel: rapid.Bool().Draw(rt, "cancel"), BucketIsEnough: rapid.Bool().Draw(rt, "enough"), Reason: pick("reason", "", "old\xff", "disk")}
	case 7, 8:
		return nodeToken(id(), now+rapid.Int64Range(-1, 5*hour).Draw(rt, "life"))
	case 9:
		return &clusterpb.RevokeToken{Id: id()}
	case 10, 11:
		put := &clusterpb.PutRing{
			Name: name(), ReplicationFactor: sampled[uint32](rt, "rf", 1, 1, 2, 2, 3, 0), Slots: sampled[uint32](rt, "slots", 8, 8, 8, 0, 9),
			WriteQuorum: sampled[clusterpb.WriteQuorum](rt, "quorum", 0, 0, 1, 2, 3),
		}
		if put.Name != DefaultRing || rapid.IntRange(0, 3).Draw(rt, "claims") == 0 {
			put.Tenants = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "a*", "b-?", "b-1", "c", "*", "[c"}), 1, 3, rapid.ID).Draw(rt, "tenants")
		}
		if rapid.Bool().Draw(rt, "listed") {
			put.Nodes = rapid.SliceOfN(rapid.SampledFrom([]string{"n1", "n2", "n3"}), 1, 3).Draw(rt, "nodes")
		}
		return put
	case 12:
		if rapid.Bool().Draw(rt, "move") {
			return &clusterpb.MoveTenant{Tenant: tenant(), Ring: name(), DeleteEmptied: rapid.Bool().Draw(rt, "emptied")}
		}
		return &clusterpb.DeleteRing{Name: name()}
	case 31:
		return &clusterpb.RebalanceRing{Name: name(), Cancel: rapid.Bool().Draw(rt, "cancel")}
	case 32:
		r := s.Ring(name())
		if r == nil {
			return &clusterpb.EndMove{Ring: 1}
		}
		if begin := s.due(r); begin != nil && rapid.Bool().Draw(rt, "begin") {
			return begin
		}
		return &clusterpb.EndMove{Ring: r.Spec.GetId(), Asked: r.Spec.GetMove().GetAsked(), Followed: rapid.Uint64Range(0, s.Revision()+5).Draw(rt, "followed")}
	case 13, 14:
		if r := s.Ring(name()); r != nil {
			target := ring.Plan(r.Table, s.Eligible(r), r.RF())
			return moveOf(r, ring.NextSteps(r.Table, target, r.Quorum()))
		}
		return &clusterpb.MoveSlots{Ring: 1, Steps: []*clusterpb.SlotStep{nil}}
	case 15:
		c := &clusterpb.CloseEpochs{}
		for _, r := range s.AllRings() {
			c.Ring = r.Spec.GetId()
			for _, e := range r.Table.Open() {
				c.Epochs = append(c.Epochs, &clusterpb.EpochKey{Slot: uint32(e.Slot), To: e.To})
			}
			if len(c.Epochs) > 0 {
				break
			}
		}
		return c
	case 16:
		before := func(label string) int64 { return now - rapid.Int64Range(-1, 10*hour).Draw(rt, label) }
		return &clusterpb.Expire{EpochsBeforeMs: before("epochs"), TombstonesBeforeMs: before("tombstones"), TokensBeforeMs: before("tokens")}
	case 17, 18:
		return &clusterpb.PutTenant{Id: tenant(), State: clusterpb.TenantState(rapid.Int32Range(0, 2).Draw(rt, "state")), Spec: spec(), Automatic: rapid.Bool().Draw(rt, "automatic")}
	case 19:
		return &clusterpb.DeleteTenant{Id: tenant()}
	case 20:
		tok := id()
		if rapid.Bool().Draw(rt, "revoke") {
			return &clusterpb.RevokeTenantToken{Tenant: tenant(), Id: tok}
		}
		return &clusterpb.CreateTenantToken{Tenant: tenant(), Token: &clusterpb.TenantToken{Id: tok, Hash: hashOf(tok), ExpiresMs: sampled(rt, "ends", 0, 0, now+hour)}}
	default:
		set := DefaultSettings()
		set.MaxTenants = rapid.Int64Range(0, 6).Draw(rt, "most")
		set.AutoCreateTenants = rapid.Bool().Draw(rt, "create")
		set.TenantDefaults = spec()
		return &clusterpb.PutSettings{Settings: set}
	}
}

func sampled[T any](rt *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(rt, label)
}

// FuzzCommand hands arbitrary bytes to a node that takes them for a command.
func FuzzCommand(f *testing.F) {
	for _, change := range everyChange() {
		b, err := EncodeCommand(withTime(command(change), testTime+hour))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	h := created(f, 2, 3)
	h.do(&clusterpb.PutTenant{Id: "a"})
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a", "b*"}, ReplicationFactor: 1, Slots: 8})
	full := h.state
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd, err := ParseCommand(b)
		if err != nil {
			return
		}
		for _, s := range []*State{EmptyState(), full} {
			hash := s.Hash()
			next, res := s.Apply(s.Revision()+1, cmd)
			if res.Refusal != nil && res.Refusal.GetMessage() == "" {
				t.Fatal("refused without a word")
			}
			checkSound(t, next)
			restored, err := ReadState(bytes.NewReader(encoded(t, next)))
			if err != nil || restored.Hash() != next.Hash() || s.Hash() != hash {
				t.Fatalf("restore: %v", err)
			}
		}
	})
}

// everyChange is a command of each kind.
func everyChange() []proto.Message {
	return []proto.Message{
		initCluster("n1", 3),
		joining("n9", "n9/a", false),
		&clusterpb.ActivateMember{Name: "n1", Incarnation: 11},
		&clusterpb.UpdateMember{Name: "n1", Weight: ref(uint32(50)), Zone: ref("b"), Address: ref("h:1")},
		&clusterpb.RemoveMember{Name: "n3", Force: true},
		&clusterpb.DrainMember{Name: "n1", Reason: "disk", Process: 7},
		&clusterpb.BeginRemoval{Name: "n1", BucketIsEnough: true, Reason: "old"},
		&clusterpb.CloseRoutes{Ring: 11, Through: 20},
		&clusterpb.SetCustodians{Store: 1, Custodians: []uint32{2}},
		&clusterpb.EmptyStore{Store: 1, InBucket: true},
		nodeToken("node", testTime+day),
		&clusterpb.BindToken{Id: "join-n2", Name: "n2", KeyHash: hashOf("k")},
		&clusterpb.RevokeToken{Id: "join-n2"},
		&clusterpb.RotateCA{CaCertificates: []byte("new and old")},
		&clusterpb.RetireCA{Drop: true, CaCertificates: []byte("new")},
		issue(serialOf(1), "a", testTime+100*day),
		&clusterpb.RevokeCertificate{Serial: serialOf(1)},
		&clusterpb.PutRing{Name: "new", Tenants: []string{"c-*", "d"}, ReplicationFactor: 2, Nodes: []string{"n1", "n2"}, Slots: 16, Placement: []*clusterpb.SlotStep{{Slot: 15, Replicas: []uint32{2, 1}, Base: 1 << 20}}},
		&clusterpb.DeleteRing{Name: "hard"},
		&clusterpb.MoveSlots{Ring: 11, Steps: []*clusterpb.SlotStep{{Slot: 1, Replicas: []uint32{1, 2}, Quorum: 1, Base: 11}}},
		&clusterpb.CloseEpochs{Ring: 11, Epochs: []*clusterpb.EpochKey{{Slot: 1, To: 20}}},
		&clusterpb.Expire{EpochsBeforeMs: testTime, TombstonesBeforeMs: testTime, TokensBeforeMs: testTime},
		&clusterpb.PutTenant{Id: "b", Spec: &clusterpb.TenantSpec{RetentionMs: ref(day), Limits: &clusterpb.Limits{ActiveSeries: ref(int64(1))}}},
		&clusterpb.DeleteTenant{Id: "a"},
		&clusterpb.CreateTenantToken{Tenant: "a", Token: &clusterpb.TenantToken{Id: "t", Hash: hashOf("t")}},
		&clusterpb.RevokeTenantToken{Tenant: "a", Id: "t"},
		&clusterpb.PutSettings{Settings: DefaultSettings()},
		&clusterpb.RestoreState{Source: "daily", Tenants: []*clusterpb.RestoredTenant{{Id: "restored"}}},
		&clusterpb.RecoverCluster{Node: "n1", Known: 1},
		&clusterpb.RefoundCluster{Member: joining("n1", "n1/z", false).GetMember(), StoreId: joining("n1", "n1/z", false).GetStoreId(), CaCertificates: []byte("pem"), Known: 1},
		&clusterpb.CheckState{},
		&clusterpb.RaiseVersion{Version: 2},
		&clusterpb.RebalanceRing{Name: DefaultRing},
		&clusterpb.BeginMove{Ring: 11, Cause: clusterpb.MoveCause_MOVE_JOIN, Nodes: []string{"n4"}, By: "alice"},
		&clusterpb.EndMove{Ring: 11, Followed: 1 << 40},
		&clusterpb.MoveTenant{Tenant: "a", Ring: DefaultRing, DeleteEmptied: true},
		&clusterpb.PutRings{Source: "hashrings.json", Rings: []*clusterpb.RestoredRing{{Ring: &clusterpb.PutRing{Name: "imported", Tenants: []string{"i"}, ReplicationFactor: 1}}}},
	}
}

func TestEveryKindOfCommandIsKnown(t *testing.T) {
	kinds := (&clusterpb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("change").Fields()
	if n := len(everyChange()); n != kinds.Len() {
		t.Fatalf("%d kinds of commands, tested are %d", kinds.Len(), n)
	}
	h := created(t, 2, 3)
	for _, change := range everyChange() {
		b, err := EncodeCommand(command(change))
		if err != nil {
			t.Fatal(err)
		}
		cmd, err := ParseCommand(b)
		if err != nil || !proto.Equal(cmd, command(change)) {
			t.Fatalf("%T came back as %v: %v", change, cmd, err)
		}
		cmd.TimeMs = h.now
		if _, res := h.state.Apply(h.rev+1, cmd); res.Refusal != nil && res.Refusal.GetKind() == clusterpb.Refusal_INVALID {
			t.Errorf("%T: %v", change, res.Refusal)
		}
	}
	if _, err := ParseCommand(make([]byte, maxCommand+1)); err == nil {
		t.Error("a command without bounds was parsed")
	}
	big := command(&clusterpb.RevokeToken{Id: string(make([]byte, maxCommand))})
	if _, err := EncodeCommand(big); err == nil {
		t.Error("a command without bounds was encoded")
	}
	if _, err := ParseCommand([]byte{0xff}); err == nil {
		t.Error("half a command was parsed")
	}
}

package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// story is a state in a test, with the revision and clock that its leader
// would have. Every command that goes through it is checked: the old state
// must stay as it was and the new one must be sound.
type story struct {
	t     testing.TB
	state *State
	rev   uint64
	now   int64
	// next command's expected version, where set
	expect *int64
}

const testTime = int64(1_700_000_000_000)

func begin(t testing.TB) *story {
	return &story{t: t, state: EmptyState(), rev: 10, now: testTime}
}

// created is a cluster with a ring of 8 slots and the members n1 to n<nodes>,
// all active, whose slots have been spread over them.
func created(t testing.TB, rf uint32, nodes int) *story {
	t.Helper()
	h := begin(t)
	h.do(initCluster("n1", rf))
	for i := 2; i <= nodes; i++ {
		h.join(fmt.Sprintf("n%d", i))
	}
	h.spread(DefaultRing)
	return h
}

func (h *story) apply(change proto.Message) Result {
	h.t.Helper()
	cmd := command(proto.CloneOf(change))
	h.state.Place(cmd)
	cmd.ExpectedVersion, h.expect = h.expect, nil
	return h.send(cmd)
}

func (h *story) send(cmd *clusterpb.Command) Result {
	h.t.Helper()
	h.rev++
	h.now += 1000
	cmd.TimeMs = h.now
	old, before := h.state, encoded(h.t, h.state)
	next, res := old.Apply(h.rev, cmd)
	if !bytes.Equal(before, encoded(h.t, old)) {
		h.t.Fatalf("%v changed the state that it was applied to", cmd)
	}
	if next.Revision() != h.rev {
		h.t.Fatalf("revision %d after applying at %d", next.Revision(), h.rev)
	}
	checkSound(h.t, next)
	h.state = next
	return res
}

// do wants the change to be made.
func (h *story) do(change proto.Message) Result {
	h.t.Helper()
	res := h.apply(change)
	if res.Refusal != nil {
		h.t.Fatalf("%T refused: %v", change, res.Refusal)
	}
	return res
}

// refused wants the change to be refused so, and nothing to have changed.
func (h *story) refused(kind clusterpb.Refusal_Kind, field string, change proto.Message) *clusterpb.Refusal {
	h.t.Helper()
	before := objects(h.state)
	res := h.apply(change)
	if res.Refusal.GetKind() != kind || res.Refusal.GetField() != field {
		h.t.Fatalf("%v: answered %v, want %v for field %q", change, res.Refusal, kind, field)
	}
	if res.Refusal.GetMessage() == "" {
		h.t.Fatalf("%v: refused without a word", change)
	}
	if after := objects(h.state); after != before {
		h.t.Fatalf("%v: refused, but it changed\n%s\ninto\n%s", change, before, after)
	}
	return res.Refusal
}

func (h *story) version(v int64) *story {
	h.expect = &v
	return h
}

// join lets a node in with a token of its own and makes it active.
func (h *story) join(name string) {
	h.t.Helper()
	h.do(nodeToken("join-"+name, h.now+hour))
	h.do(joining(name, name+"/a", false))
	h.do(&clusterpb.ActivateMember{Name: name})
}

// spread moves the slots of the ring until they are where the planner wants
// them, closing each epoch as soon as it ends.
func (h *story) spread(name string) {
	h.t.Helper()
	for range 100 {
		r := h.state.Ring(name)
		target := ring.Plan(r.Table, h.state.Eligible(r), r.RF())
		h.closeAll(r)
		r = h.state.Ring(name)
		steps := ring.NextSteps(r.Table, target, r.Quorum())
		if len(steps) == 0 {
			return
		}
		h.do(moveOf(r, steps))
	}
	h.t.Fatalf("ring %s does not come to rest", name)
}

func (h *story) closeAll(r *Ring) {
	h.t.Helper()
	c := &clusterpb.CloseEpochs{Ring: r.Spec.GetId()}
	for _, e := range r.Table.Open() {
		c.Epochs = append(c.Epochs, &clusterpb.EpochKey{Slot: uint32(e.Slot), To: e.To})
	}
	h.do(c)
}

func moveOf(r *Ring, steps []ring.Step) *clusterpb.MoveSlots {
	m := &clusterpb.MoveSlots{Ring: r.Spec.GetId()}
	for _, s := range steps {
		step := &clusterpb.SlotStep{Slot: uint32(s.Slot), Quorum: uint32(s.Quorum), Base: s.Base}
		for k := range s.Replicas.Len() {
			step.Replicas = append(step.Replicas, uint32(s.Replicas.At(k)))
		}
		m.Steps = append(m.Steps, step)
	}
	return m
}

func initCluster(node string, rf uint32) *clusterpb.InitCluster {
	add := joining(node, node+"/a", false)
	return &clusterpb.InitCluster{
		Name: "test", Id: strings.Repeat("0f", 16), CaCertificates: []byte("pem"),
		Member: add.GetMember(), StoreId: add.GetStoreId(), ReplicationFactor: rf, Slots: 8,
	}
}

// joining is the join of a node whose key and store are made of names.
func joining(name, store string, replace bool) *clusterpb.AddMember {
	id := sha256.Sum256([]byte(store))
	return &clusterpb.AddMember{
		Member:  &clusterpb.Member{Name: name, Address: name + ":19391", Zone: "z" + name[len(name)-1:], KeyHash: hashOf("key of " + store)},
		StoreId: id[:storeIDLen], Replace: replace, TokenId: "join-" + name,
	}
}

func nodeToken(id string, expires int64) *clusterpb.CreateToken {
	return &clusterpb.CreateToken{Token: &clusterpb.Token{
		Id: id, Role: clusterpb.TokenRole_ROLE_NODE, Hash: hashOf("token " + id), ExpiresMs: expires,
	}}
}

func hashOf(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

// command wraps a change.
func command(change proto.Message) *clusterpb.Command {
	cmd := &clusterpb.Command{Actor: "alice", Source: "test"}
	switch c := change.(type) {
	case *clusterpb.InitCluster:
		cmd.Change = &clusterpb.Command_Init{Init: c}
	case *clusterpb.AddMember:
		cmd.Change = &clusterpb.Command_AddMember{AddMember: c}
	case *clusterpb.ActivateMember:
		cmd.Change = &clusterpb.Command_ActivateMember{ActivateMember: c}
	case *clusterpb.UpdateMember:
		cmd.Change = &clusterpb.Command_UpdateMember{UpdateMember: c}
	case *clusterpb.MoveTenant:
		cmd.Change = &clusterpb.Command_MoveTenant{MoveTenant: c}
	case *clusterpb.PutRings:
		cmd.Change = &clusterpb.Command_PutRings{PutRings: c}
	case *clusterpb.DrainMember:
		cmd.Change = &clusterpb.Command_DrainMember{DrainMember: c}
	case *clusterpb.CloseRoutes:
		cmd.Change = &clusterpb.Command_CloseRoutes{CloseRoutes: c}
	case *clusterpb.BeginRemoval:
		cmd.Change = &clusterpb.Command_BeginRemoval{BeginRemoval: c}
	case *clusterpb.RemoveMember:
		cmd.Change = &clusterpb.Command_RemoveMember{RemoveMember: c}
	case *clusterpb.CreateToken:
		cmd.Change = &clusterpb.Command_CreateToken{CreateToken: c}
	case *clusterpb.BindToken:
		cmd.Change = &clusterpb.Command_BindToken{BindToken: c}
	case *clusterpb.RevokeToken:
		cmd.Change = &clusterpb.Command_RevokeToken{RevokeToken: c}
	case *clusterpb.RotateCA:
		cmd.Change = &clusterpb.Command_RotateCa{RotateCa: c}
	case *clusterpb.RetireCA:
		cmd.Change = &clusterpb.Command_RetireCa{RetireCa: c}
	case *clusterpb.IssueCertificate:
		cmd.Change = &clusterpb.Command_IssueCertificate{IssueCertificate: c}
	case *clusterpb.RevokeCertificate:
		cmd.Change = &clusterpb.Command_RevokeCertificate{RevokeCertificate: c}
	case *clusterpb.PutRing:
		cmd.Change = &clusterpb.Command_PutRing{PutRing: c}
	case *clusterpb.DeleteRing:
		cmd.Change = &clusterpb.Command_DeleteRing{DeleteRing: c}
	case *clusterpb.MoveSlots:
		cmd.Change = &clusterpb.Command_MoveSlots{MoveSlots: c}
	case *clusterpb.RebalanceRing:
		cmd.Change = &clusterpb.Command_RebalanceRing{RebalanceRing: c}
	case *clusterpb.BeginMove:
		cmd.Change = &clusterpb.Command_BeginMove{BeginMove: c}
	case *clusterpb.EndMove:
		cmd.Change = &clusterpb.Command_EndMove{EndMove: c}
	case *clusterpb.CloseEpochs:
		cmd.Change = &clusterpb.Command_CloseEpochs{CloseEpochs: c}
	case *clusterpb.CheckState:
		cmd.Change = &clusterpb.Command_CheckState{CheckState: c}
	case *clusterpb.RaiseVersion:
		cmd.Change = &clusterpb.Command_RaiseVersion{RaiseVersion: c}
	case *clusterpb.Expire:
		cmd.Change = &clusterpb.Command_Expire{Expire: c}
	case *clusterpb.SetCustodians:
		cmd.Change = &clusterpb.Command_SetCustodians{SetCustodians: c}
	case *clusterpb.EmptyStore:
		cmd.Change = &clusterpb.Command_EmptyStore{EmptyStore: c}
	case *clusterpb.PutTenant:
		cmd.Change = &clusterpb.Command_PutTenant{PutTenant: c}
	case *clusterpb.DeleteTenant:
		cmd.Change = &clusterpb.Command_DeleteTenant{DeleteTenant: c}
	case *clusterpb.CreateTenantToken:
		cmd.Change = &clusterpb.Command_CreateTenantToken{CreateTenantToken: c}
	case *clusterpb.RevokeTenantToken:
		cmd.Change = &clusterpb.Command_RevokeTenantToken{RevokeTenantToken: c}
	case *clusterpb.PutSettings:
		cmd.Change = &clusterpb.Command_PutSettings{PutSettings: c}
	case *clusterpb.RestoreState:
		cmd.Change = &clusterpb.Command_RestoreState{RestoreState: c}
	case *clusterpb.RecoverCluster:
		cmd.Change = &clusterpb.Command_RecoverCluster{RecoverCluster: c}
	case *clusterpb.RefoundCluster:
		cmd.Change = &clusterpb.Command_RefoundCluster{RefoundCluster: c}
	default:
		panic(fmt.Sprintf("%T is no change", change))
	}
	return cmd
}

func encoded(t testing.TB, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d bytes of %d: %v", b.Len(), n, err)
	}
	return b.Bytes()
}

// objects is the state as text, a line each, without requests and revision.
func objects(s *State) string {
	var out strings.Builder
	s.records(func(r *clusterpb.Record) {
		if r.GetRequest() == nil {
			out.WriteString(dump(r))
		}
	})
	return out.String()
}

// dump is a record as a line of JSON. protojson varies its spaces on purpose;
// compacting takes them out.
func dump(r *clusterpb.Record) string {
	b, err := protojson.Marshal(r)
	if err != nil {
		return err.Error() + "\n"
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return err.Error() + "\n"
	}
	return out.String() + "\n"
}

// checkSound holds a state against everything that is derived from it.
func checkSound(t testing.TB, s *State) {
	t.Helper()
	var sum uint64
	s.records(func(r *clusterpb.Record) {
		if _, err := proto.Marshal(r); err != nil {
			t.Fatalf("a record that cannot be shown: %v", err)
		}
		sum += recordSum(r)
	})
	if sum != s.sum {
		t.Fatalf("the sum was kept as %x, the objects have %x", s.sum, sum)
	}
	for _, m := range s.Members() {
		out := m.GetState() == clusterpb.MemberState_DRAINING || m.GetState() == clusterpb.MemberState_REMOVING
		if d := m.GetDeparture(); (d != nil) != out || out && (d.GetRevision() == 0 || d.GetRevision() > m.GetVersion()) {
			t.Fatalf("%s is %v, and its departure %v", m.GetName(), m.GetState(), d)
		}
		if st := s.Store(storeOf(m.GetStore())); st.GetLost() != 0 || st.GetEmptied() != 0 && m.GetState() != clusterpb.MemberState_REMOVING {
			t.Fatalf("%s, %v, has store %v", m.GetName(), m.GetState(), st)
		}
	}
	for _, st := range s.Stores() {
		if d := s.Duties(storeOf(st.GetNumber())); st.GetEmptied() != 0 && d.Slots+d.Open > 0 {
			t.Fatalf("store %d is emptied and holds something: %+v", st.GetNumber(), d)
		}
		if len(st.GetCustody()) != len(st.GetCustodians()) {
			t.Fatalf("custodians without a revision: %v", st)
		}
		for _, c := range st.GetCustodians() {
			if c == st.GetNumber() || s.Store(storeOf(c)) == nil || s.Lost(storeOf(c)) {
				t.Fatalf("store %d is kept by store %d: %v", st.GetNumber(), c, s.Store(storeOf(c)))
			}
		}
	}
	tokens := 0
	s.WalkTenants("", func(tn *clusterpb.Tenant) bool {
		for _, tok := range tn.GetTokens() {
			tokens++
			if s.TenantByToken(tok.GetHash()) != tn {
				t.Fatalf("token %s does not lead to tenant %s", tok.GetId(), tn.GetId())
			}
		}
		if want := ringID(s.RouteOf(tn.GetId())); tn.GetRoute().GetRing() != want {
			t.Fatalf("tenant %s is routed to ring %d, claimed by %d", tn.GetId(), tn.GetRoute().GetRing(), want)
		}
		for _, r := range append(tn.GetPastRoutes(), tn.GetRoute()) {
			if r.GetRing() != 0 && s.RingByID(r.GetRing()) == nil {
				t.Fatalf("tenant %s went by ring %d, which is forgotten", tn.GetId(), r.GetRing())
			}
		}
		if w := s.TenantConfig(tn).window(); w > s.WidestWindow() {
			t.Fatalf("tenant %s has a window of %d, the widest is said to be %d", tn.GetId(), w, s.WidestWindow())
		}
		return true
	})
	s.WalkTombstones(func(ts *clusterpb.Tombstone) bool {
		tokens += len(ts.GetTokenHashes())
		return true
	})
	if tokens != s.tenantHashes.Len() {
		t.Fatalf("%d tenant tokens, %d of them indexed", tokens, s.tenantHashes.Len())
	}
	for _, tok := range s.Tokens() {
		if s.TokenByHash(tok.GetHash()) != tok {
			t.Fatalf("token %s is not found by its hash", tok.GetId())
		}
	}
	if s.tokens.Len() != s.tokenHashes.Len() || s.requests.Len() != s.answered.Len() {
		t.Fatal("an index has other entries than what it indexes")
	}
	for _, m := range s.Members() {
		if s.Lost(storeOf(m.GetStore())) || s.Holder(storeOf(m.GetStore())) != m {
			t.Fatalf("member %s has store %d, which is lost or another's", m.GetName(), m.GetStore())
		}
	}
	for _, r := range s.AllRings() {
		for i := range r.Table.Slots() {
			for _, st := range r.Table.At(i).Replicas.Append(nil) {
				if s.Store(st) == nil {
					t.Fatalf("ring %s slot %d is on store %d, which is unknown", r.Spec.GetName(), i, st)
				}
			}
		}
	}
}

func recordSum(r *clusterpb.Record) uint64 {
	switch of := r.GetOf().(type) {
	case *clusterpb.Record_Cluster:
		return sumOf(kindCluster, of.Cluster)
	case *clusterpb.Record_Settings:
		return sumOf(kindSettings, of.Settings)
	case *clusterpb.Record_Member:
		return sumOf(kindMember, of.Member)
	case *clusterpb.Record_Removed:
		return sumOf(kindRemoved, of.Removed)
	case *clusterpb.Record_Store:
		return sumOf(kindStore, of.Store)
	case *clusterpb.Record_Ring:
		return sumOf(kindRing, of.Ring)
	case *clusterpb.Record_Tenant:
		return sumOf(kindTenant, of.Tenant)
	case *clusterpb.Record_Tombstone:
		return sumOf(kindTombstone, of.Tombstone)
	case *clusterpb.Record_Token:
		return sumOf(kindToken, of.Token)
	case *clusterpb.Record_Event:
		return sumOf(kindEvent, of.Event)
	case *clusterpb.Record_Request:
		return sumOf(kindRequest, of.Request)
	default:
		return 0
	}
}

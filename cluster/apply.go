package cluster

import (
	"cmp"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// maxTime bounds the leader's clock, Unix milliseconds: the year 9999.
const maxTime = 253_402_300_799_999

// Apply carries the command out at revision rev: it answers with the state
// after it and leaves s as it is. It looks at nothing but its arguments, so
// that every node gets the same state. A refused command changes nothing, but
// its revision counts and its request id is remembered (see remember).
func (s *State) Apply(rev uint64, cmd *clusterpb.Command) (*State, Result) {
	if rev <= s.revision {
		return s, Result{Revision: s.revision, Refusal: invalid("", "revision %d was applied already: the state is at %d", rev, s.revision)}
	}
	if known := s.request(cmd.GetRequestId()); known != nil {
		next := *s
		next.revision = rev
		return &next, resultOf(known, cmd)
	}
	e := &edit{next: *s, rev: rev, now: cmd.GetTimeMs(), cmd: cmd}
	version, refusal := e.carryOut()
	if refusal != nil {
		e.next, e.changed, version = *s, Keys{}, 0
	} else if e.action != "" {
		e.record()
	}
	e.remember(version, refusal)
	e.next.revision = rev
	return &e.next, Result{Version: version, Revision: rev, Refusal: refusal, Changed: e.changed, Check: cmd.GetCheckState() != nil}
}

// edit is the next state while a command is carried out. Its methods replace
// objects, never write to one that a state holds already.
type edit struct {
	next State
	rev  uint64
	now  int64
	cmd  *clusterpb.Command

	changed Keys
	// What the event says; no action: nothing happened.
	action, object, detail string
	changes                []objectChange
}

func (e *edit) carryOut() (uint64, *clusterpb.Refusal) {
	switch {
	case e.cmd == nil || e.cmd.GetChange() == nil:
		return 0, invalid("", "the command has no change that this version knows")
	case e.now < 0 || e.now > maxTime:
		return 0, invalid("time_ms", "the command's time %d is none", e.now)
	case e.cmd.ExpectedVersion != nil && e.cmd.GetExpectedVersion() < -1:
		return 0, invalid("expected_version", "expected version %d: want -1 for any, 0 for none, or a version", e.cmd.GetExpectedVersion())
	}
	if c, ok := e.cmd.GetChange().(*clusterpb.Command_Init); ok {
		return e.initCluster(c.Init)
	}
	if e.next.cluster == nil {
		return 0, notFound("there is no cluster yet: create one with `muster cluster init`, or join one")
	}
	switch c := e.cmd.GetChange().(type) {
	case *clusterpb.Command_AddMember:
		return e.addMember(c.AddMember)
	case *clusterpb.Command_ActivateMember:
		return e.activateMember(c.ActivateMember)
	case *clusterpb.Command_UpdateMember:
		return e.updateMember(c.UpdateMember)
	case *clusterpb.Command_RemoveMember:
		return e.removeMember(c.RemoveMember)
	case *clusterpb.Command_DrainMember:
		return e.drainMember(c.DrainMember)
	case *clusterpb.Command_BeginRemoval:
		return e.beginRemoval(c.BeginRemoval)
	case *clusterpb.Command_CreateToken:
		return e.createToken(c.CreateToken)
	case *clusterpb.Command_BindToken:
		return e.bindToken(c.BindToken)
	case *clusterpb.Command_RevokeToken:
		return e.revokeToken(c.RevokeToken)
	case *clusterpb.Command_RotateCa:
		return e.rotateCA(c.RotateCa)
	case *clusterpb.Command_RetireCa:
		return e.retireCA(c.RetireCa)
	case *clusterpb.Command_IssueCertificate:
		return e.issueCertificate(c.IssueCertificate)
	case *clusterpb.Command_RevokeCertificate:
		return e.revokeCertificate(c.RevokeCertificate)
	case *clusterpb.Command_PutRing:
		return e.putRing(c.PutRing)
	case *clusterpb.Command_PutRings:
		return e.putRings(c.PutRings)
	case *clusterpb.Command_MoveTenant:
		return e.moveTenant(c.MoveTenant)
	case *clusterpb.Command_DeleteRing:
		return e.deleteRing(c.DeleteRing)
	case *clusterpb.Command_MoveSlots:
		return e.moveSlots(c.MoveSlots)
	case *clusterpb.Command_RebalanceRing:
		return e.rebalanceRing(c.RebalanceRing)
	case *clusterpb.Command_BeginMove:
		return e.beginMove(c.BeginMove)
	case *clusterpb.Command_EndMove:
		return e.endMove(c.EndMove)
	case *clusterpb.Command_CloseEpochs:
		return e.closeEpochs(c.CloseEpochs)
	case *clusterpb.Command_CloseRoutes:
		return e.closeRoutes(c.CloseRoutes)
	case *clusterpb.Command_Expire:
		return e.expire(c.Expire)
	case *clusterpb.Command_SetCustodians:
		return e.setCustodians(c.SetCustodians)
	case *clusterpb.Command_EmptyStore:
		return e.emptyStore(c.EmptyStore)
	case *clusterpb.Command_PutTenant:
		return e.putTenant(c.PutTenant)
	case *clusterpb.Command_DeleteTenant:
		return e.deleteTenant(c.DeleteTenant)
	case *clusterpb.Command_CreateTenantToken:
		return e.createTenantToken(c.CreateTenantToken)
	case *clusterpb.Command_RevokeTenantToken:
		return e.revokeTenantToken(c.RevokeTenantToken)
	case *clusterpb.Command_PutSettings:
		return e.putSettings(c.PutSettings)
	case *clusterpb.Command_RestoreState:
		return e.restoreState(c.RestoreState)
	case *clusterpb.Command_RecoverCluster:
		return e.recoverCluster(c.RecoverCluster)
	case *clusterpb.Command_RefoundCluster:
		return e.refoundCluster(c.RefoundCluster)
	case *clusterpb.Command_CheckState:
		return 0, nil // the FSM notes the hash
	case *clusterpb.Command_RaiseVersion:
		return e.raiseVersion(c.RaiseVersion)
	default:
		return 0, invalid("", "the command's change %T is not known to this version", c)
	}
}

// expect compares the version that the asker saw with the object's, 0 where it
// does not exist.
func (e *edit) expect(what, name string, version uint64) *clusterpb.Refusal {
	want := e.cmd.GetExpectedVersion()
	if e.cmd.ExpectedVersion == nil || want == -1 || want >= 0 && uint64(want) == version {
		return nil
	}
	return e.conflict(what, name, version)
}

// note says what the event will.
func (e *edit) note(action, object, detail string) {
	e.action, e.object, e.detail = action, object, detail
}

// count adds the hash of an object that joins the state.
func count[M object](e *edit, k kind, m M) { e.next.sum += sumOf(k, m) }

// discount takes away the hash of an object that leaves it.
func discount[M object](e *edit, k kind, m M) { e.next.sum -= sumOf(k, m) }

// insert puts the object into a tree of the state.
func insert[M object](e *edit, t *iradix.Tree[M], key []byte, k kind, m M) *iradix.Tree[M] {
	next, old, had := t.Insert(key, m)
	if had {
		discount(e, k, old)
	}
	count(e, k, m)
	return next
}

// drop takes the object of that key out of a tree of the state.
func drop[M object](e *edit, t *iradix.Tree[M], key []byte, k kind) *iradix.Tree[M] {
	next, old, had := t.Delete(key)
	if had {
		discount(e, k, old)
	}
	return next
}

// copyOf is a copy of the object that may be written to.
func copyOf[M proto.Message](m M) M {
	c := proto.CloneOf(m)
	forgetUnknown(c.ProtoReflect())
	return c
}

// forgetUnknown drops the fields that this version does not know: an object
// of the state is made of known fields only.
func forgetUnknown(m protoreflect.Message) {
	if !m.IsValid() {
		return
	}
	m.SetUnknown(nil)
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Message() != nil && !fd.IsList() && !fd.IsMap() {
			forgetUnknown(v.Message())
		}
		return true
	})
}

// firstOf is the first refusal of several checks; nil where all passed.
func firstOf(checks ...*clusterpb.Refusal) *clusterpb.Refusal { return cmp.Or(checks...) }

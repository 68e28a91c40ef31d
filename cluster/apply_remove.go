package cluster

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// removeMember takes a member out, and with it its store: out of the node
// lists and, where force says that it is gone for good, out of the slots, all
// at one revision. Ended epochs keep the store, so that reads stay honest.
func (e *edit) removeMember(c *clusterpb.RemoveMember) (uint64, *clusterpb.Refusal) {
	m, r := e.member(c.GetName())
	if r != nil {
		return 0, r
	}
	if !c.GetForce() && m.GetState() != clusterpb.MemberState_REMOVING {
		return 0, unsafe("", "the removal of %s has not begun: its slots and its data have to leave it first", m.GetName())
	}
	if r := e.checkLeave(m, c.GetForce()); r != nil {
		return 0, r
	}
	if !c.GetForce() {
		if r := e.checkEmpty(m); r != nil {
			return 0, r
		}
	}
	slots := 0
	for _, old := range e.next.Rings() {
		n, r := e.leaveRing(old, m)
		if r != nil {
			return 0, r
		}
		slots += n
	}
	emptied := e.next.Store(storeOf(m.GetStore())).GetEmptied() != 0
	if !emptied {
		e.lose(m.GetStore())
	}
	e.dropMember(m, c.GetForce())
	e.changed.Members, e.changed.Rings = true, true
	detail := fmt.Sprintf("store %d left %d slots", m.GetStore(), slots)
	if emptied {
		detail = fmt.Sprintf("store %d is %s", m.GetStore(), e.next.Whereabouts(storeOf(m.GetStore())))
	} else if c.GetForce() {
		detail = fmt.Sprintf("by force: store %d is lost, with its part of %d slots", m.GetStore(), slots)
	}
	e.note("member removed", m.GetName(), detail)
	return 0, nil
}

func (e *edit) checkLeave(m *clusterpb.Member, force bool) *clusterpb.Refusal {
	others := 0
	for _, o := range e.next.members {
		if o != m && eligible(o) {
			others++
		}
	}
	if len(e.next.members) == 1 || eligible(m) && others == 0 {
		return unsafe("", "%s is the last node: stop it instead, its data stays in its directory", m.GetName())
	}
	for _, r := range e.next.Rings() {
		list := r.Spec.GetNodes()
		if len(list) == 1 && list[0] == m.GetName() {
			return unsafe("", "ring %s is on %s alone: give it other nodes first, `muster ring set %s --nodes ...`", r.Spec.GetName(), m.GetName(), r.Spec.GetName())
		}
		if force || !inList(r, m.GetName()) || !eligible(m) {
			continue
		}
		if n := len(e.next.Eligible(r)) - 1; n < r.RF() {
			return unsafe("", "ring %s would have %s for %s: lower its replication factor first, `muster ring set %s --replication-factor %d`, or, if %s is gone for good, use --force", r.Spec.GetName(), many(n, "node"), many(r.RF(), "replica"), r.Spec.GetName(), max(n, 1), m.GetName())
		}
	}
	return nil
}

// checkEmpty refuses to let a store go that holds slots, or history that reads
// may still ask for and that nobody else answers for.
func (e *edit) checkEmpty(m *clusterpb.Member) *clusterpb.Refusal {
	st := storeOf(m.GetStore())
	for _, r := range e.next.AllRings() {
		if n := r.Table.Held()[st]; n > 0 {
			return unsafe("", "%s holds %d slots of ring %s still", m.GetName(), n, r.Spec.GetName())
		}
		if e.next.Store(st).GetEmptied() != 0 {
			continue
		}
		for _, ep := range r.Table.Past() {
			if ep.Replicas.Has(st) {
				return unsafe("", "%s held slots of ring %s until revision %d, reads may ask for that time, and nobody else answers yet", m.GetName(), r.Spec.GetName(), ep.To)
			}
		}
	}
	return nil
}

// leaveRing takes the member out of the ring's node list and its store out of
// the slots, and counts these.
func (e *edit) leaveRing(old *Ring, m *clusterpb.Member) (int, *clusterpb.Refusal) {
	st := storeOf(m.GetStore())
	var steps []ring.Step
	for i := range old.Table.Slots() {
		if s := old.Table.At(i); s.Replicas.Has(st) {
			steps = append(steps, ring.Step{Slot: i, Replicas: s.Replicas.Without(st), Quorum: s.Quorum, Base: s.Changed})
		}
	}
	listed := slices.Contains(old.Spec.GetNodes(), m.GetName())
	if len(steps) == 0 && !listed {
		return 0, nil
	}
	next := &Ring{Spec: copyOf(old.Spec), Table: old.Table}
	if listed {
		next.Spec.Nodes = slices.DeleteFunc(next.Spec.Nodes, func(n string) bool { return n == m.GetName() })
		next.Spec.Version = e.rev
	}
	table, err := old.Table.Apply(steps, e.rev, e.now)
	if err != nil {
		return 0, unsafe("", "ring %s: %v", old.Spec.GetName(), err)
	}
	next.Table = table
	e.setRing(next)
	return len(steps), nil
}

func (e *edit) dropMember(m *clusterpb.Member, forced bool) {
	i, found := findMember(e.next.members, m.GetName())
	if !found {
		return
	}
	discount(e, kindMember, e.next.members[i])
	e.differ("member", m.GetName(), memberFacts(m), nil)
	e.next.members = without(e.next.members, i)

	gone := &clusterpb.RemovedMember{
		Name: m.GetName(), Incarnation: m.GetIncarnation(),
		Revision: e.rev, TimeMs: e.now, Forced: forced, Actor: text(e.cmd.GetActor(), maxActor),
	}
	e.forgetRemoved(m.GetName())
	i, _ = findRemoved(e.next.removed, m.GetName())
	count(e, kindRemoved, gone)
	e.next.removed = with(e.next.removed, i, false, gone)
	for len(e.next.removed) > maxRemoved {
		oldest := slices.MinFunc(e.next.removed, func(a, b *clusterpb.RemovedMember) int {
			return cmp.Compare(a.GetRevision(), b.GetRevision())
		})
		e.forgetRemoved(oldest.GetName())
	}
}

// forgetRemoved forgets that the name was removed.
func (e *edit) forgetRemoved(name string) {
	if i, found := findRemoved(e.next.removed, name); found {
		discount(e, kindRemoved, e.next.removed[i])
		e.next.removed = without(e.next.removed, i)
	}
}

// inList says whether the ring's node list, or its having none, names the node.
func inList(r *Ring, node string) bool {
	list := r.Spec.GetNodes()
	return len(list) == 0 || slices.Contains(list, node)
}

package cluster

import (
	"fmt"
	"slices"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// Bounds on rings.
const (
	maxRings    = 256 // deleted ones included
	maxPatterns = 10_000
)

// putRing creates a ring and places it, or replaces what an operator wrote of
// one. Slots of a ring that exists move by steps only.
func (e *edit) putRing(c *clusterpb.PutRing) (uint64, *clusterpb.Refusal) {
	old := e.next.Ring(c.GetName())
	if r := firstOf(checkName("name", "ring name", c.GetName()), e.expect("ring", c.GetName(), ringVersion(old)), e.checkRing(c)); r != nil {
		return 0, r
	}
	if r := e.checkPatterns(c); r != nil {
		return 0, r
	}
	var r *clusterpb.Refusal
	if old == nil {
		r = e.newRing(c)
	} else {
		r = e.replaceRing(old, c)
	}
	if r != nil {
		return 0, r
	}
	if r := e.reroute(); r != nil {
		return 0, r
	}
	e.changed.Rings = true
	if old == nil {
		e.note("ring created", c.GetName(), "")
	} else {
		e.note("ring changed", c.GetName(), "")
	}
	return e.rev, nil
}

func ringVersion(r *Ring) uint64 {
	if r == nil {
		return 0
	}
	return r.Spec.GetVersion()
}

func (e *edit) checkRing(c *clusterpb.PutRing) *clusterpb.Refusal {
	if r := checkName("name", "ring name", c.GetName()); r != nil {
		return r
	}
	rf := c.GetReplicationFactor()
	if rf < 1 || rf > ring.MaxReplicas {
		return invalid("replication_factor", "replication factor %d: want 1 to %d", rf, ring.MaxReplicas)
	}
	if q := c.GetWriteQuorum(); q < clusterpb.WriteQuorum_MAJORITY || q > clusterpb.WriteQuorum_ALL {
		return invalid("write_quorum", "write quorum %d: want majority, one or all", q)
	}
	return firstOf(e.checkNodes(c), checkSlots(c.GetSlots(), e.next.Ring(c.GetName())))
}

func (e *edit) checkNodes(c *clusterpb.PutRing) *clusterpb.Refusal {
	seen := map[string]bool{}
	for _, n := range c.GetNodes() {
		switch {
		case e.next.Member(n) == nil:
			return invalid("nodes", "%s is no member: `muster cluster members` lists them", quote(n))
		case e.next.Member(n).GetState() == clusterpb.MemberState_REMOVING:
			return invalid("nodes", "%s is being removed: leave it out", n)
		case seen[n]:
			return invalid("nodes", "%s is named twice", quote(n))
		}
		seen[n] = true
	}
	if n := len(seen); n > 0 && n < int(c.GetReplicationFactor()) {
		return invalid("nodes", "%s for %s: name more nodes, or lower the replication factor", many(n, "node"), many(int(c.GetReplicationFactor()), "replica"))
	}
	return nil
}

func checkSlots(slots uint32, old *Ring) *clusterpb.Refusal {
	if old != nil && slots != 0 && int(slots) != old.Table.Slots() {
		return invalid("slots", "ring %s has %d slots for good: another number needs another ring", old.Spec.GetName(), old.Table.Slots())
	}
	if slots&(slots-1) != 0 || slots > ring.MaxSlots {
		return invalid("slots", "%d slots: want a power of two, at most %d", slots, ring.MaxSlots)
	}
	return nil
}

// checkPatterns refuses patterns that another ring has, and a second ring that
// claims nobody.
func (e *edit) checkPatterns(c *clusterpb.PutRing) *clusterpb.Refusal {
	patterns := c.GetTenants()
	if len(patterns) > maxPatterns {
		return invalid("tenants", "%d names and patterns: at most %d", len(patterns), maxPatterns)
	}
	taken := map[string]string{}
	for _, r := range e.next.Rings() {
		if r.Spec.GetName() == c.GetName() {
			continue
		}
		if len(patterns) == 0 && len(r.Spec.GetTenants()) == 0 {
			return refuse(clusterpb.Refusal_INVALID, "tenants", "ring %s takes every tenant that no other ring claims, and only one ring can: name the tenants of %s", r.Spec.GetName(), c.GetName())
		}
		for _, p := range r.Spec.GetTenants() {
			taken[p] = r.Spec.GetName()
		}
	}
	for _, p := range patterns {
		if r := checkPattern("tenants", p); r != nil {
			return r
		}
		switch other, ok := taken[p]; {
		case ok && other == c.GetName():
			return invalid("tenants", "%s is named twice", quote(p))
		case ok:
			return invalid("tenants", "%s is claimed by ring %s already%s", quote(p), other, takeOver(p, e.next.Ring(c.GetName())))
		}
		taken[p] = c.GetName()
	}
	return nil
}

// takeOver is how to take what another ring claims, as far as one step does it.
func takeOver(pattern string, to *Ring) string {
	if to == nil || literalLen(pattern) < len(pattern) {
		return ""
	}
	return fmt.Sprintf(": `muster tenant set %s --ring %s` moves it in one step", pattern, to.Spec.GetName())
}

// newRing makes a ring with the table that the command brings.
func (e *edit) newRing(c *clusterpb.PutRing) *clusterpb.Refusal {
	if len(e.next.rings) >= maxRings {
		return full("name", "there are %d rings, deleted ones with history included: that is the most", maxRings)
	}
	r := &Ring{Spec: specOfRing(c, e.rev)}
	if n := len(e.next.rings); n > 0 && e.next.rings[n-1].Spec.GetId() >= e.rev {
		// Another one was made in the same step.
		r.Spec.Id, r.Spec.Born = e.next.rings[n-1].Spec.GetId()+1, e.rev
	}
	var err error
	if r.Table, err = ring.Empty(slotsOf(c), r.Quorum(), e.rev, e.now); err != nil {
		return invalid("slots", "%v", err)
	}
	if refusal := e.place(r, c.GetPlacement()); refusal != nil {
		return refusal
	}
	e.setRing(r)
	return nil
}

func (e *edit) replaceRing(old *Ring, c *clusterpb.PutRing) *clusterpb.Refusal {
	next := &Ring{Spec: copyOf(old.Spec), Table: old.Table}
	next.Spec.Tenants = slices.Clone(c.GetTenants())
	next.Spec.ReplicationFactor = c.GetReplicationFactor()
	next.Spec.WriteQuorum = c.GetWriteQuorum()
	next.Spec.Nodes = slices.Clone(c.GetNodes())
	next.Spec.Version = e.rev
	have, had := len(e.next.Eligible(next)), len(e.next.Eligible(old))
	if have < next.RF() && (next.RF() > old.RF() || have < had) {
		field := "replication_factor"
		if have < had {
			field = "nodes"
		}
		return unsafe(field, "ring %s would have %s for %s: add nodes first", c.GetName(), many(have, "active node"), many(next.RF(), "replica"))
	}
	e.setRing(next)
	return nil
}

// deleteRing ends all epochs of a ring. They stay, closed in time, until no
// read can ask for them.
func (e *edit) deleteRing(c *clusterpb.DeleteRing) (uint64, *clusterpb.Refusal) {
	if r := checkName("name", "ring name", c.GetName()); r != nil {
		return 0, r
	}
	old := e.next.Ring(c.GetName())
	if r := e.expect("ring", c.GetName(), ringVersion(old)); r != nil {
		return 0, r
	}
	if old == nil {
		return 0, notFound("there is no ring %s", c.GetName())
	}
	if r := e.endRing(old); r != nil {
		return 0, r
	}
	if r := e.checkHoused(old); r != nil {
		return 0, r
	}
	if r := e.reroute(); r != nil {
		return 0, r
	}
	e.changed.Rings = true
	e.note("ring deleted", c.GetName(), "")
	return 0, nil
}

// endRing ends a ring: what is left is its history.
func (e *edit) endRing(old *Ring) *clusterpb.Refusal {
	steps := make([]ring.Step, old.Table.Slots())
	for i := range steps {
		s := old.Table.At(i)
		steps[i] = ring.Step{Slot: i, Quorum: s.Quorum, Base: s.Changed}
	}
	table, err := old.Table.Apply(steps, e.rev, e.now)
	if err != nil {
		return unsafe("", "ring %s: %v", old.Spec.GetName(), err)
	}
	next := &Ring{Spec: copyOf(old.Spec), Table: table}
	next.Spec.Deleted, next.Spec.DeletedTimeMs, next.Spec.Version = e.rev, e.now, e.rev
	next.Spec.Move = nil
	e.setRing(next)
	return nil
}

// checkHoused refuses to delete the last ring, and the only one that takes some
// tenant.
func (e *edit) checkHoused(gone *Ring) *clusterpb.Refusal {
	if len(e.next.Rings()) == 0 {
		return unsafe("", "%s is the last ring: a tenant that comes would have none", gone.Spec.GetName())
	}
	homeless, example := 0, ""
	e.next.WalkTenants("", func(t *clusterpb.Tenant) bool {
		if t.GetRoute().GetRing() == gone.Spec.GetId() && e.next.RouteOf(t.GetId()) == nil {
			homeless, example = homeless+1, t.GetId()
		}
		return true
	})
	if homeless == 0 {
		return nil
	}
	return unsafe("", "no other ring takes %s of ring %s, such as %s: let another ring claim them first", many(homeless, "tenant"), gone.Spec.GetName(), example)
}

// setRing puts the ring into the state, in the place of one with its id. Its
// hash is computed here, once for each change.
func (e *edit) setRing(r *Ring) {
	i, found := findRing(e.next.rings, r.Spec.GetId())
	var old *clusterpb.Ring
	if found {
		old = e.next.rings[i].Spec
		e.next.sum -= e.next.rings[i].sum
	}
	if r.Spec.GetVersion() == e.rev { // then this change has made the spec
		e.stampRing(r.Spec, old)
	}
	r.sum = sumOf(kindRing, r.record())
	e.next.sum += r.sum
	e.next.rings = with(e.next.rings, i, found, r)
	if !claimAlike(old, r.Spec) { // most changes are of slots
		e.next.claims = claimsOf(e.next.rings)
	}
}

// stampRing writes onto a ring that an operator has changed who that was.
func (e *edit) stampRing(r, old *clusterpb.Ring) {
	r.ChangedMs, r.ChangedBy = e.now, e.by()
	if old == nil {
		r.CreatedMs, r.CreatedBy = r.GetChangedMs(), r.GetChangedBy()
	}
	after := ringFacts(r)
	if r.GetDeleted() != 0 {
		after = nil
	}
	e.differ("ring", r.GetName(), ringFacts(old), after)
}

package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// moveTenant gives a tenant to a ring by its name, in one step: the ring that
// claimed it by name lets go of it and the other claims it, so that it passes
// through no third one on its way.
func (e *edit) moveTenant(c *clusterpb.MoveTenant) (uint64, *clusterpb.Refusal) {
	t, r := e.tenant("id", c.GetTenant())
	if r != nil {
		return 0, r
	}
	to := e.next.Ring(c.GetRing())
	if to == nil {
		return 0, invalid("ring", "there is no ring %s: `muster ring list` lists them", quote(c.GetRing()))
	}
	from := e.next.RouteOf(t.GetId())
	if from == to {
		return t.GetVersion(), nil
	}
	if r := firstOf(e.letGo(t.GetId(), to.Spec.GetName(), c.GetDeleteEmptied()), e.claim(t.GetId(), to), e.reroute()); r != nil {
		return 0, r
	}
	next := copyOf(e.next.Tenant(t.GetId()))
	next.Version = e.rev
	e.setTenant(next)
	e.changed.Rings = true
	detail := "to ring " + c.GetRing()
	if from != nil {
		detail = "from ring " + from.Spec.GetName() + " " + detail
	}
	if from != nil && e.next.Ring(from.Spec.GetName()) == nil {
		detail += ", the emptied ring is deleted"
	}
	e.note("tenant moved", t.GetId(), detail)
	return e.rev, nil
}

// letGo takes a tenant's name from the ring that claims it by that. A ring whose
// last claim it was would take every tenant that no other ring claims: it is
// deleted instead, where the operator says so.
func (e *edit) letGo(id, to string, deleteEmptied bool) *clusterpb.Refusal {
	own, pattern := e.next.ClaimOf(id)
	if own == nil || pattern != id {
		return nil
	}
	if len(own.Spec.GetTenants()) > 1 {
		rest := slices.DeleteFunc(slices.Clone(own.Spec.GetTenants()), func(p string) bool { return p == id })
		e.setClaims(own, rest)
		return nil
	}
	if !deleteEmptied {
		return unsafe("delete_emptied", "%s is all that ring %s claims, and a ring that claims nobody takes every tenant that no other ring claims: `muster tenant set %s --ring %s --delete-emptied` deletes ring %s in the same step, or let it claim another tenant first",
			id, own.Spec.GetName(), id, to, own.Spec.GetName())
	}
	return e.endRing(own)
}

// claim lets a ring claim a tenant by its name, where its patterns do not.
func (e *edit) claim(id string, to *Ring) *clusterpb.Refusal {
	by, pattern := e.next.ClaimOf(id)
	switch {
	case by == to:
		return nil
	case len(to.Spec.GetTenants()) == 0:
		return unsafe("ring", "ring %s takes the tenants that no other ring claims, and ring %s claims %s by %s: change what that one claims, `muster ring set %s --tenants …`",
			to.Spec.GetName(), by.Spec.GetName(), id, pattern, by.Spec.GetName())
	case len(to.Spec.GetTenants()) >= maxPatterns:
		return full("ring", "ring %s has %d names and patterns: that is the most", to.Spec.GetName(), maxPatterns)
	}
	e.setClaims(to, append(slices.Clone(to.Spec.GetTenants()), id))
	return nil
}

func (e *edit) setClaims(r *Ring, tenants []string) {
	next := &Ring{Spec: copyOf(r.Spec), Table: r.Table}
	next.Spec.Tenants, next.Spec.Version = tenants, e.rev
	e.setRing(next)
}

// putRings replaces, creates and deletes several rings in one step: what they
// claim is judged when all are in place, and a tenant that goes from one to the
// other passes through no third one.
func (e *edit) putRings(c *clusterpb.PutRings) (uint64, *clusterpb.Refusal) {
	if len(c.GetRings()) == 0 {
		return 0, invalid("rings", "no ring is named")
	}
	var names []string
	for _, r := range c.GetRings() {
		name := r.GetRing().GetName()
		if refusal := checkName("rings", "ring name", name); refusal != nil {
			return 0, refusal
		}
		if slices.Contains(names, name) {
			return 0, invalid("rings", "ring %s is named twice", name)
		}
		names = append(names, name)
	}
	if r := firstOf(e.restoreRings(c.GetRings()), e.checkAllHoused(c.GetRings())); r != nil {
		return 0, r
	}
	if len(e.next.Rings()) == 0 {
		return 0, unsafe("rings", "no ring would be left: a tenant that comes would have none")
	}
	if r := e.reroute(); r != nil {
		return 0, r
	}
	detail := ""
	if c.GetSource() != "" {
		detail = "from " + text(c.GetSource(), 300)
	}
	e.note(fmt.Sprintf("%s changed", many(len(names), "ring")), text(strings.Join(names, ", "), 300), detail)
	return e.rev, nil
}

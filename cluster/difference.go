package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Differing is one object that a restore would change.
type Differing struct {
	// Kind is settings, ring, tenant or token.
	Kind string `json:"kind"`
	// Change is + for what comes back, ~ for what changes, - for what goes.
	Change string `json:"change"`
	Name   string `json:"name"`
	Detail string `json:"detail,omitempty"`
}

// Difference is what lies between a live state and one that is restored into
// it: tenants, rings' definitions, settings and people's tokens. Members, stores
// and slots are never part of it.
type Difference struct {
	Objects []Differing
	// Notes are what a person should know besides, a line each.
	Notes []string

	change clusterpb.RestoreState
}

// Empty says whether there is nothing to restore.
func (d *Difference) Empty() bool { return len(d.Objects) == 0 }

// Count is how many objects of a kind would change in a way.
func (d *Difference) Count(kind, change string) int {
	n := 0
	for _, o := range d.Objects {
		if o.Kind == kind && o.Change == change {
			n++
		}
	}
	return n
}

// Compare finds what has to change for live to be as file says. What only live
// knows stays, unless prune is set. now is in Unix milliseconds.
func Compare(live, file *State, prune bool, now int64) *Difference {
	d := &Difference{}
	d.settings(live, file)
	d.rings(live, file, prune)
	d.tenants(live, file, prune)
	d.tokens(live, file, now)
	return d
}

// command is the change that makes the difference.
func (d *Difference) command(h ArchiveHeader) *clusterpb.RestoreState {
	d.change.Source = fmt.Sprintf("snapshot of %s, %s, revision %d", h.Cluster, h.Time.Format(time.RFC3339), h.Revision)
	return &d.change
}

func (d *Difference) add(kind, change, name, detail string) {
	d.Objects = append(d.Objects, Differing{kind, change, name, detail})
}

func (d *Difference) notef(format string, args ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
}

func (d *Difference) settings(live, file *State) {
	was, is := copyOf(live.Settings()), copyOf(file.Settings())
	if was.GetTenantLabel() != is.GetTenantLabel() || was.GetReplicaLabel() != is.GetReplicaLabel() {
		d.notef("the labels %s and %s stay: blocks in the bucket carry them", was.GetTenantLabel(), was.GetReplicaLabel())
	}
	is.TenantLabel, is.ReplicaLabel = was.GetTenantLabel(), was.GetReplicaLabel()
	detail := wordsOf(settingsFacts(was), settingsFacts(is)).String()
	if detail == "" {
		return
	}
	d.change.Settings, d.change.SettingsVersion = is, was.GetVersion()
	d.add("settings", "~", "", detail)
}

func (d *Difference) rings(live, file *State, prune bool) {
	for _, r := range file.Rings() {
		is := &clusterpb.PutRing{
			Name: r.Spec.GetName(), Tenants: slices.Clone(r.Spec.GetTenants()), ReplicationFactor: r.Spec.GetReplicationFactor(),
			WriteQuorum: r.Spec.GetWriteQuorum(), Nodes: d.nodesOf(live, r),
		}
		old := live.Ring(is.GetName())
		if old == nil {
			is.Slots = uint32(r.Table.Slots())
			d.change.Rings = append(d.change.Rings, &clusterpb.RestoredRing{Ring: is})
			d.add("ring", "+", is.GetName(), ringDiffers(nil, is))
			continue
		}
		if detail := ringDiffers(old.Spec, is); detail != "" {
			d.change.Rings = append(d.change.Rings, &clusterpb.RestoredRing{Ring: is, Version: old.Spec.GetVersion()})
			d.add("ring", "~", is.GetName(), detail)
		}
	}
	var kept []string
	for _, r := range live.Rings() {
		switch {
		case file.Ring(r.Spec.GetName()) != nil:
		case prune:
			d.change.Rings = append(d.change.Rings, &clusterpb.RestoredRing{
				Ring: &clusterpb.PutRing{Name: r.Spec.GetName()}, Version: r.Spec.GetVersion(), Delete: true,
			})
			d.add("ring", "-", r.Spec.GetName(), "")
		default:
			kept = append(kept, r.Spec.GetName())
		}
	}
	d.keeps("rings", kept, "")
}

// nodesOf is the ring's node list as far as the cluster still has its members.
// A list that has become too short for the ring's replicas gives way to the live
// one, or to all nodes.
func (d *Difference) nodesOf(live *State, r *Ring) []string {
	list := r.Spec.GetNodes()
	left := slices.DeleteFunc(slices.Clone(list), func(n string) bool { return live.Member(n) == nil })
	switch old := live.Ring(r.Spec.GetName()); {
	case len(left) == len(list):
		return left
	case len(left) >= r.RF():
		d.notef("ring %s: its node list %s is restored without those who are no members", r.Spec.GetName(), strings.Join(list, ","))
		return left
	case old != nil:
		d.notef("ring %s: its node list %s names too few members and is not restored", r.Spec.GetName(), strings.Join(list, ","))
		return slices.Clone(old.Spec.GetNodes())
	default:
		d.notef("ring %s: its node list %s names too few members: it is restored with all nodes", r.Spec.GetName(), strings.Join(list, ","))
		return nil
	}
}

func ringDiffers(was *clusterpb.Ring, is *clusterpb.PutRing) string {
	return wordsOf(ringFacts(was), ringFacts(specOfRing(is, 0))).String()
}

func (d *Difference) tenants(live, file *State, prune bool) {
	back := 0
	file.WalkTenants("", func(t *clusterpb.Tenant) bool {
		is := &clusterpb.RestoredTenant{Id: t.GetId(), State: t.GetState(), Spec: t.GetSpec(), Tokens: t.GetTokens()}
		old := live.Tenant(t.GetId())
		if old == nil {
			back++
			d.change.Tenants = append(d.change.Tenants, is)
			d.add("tenant", "+", t.GetId(), fmt.Sprintf("%s, %d tokens", stateText(t.GetState()), len(t.GetTokens())))
			return true
		}
		if detail := tenantDiffers(old, t); detail != "" {
			is.Version = old.GetVersion()
			d.change.Tenants = append(d.change.Tenants, is)
			d.add("tenant", "~", t.GetId(), detail)
		}
		return true
	})
	if back > 0 {
		d.notef("%d tenants come back as new incarnations: their old samples are not back", back)
	}
	var kept []string
	live.WalkTenants("", func(t *clusterpb.Tenant) bool {
		switch {
		case file.Tenant(t.GetId()) != nil:
		case prune:
			d.change.Tenants = append(d.change.Tenants, &clusterpb.RestoredTenant{Id: t.GetId(), Version: t.GetVersion(), Delete: true})
			d.add("tenant", "-", t.GetId(), "its samples are deleted")
		default:
			kept = append(kept, t.GetId())
		}
		return true
	})
	d.keeps("tenants", kept, ", and their samples")
}

// keeps tells what only the live state knows.
func (d *Difference) keeps(what string, names []string, with string) {
	const shown = 5
	if len(names) == 0 {
		return
	}
	more := ""
	if len(names) > shown {
		more = fmt.Sprintf(" and %d more", len(names)-shown)
	}
	d.notef("%d live %s are not in the snapshot and stay: %s%s; --prune deletes them%s", len(names), what, strings.Join(names[:min(shown, len(names))], ", "), more, with)
}

func tenantDiffers(was, is *clusterpb.Tenant) string {
	w := wordsOf(factsWithoutTokens(was), factsWithoutTokens(is))
	gone, back := 0, 0
	for _, t := range was.GetTokens() {
		if !slices.ContainsFunc(is.GetTokens(), sameToken(t)) {
			gone++
		}
	}
	for _, t := range is.GetTokens() {
		if !slices.ContainsFunc(was.GetTokens(), sameToken(t)) {
			back++
		}
	}
	if gone > 0 {
		w = append(w, fmt.Sprintf("%d tokens made since are revoked", gone))
	}
	if back > 0 {
		w = append(w, fmt.Sprintf("%d tokens revoked since are valid again", back))
	}
	return w.String()
}

func sameToken(t *clusterpb.TenantToken) func(*clusterpb.TenantToken) bool {
	return func(o *clusterpb.TenantToken) bool {
		return o.GetId() == t.GetId() && string(o.GetHash()) == string(t.GetHash())
	}
}

// tokens brings people's tokens back that are there no more. None is taken
// away, lest a restore lock somebody out; a node's token lives for an hour.
func (d *Difference) tokens(live, file *State, now int64) {
	for _, t := range file.Tokens() {
		over := t.GetExpiresMs() != 0 && t.GetExpiresMs() <= now
		if t.GetRole() == clusterpb.TokenRole_ROLE_NODE || over || live.Token(t.GetId()) != nil || live.TokenByHash(t.GetHash()) != nil {
			continue
		}
		d.change.Tokens = append(d.change.Tokens, t)
		d.add("token", "+", t.GetId(), roleText(t.GetRole())+", it was revoked since and is valid again")
	}
}

// words are what differs, field by field.
type words []string

func (w words) String() string { return strings.Join(w, "; ") }

// wordsOf tells facts before and after.
func wordsOf(before, after []fact) words {
	none := func(f fact) string { return cmp.Or(f.value, strings.Join(f.list, ","), "none") }
	var w words
	for i, is := range after {
		var was fact
		if i < len(before) {
			was = before[i]
		}
		switch b, a := none(was), none(is); {
		case len(before) == 0:
			w = append(w, is.field+" "+a)
		case a != b:
			w = append(w, fmt.Sprintf("%s %s -> %s", is.field, b, a))
		}
	}
	return w
}

// factsWithoutTokens leaves out the tokens' names: two of one name may differ.
func factsWithoutTokens(t *clusterpb.Tenant) []fact {
	return slices.DeleteFunc(tenantFacts(t), func(f fact) bool { return f.field == "tokens" })
}

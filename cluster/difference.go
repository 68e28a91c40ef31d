package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

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
	is.TenantLabel, is.ReplicaLabel, is.Version = was.GetTenantLabel(), was.GetReplicaLabel(), was.GetVersion()
	if sumOf(kindSettings, was) == sumOf(kindSettings, is) {
		return
	}
	d.change.Settings, d.change.SettingsVersion = is, was.GetVersion()
	d.add("settings", "~", "settings", settingsDiffer(was, is))
}

func settingsDiffer(was, is *clusterpb.Settings) string {
	var w words
	w.text("default_tenant", was.GetDefaultTenant(), is.GetDefaultTenant())
	w.text("tenant_auth", authText(was.GetTenantAuth()), authText(is.GetTenantAuth()))
	w.text("tenant_certificate_field", was.GetTenantCertificateField(), is.GetTenantCertificateField())
	w.text("split_tenant_label", was.GetSplitTenantLabel(), is.GetSplitTenantLabel())
	w.text("auto_create_tenants", fmt.Sprint(was.GetAutoCreateTenants()), fmt.Sprint(is.GetAutoCreateTenants()))
	w.text("max_tenants", fmt.Sprint(was.GetMaxTenants()), fmt.Sprint(is.GetMaxTenants()))
	w.text("dead_after", periodText(&was.DeadAfterMs), periodText(&is.DeadAfterMs))
	w.text("maintenance", fmt.Sprint(was.GetMaintenance()), fmt.Sprint(is.GetMaintenance()))
	w.text("move_series_per_second", fmt.Sprint(was.GetMoveSeriesPerSecond()), fmt.Sprint(is.GetMoveSeriesPerSecond()))
	w.spec("tenant_defaults.", was.GetTenantDefaults(), is.GetTenantDefaults())
	return w.String()
}

func authText(a clusterpb.TenantAuth) string {
	switch a {
	case clusterpb.TenantAuth_AUTH_HEADER:
		return "header"
	case clusterpb.TenantAuth_AUTH_CERTIFICATE:
		return "certificate"
	default:
		return "token"
	}
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
			d.add("ring", "+", is.GetName(), ringText(is))
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
	var w words
	w.text("tenants", strings.Join(was.GetTenants(), ","), strings.Join(is.GetTenants(), ","))
	w.text("replication_factor", fmt.Sprint(was.GetReplicationFactor()), fmt.Sprint(is.GetReplicationFactor()))
	w.text("write_quorum", fmt.Sprint(modeOf(was.GetWriteQuorum())), fmt.Sprint(modeOf(is.GetWriteQuorum())))
	w.text("nodes", strings.Join(was.GetNodes(), ","), strings.Join(is.GetNodes(), ","))
	return w.String()
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
	var w words
	w.text("state", stateText(was.GetState()), stateText(is.GetState()))
	w.spec("", was.GetSpec(), is.GetSpec())
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

func (w *words) text(field, was, is string) {
	none := func(s string) string {
		if s == "" {
			return "none"
		}
		return s
	}
	if was != is {
		*w = append(*w, fmt.Sprintf("%s %s -> %s", field, none(was), none(is)))
	}
}

// spec compares what an operator may set of a tenant. Whatever is not listed
// here differs by its encoding and is told without its name.
func (w *words) spec(prefix string, was, is *clusterpb.TenantSpec) {
	if specSum(was) == specSum(is) {
		return
	}
	before := len(*w)
	is, was = filled(is), filled(was)
	for _, f := range []struct {
		name    string
		was, is *int64
		text    func(*int64) string
	}{
		{"retention", was.RetentionMs, is.RetentionMs, periodText},
		{"out_of_order_window", was.OutOfOrderWindowMs, is.OutOfOrderWindowMs, periodText},
		{"future_window", was.FutureWindowMs, is.FutureWindowMs, periodText},
		{"limits.active_series", was.Limits.ActiveSeries, is.Limits.ActiveSeries, numberText},
		{"limits.new_series_per_second", was.Limits.NewSeriesPerSecond, is.Limits.NewSeriesPerSecond, numberText},
		{"limits.samples_per_second", was.Limits.SamplesPerSecond, is.Limits.SamplesPerSecond, numberText},
		{"limits.burst_samples", was.Limits.BurstSamples, is.Limits.BurstSamples, numberText},
		{"limits.request_bytes", was.Limits.RequestBytes, is.Limits.RequestBytes, numberText},
		{"limits.series_per_request", was.Limits.SeriesPerRequest, is.Limits.SeriesPerRequest, numberText},
		{"limits.samples_per_request", was.Limits.SamplesPerRequest, is.Limits.SamplesPerRequest, numberText},
		{"limits.label_names_per_series", was.Limits.LabelNamesPerSeries, is.Limits.LabelNamesPerSeries, numberText},
		{"limits.label_name_length", was.Limits.LabelNameLength, is.Limits.LabelNameLength, numberText},
		{"limits.label_value_length", was.Limits.LabelValueLength, is.Limits.LabelValueLength, numberText},
		{"limits.exemplars", was.Limits.Exemplars, is.Limits.Exemplars, numberText},
	} {
		w.text(prefix+f.name, f.text(f.was), f.text(f.is))
	}
	if len(*w) == before {
		*w = append(*w, prefix+"other settings differ")
	}
}

func specSum(s *clusterpb.TenantSpec) uint64 {
	if s == nil {
		s = &clusterpb.TenantSpec{}
	}
	return sumOf(kindTenant, s)
}

func filled(s *clusterpb.TenantSpec) *clusterpb.TenantSpec {
	out := &clusterpb.TenantSpec{}
	if s != nil {
		out = copyOf(s)
	}
	if out.Limits == nil {
		out.Limits = &clusterpb.Limits{}
	}
	return out
}

// ringText is what an operator wrote of a ring, in a line.
func ringText(c *clusterpb.PutRing) string {
	list := func(names []string, none string) string {
		if len(names) == 0 {
			return none
		}
		return strings.Join(names, ",")
	}
	return fmt.Sprintf("replication factor %d, quorum %s, nodes %s, tenants %s", c.GetReplicationFactor(),
		modeOf(c.GetWriteQuorum()), list(c.GetNodes(), "all"), list(c.GetTenants(), "the rest"))
}

func periodText(ms *int64) string {
	if ms == nil {
		return "default"
	}
	return model.Duration(time.Duration(*ms) * time.Millisecond).String()
}

func numberText(v *int64) string {
	if v == nil {
		return "default"
	}
	return fmt.Sprint(*v)
}

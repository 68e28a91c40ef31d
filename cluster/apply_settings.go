package cluster

import (
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

const maxMaxTenants = 1_000_000

// putSettings replaces the settings. The two labels are fixed for good: blocks
// in the bucket carry them. Left out, they stay as they are.
func (e *edit) putSettings(c *clusterpb.PutSettings) (uint64, *clusterpb.Refusal) {
	old := e.next.settings
	if c.GetSettings() == nil {
		return 0, invalid("settings", "the command has no settings")
	}
	if r := e.expect("settings", "", old.GetVersion()); r != nil {
		return 0, r
	}
	next := copyOf(c.GetSettings())
	if next.GetTenantLabel() == "" {
		next.TenantLabel = old.GetTenantLabel()
	}
	if next.GetReplicaLabel() == "" {
		next.ReplicaLabel = old.GetReplicaLabel()
	}
	if r := firstOf(fixed("tenant_label", old.GetTenantLabel(), next.GetTenantLabel()),
		fixed("replica_label", old.GetReplicaLabel(), next.GetReplicaLabel()), checkSettings(next)); r != nil {
		return 0, r
	}
	next.Version = e.rev
	next.ChangedMs, next.ChangedBy = e.now, e.by()
	e.differ("settings", "", settingsFacts(old), settingsFacts(next))
	discount(e, kindSettings, old)
	count(e, kindSettings, next)
	e.next.settings = next
	e.widenAll()
	e.changed.Settings = true
	e.note("settings changed", "", "")
	return e.rev, nil
}

func fixed(field, was, is string) *clusterpb.Refusal {
	if was == is {
		return nil
	}
	return invalid(field, "%s is %q for as long as the cluster lives: blocks in the bucket carry it", field, was)
}

// widenAll looks at every tenant, since new defaults may widen the window of
// those that set only one of the two.
func (e *edit) widenAll() {
	widest := configOf(nil, e.next.settings.GetTenantDefaults()).window()
	e.next.WalkTenants("", func(t *clusterpb.Tenant) bool {
		if t.GetSpec() != nil {
			widest = max(widest, e.next.TenantConfig(t).window())
		}
		return true
	})
	e.widen(widest)
}

// fillSettings gives the fields of a new cluster's settings that cannot be
// empty their defaults.
func fillSettings(s *clusterpb.Settings) *clusterpb.Settings {
	d := DefaultSettings()
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&s.DefaultTenant, d.GetDefaultTenant()},
		{&s.TenantLabel, d.GetTenantLabel()},
		{&s.ReplicaLabel, d.GetReplicaLabel()},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	for _, f := range []struct {
		to   *int64
		from int64
	}{
		{&s.MaxTenants, d.GetMaxTenants()},
		{&s.DeadAfterMs, d.GetDeadAfterMs()},
		{&s.MoveSeriesPerSecond, d.GetMoveSeriesPerSecond()},
	} {
		if *f.to == 0 {
			*f.to = f.from
		}
	}
	if s.GetTenantDefaults() == nil {
		s.TenantDefaults = d.GetTenantDefaults()
	}
	return s
}

func checkSettings(s *clusterpb.Settings) *clusterpb.Refusal {
	switch {
	case s.GetTenantAuth() < clusterpb.TenantAuth_AUTH_TOKEN || s.GetTenantAuth() > clusterpb.TenantAuth_AUTH_CERTIFICATE:
		return invalid("tenant_auth", "tenant_auth %d: want token, header or certificate", s.GetTenantAuth())
	case s.GetMaxTenants() < 1 || s.GetMaxTenants() > maxMaxTenants:
		return invalid("max_tenants", "max_tenants %d: want 1 to %d", s.GetMaxTenants(), maxMaxTenants)
	case s.GetDeadAfterMs() < second || s.GetDeadAfterMs() > 365*day:
		return invalid("dead_after", "dead_after of %d ms: want a second to a year", s.GetDeadAfterMs())
	case s.GetMoveSeriesPerSecond() < 1 || s.GetMoveSeriesPerSecond() > maxLimit:
		return invalid("move_series_per_second", "move_series_per_second %d: want at least 1", s.GetMoveSeriesPerSecond())
	case s.GetTenantLabel() == s.GetReplicaLabel():
		return invalid("replica_label", "the tenant's and the replica's label are both %s", quote(s.GetTenantLabel()))
	}
	return firstOf(
		checkTenantID("default_tenant", s.GetDefaultTenant()),
		checkLabel("tenant_label", s.GetTenantLabel()),
		checkLabel("replica_label", s.GetReplicaLabel()),
		checkSplitLabel(s.GetSplitTenantLabel()),
		checkCertificateField(s),
		checkSpec("tenant_defaults.", s.GetTenantDefaults()),
	)
}

func checkLabel(field, name string) *clusterpb.Refusal {
	if labelName.MatchString(name) && !strings.HasPrefix(name, "__") {
		return nil
	}
	return invalid(field, "%s %s: want a label name: letters, digits and _, not beginning with a digit or __", field, quote(name))
}

func checkSplitLabel(name string) *clusterpb.Refusal {
	if name == "" {
		return nil
	}
	return checkLabel("split_tenant_label", name)
}

func checkCertificateField(s *clusterpb.Settings) *clusterpb.Refusal {
	switch s.GetTenantCertificateField() {
	case "commonName", "organization", "organizationalUnit":
		return nil
	case "":
		if s.GetTenantAuth() != clusterpb.TenantAuth_AUTH_CERTIFICATE {
			return nil
		}
	}
	return invalid("tenant_certificate_field", "tenant_certificate_field %s: want commonName, organization or organizationalUnit", quote(s.GetTenantCertificateField()))
}

package admin

import (
	"net/http"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// settingsObject is what holds for the whole cluster. In a PUT, what is left
// out takes the value of a new cluster; the two labels stay as they are.
type settingsObject struct {
	DefaultTenant          *string     `json:"default_tenant"`
	TenantLabel            *string     `json:"tenant_label"`
	ReplicaLabel           *string     `json:"replica_label"`
	TenantAuth             *string     `json:"tenant_auth"`
	TenantCertificateField *string     `json:"tenant_certificate_field"`
	SplitTenantLabel       *string     `json:"split_tenant_label"`
	AutoCreateTenants      *bool       `json:"auto_create_tenants"`
	MaxTenants             *int64      `json:"max_tenants"`
	TenantDefaults         *specObject `json:"tenant_defaults"`
	DeadAfter              *span       `json:"dead_after"`
	Maintenance            *bool       `json:"maintenance"`
	MoveSeriesPerSecond    *int64      `json:"move_series_per_second"`
	Version                uint64      `json:"version"`
	history
}

var tenantAuths = map[clusterpb.TenantAuth]string{
	clusterpb.TenantAuth_AUTH_TOKEN:       "token",
	clusterpb.TenantAuth_AUTH_HEADER:      "header",
	clusterpb.TenantAuth_AUTH_CERTIFICATE: "certificate",
}

func parseTenantAuth(text string) (clusterpb.TenantAuth, error) {
	for auth, name := range tenantAuths {
		if name == text {
			return auth, nil
		}
	}
	return 0, bad("tenant_auth", "tenant_auth %q: want token, header or certificate", text)
}

func showSettings(st *cluster.State) (object, error) {
	s := st.Settings()
	auth, defaults, dead := tenantAuths[s.GetTenantAuth()], specOf(s.GetTenantDefaults()), spanOf(s.GetDeadAfterMs())
	return object{settingsObject{
		DefaultTenant: &s.DefaultTenant, TenantLabel: &s.TenantLabel, ReplicaLabel: &s.ReplicaLabel,
		TenantAuth: &auth, TenantCertificateField: &s.TenantCertificateField, SplitTenantLabel: &s.SplitTenantLabel,
		AutoCreateTenants: &s.AutoCreateTenants, MaxTenants: &s.MaxTenants, TenantDefaults: &defaults,
		DeadAfter: &dead, Maintenance: &s.Maintenance, MoveSeriesPerSecond: &s.MoveSeriesPerSecond, Version: s.GetVersion(),
		history: historyOf(s),
	}, s.GetVersion()}, nil
}

func (a *api) settings(_ *http.Request, st *cluster.State) (object, error) { return showSettings(st) }

func (a *api) putSettings(r *http.Request) (change, error) {
	var o settingsObject
	if err := decode(r, &o); err != nil {
		return change{}, err
	}
	s, err := o.settings()
	if err != nil {
		return change{}, err
	}
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_PutSettings{PutSettings: &clusterpb.PutSettings{Settings: s}}},
		present: showSettings,
	}, nil
}

func (o settingsObject) settings() (*clusterpb.Settings, error) {
	s := cluster.DefaultSettings()
	s.TenantLabel, s.ReplicaLabel = "", "" // as they are
	take(&s.DefaultTenant, o.DefaultTenant)
	take(&s.TenantLabel, o.TenantLabel)
	take(&s.ReplicaLabel, o.ReplicaLabel)
	take(&s.TenantCertificateField, o.TenantCertificateField)
	take(&s.SplitTenantLabel, o.SplitTenantLabel)
	take(&s.AutoCreateTenants, o.AutoCreateTenants)
	take(&s.MaxTenants, o.MaxTenants)
	take(&s.Maintenance, o.Maintenance)
	take(&s.MoveSeriesPerSecond, o.MoveSeriesPerSecond)
	dead, err := o.DeadAfter.milliseconds("dead_after")
	if err != nil {
		return nil, err
	}
	take(&s.DeadAfterMs, dead)
	if o.TenantAuth != nil {
		if s.TenantAuth, err = parseTenantAuth(*o.TenantAuth); err != nil {
			return nil, err
		}
	}
	if o.TenantDefaults != nil {
		if s.TenantDefaults, err = o.TenantDefaults.spec("tenant_defaults."); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func take[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

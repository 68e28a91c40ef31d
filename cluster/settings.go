package cluster

import "github.com/muster-metrics/muster/proto/clusterpb"

// Spans of time, milliseconds.
const (
	second int64 = 1000
	minute       = 60 * second
	hour         = 60 * minute
	day          = 24 * hour
)

// Settings are the cluster's; nil before it was created.
func (s *State) Settings() *clusterpb.Settings { return s.settings }

// DefaultSettings are those of a new cluster. Whoever wants others changes a
// field of these: a bool that is left out cannot be told from a false one.
func DefaultSettings() *clusterpb.Settings {
	ms := func(v int64) *int64 { return &v }
	return &clusterpb.Settings{
		DefaultTenant:     "default-tenant",
		TenantLabel:       "tenant_id",
		ReplicaLabel:      "receive_replica",
		TenantAuth:        clusterpb.TenantAuth_AUTH_TOKEN,
		AutoCreateTenants: true,
		MaxTenants:        10_000,
		TenantDefaults: &clusterpb.TenantSpec{
			RetentionMs:        ms(15 * day),
			OutOfOrderWindowMs: ms(2 * hour),
			FutureWindowMs:     ms(10 * minute),
			Limits: &clusterpb.Limits{
				LabelNamesPerSeries: ms(64),
				LabelNameLength:     ms(1024),
				LabelValueLength:    ms(4096),
				Exemplars:           ms(100_000),
			},
		},
		DeadAfterMs:         30 * minute,
		MoveSeriesPerSecond: 20_000,
	}
}

package cluster

import (
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// TenantConfig is a tenant's settings with every default filled in.
type TenantConfig struct {
	// Retention in milliseconds; 0: for ever.
	Retention int64
	// OutOfOrderWindow in milliseconds, at least ten minutes.
	OutOfOrderWindow int64
	// FutureWindow in milliseconds; 0: nothing from the future is taken.
	FutureWindow int64
	Limits       Limits
	// Relabel are the rules that its series go through; nil: none. It is the same
	// pointer for as long as the rules are.
	Relabel *clusterpb.RelabelRules
}

// Limits of a tenant over the whole cluster; 0 is unlimited.
type Limits struct {
	ActiveSeries        int64
	NewSeriesPerSecond  int64
	SamplesPerSecond    int64
	BurstSamples        int64
	RequestBytes        int64
	SeriesPerRequest    int64
	SamplesPerRequest   int64
	LabelNamesPerSeries int64
	LabelNameLength     int64 // bytes
	LabelValueLength    int64 // bytes
	Exemplars           int64
}

// minOutOfOrder is what an out-of-order window of 0 is taken as: two senders
// of one series are never further in step than this.
const minOutOfOrder = 10 * minute

// Tenant is the tenant of that id; nil where there is none.
func (s *State) Tenant(id string) *clusterpb.Tenant {
	t, _ := s.tenants.Get([]byte(id))
	return t
}

// TenantCount is the number of tenants.
func (s *State) TenantCount() int { return s.tenants.Len() }

// WalkTenants calls f with each tenant whose id comes after the given one, in
// byte order, until f returns false. "" begins at the first.
func (s *State) WalkTenants(after string, f func(*clusterpb.Tenant) bool) {
	it := s.tenants.Root().Iterator()
	it.SeekLowerBound([]byte(after + "\x00"))
	for _, t, ok := it.Next(); ok; _, t, ok = it.Next() {
		if !f(t) {
			return
		}
	}
}

// Tombstone tells that the tenant was deleted; nil where it was not, where it
// was created again, or where the time of its tombstone is over.
func (s *State) Tombstone(id string) *clusterpb.Tombstone {
	t, _ := s.tombstones.Get([]byte(id))
	return t
}

// TombstoneCount is the number of deleted tenants that are remembered.
func (s *State) TombstoneCount() int { return s.tombstones.Len() }

// WalkTombstones calls f with each tombstone, by tenant id, until f returns
// false.
func (s *State) WalkTombstones(f func(*clusterpb.Tombstone) bool) {
	it := s.tombstones.Root().Iterator()
	for _, t, ok := it.Next(); ok; _, t, ok = it.Next() {
		if !f(t) {
			return
		}
	}
}

// TenantByToken is the tenant with a token of that hash (SHA-256 of the
// token's text); nil where there is none.
func (s *State) TenantByToken(hash []byte) *clusterpb.Tenant {
	id, ok := s.tenantHashes.Get(hash)
	if !ok {
		return nil
	}
	return s.Tenant(id)
}

// DeletedByToken tells that the tenant with a token of that hash was deleted;
// nil where it was not.
func (s *State) DeletedByToken(hash []byte) *clusterpb.Tombstone {
	id, ok := s.tenantHashes.Get(hash)
	if !ok || s.Tenant(id) != nil {
		return nil
	}
	return s.Tombstone(id)
}

// TenantConfig resolves the tenant's spec: its own field, else the settings'
// default, else the one muster is built with. A nil tenant gets the defaults.
func (s *State) TenantConfig(t *clusterpb.Tenant) TenantConfig {
	return configOf(t.GetSpec(), s.settings.GetTenantDefaults())
}

func configOf(spec, defaults *clusterpb.TenantSpec) TenantConfig {
	own, set := spec.GetLimits(), defaults.GetLimits()
	if own == nil {
		own = &clusterpb.Limits{}
	}
	if set == nil {
		set = &clusterpb.Limits{}
	}
	if spec == nil {
		spec = &clusterpb.TenantSpec{}
	}
	if defaults == nil {
		defaults = &clusterpb.TenantSpec{}
	}
	c := TenantConfig{
		Retention:        first(15*day, spec.RetentionMs, defaults.RetentionMs),
		OutOfOrderWindow: first(2*hour, spec.OutOfOrderWindowMs, defaults.OutOfOrderWindowMs),
		FutureWindow:     first(10*minute, spec.FutureWindowMs, defaults.FutureWindowMs),
		Limits: Limits{
			ActiveSeries:        first(0, own.ActiveSeries, set.ActiveSeries),
			NewSeriesPerSecond:  first(0, own.NewSeriesPerSecond, set.NewSeriesPerSecond),
			SamplesPerSecond:    first(0, own.SamplesPerSecond, set.SamplesPerSecond),
			BurstSamples:        first(0, own.BurstSamples, set.BurstSamples),
			RequestBytes:        first(0, own.RequestBytes, set.RequestBytes),
			SeriesPerRequest:    first(0, own.SeriesPerRequest, set.SeriesPerRequest),
			SamplesPerRequest:   first(0, own.SamplesPerRequest, set.SamplesPerRequest),
			LabelNamesPerSeries: first(64, own.LabelNamesPerSeries, set.LabelNamesPerSeries),
			LabelNameLength:     first(1024, own.LabelNameLength, set.LabelNameLength),
			LabelValueLength:    first(4096, own.LabelValueLength, set.LabelValueLength),
			Exemplars:           first(100_000, own.Exemplars, set.Exemplars),
		},
	}
	if c.Relabel = spec.GetRelabel(); c.Relabel == nil {
		c.Relabel = defaults.GetRelabel()
	}
	// The window also bounds how far two senders of one series may be apart.
	c.OutOfOrderWindow = max(c.OutOfOrderWindow, minOutOfOrder)
	return c
}

// window is how far a sample's time may lie from that of its write.
func (c TenantConfig) window() int64 { return c.OutOfOrderWindow + c.FutureWindow }

// first is the first value that is there, else otherwise.
func first(otherwise int64, values ...*int64) int64 {
	for _, v := range values {
		if v != nil {
			return *v
		}
	}
	return otherwise
}

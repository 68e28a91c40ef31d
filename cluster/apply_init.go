package cluster

import (
	"bytes"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// What a new cluster gets where nothing else was asked for.
const (
	DefaultRing              = "default"
	DefaultReplicationFactor = 3
	DefaultSlots             = 4096
	DefaultWeight            = 100
)

// maxCertificates bounds the CA's certificates in bytes: a dozen of them.
const maxCertificates = 64 << 10

// initCluster creates the cluster with one member, already active, and the
// ring that takes every tenant, placed on it.
func (e *edit) initCluster(c *clusterpb.InitCluster) (uint64, *clusterpb.Refusal) {
	if cl := e.next.cluster; cl != nil {
		return 0, refuse(clusterpb.Refusal_EXISTS, "", "this node belongs to the cluster %s already", quote(cl.GetName()))
	}
	settings := c.GetSettings()
	if settings == nil {
		settings = DefaultSettings()
	}
	settings = fillSettings(copyOf(settings))
	first := &clusterpb.PutRing{Name: DefaultRing, ReplicationFactor: c.GetReplicationFactor(), Slots: c.GetSlots()}
	if first.ReplicationFactor == 0 {
		first.ReplicationFactor = DefaultReplicationFactor
	}
	if r := firstOf(e.expect("cluster", c.GetName(), 0), checkInit(c), checkSettings(settings), e.checkRing(first)); r != nil {
		return 0, r
	}
	settings.Version = e.rev
	settings.ChangedMs, settings.ChangedBy = e.now, e.by()
	e.next.cluster = &clusterpb.Cluster{
		Name: c.GetName(), Id: c.GetId(), Incarnation: 1, CaCertificates: bytes.Clone(c.GetCaCertificates()),
		NextStore: 1, CreatedMs: e.now, WidestWindowMs: configOf(nil, settings.GetTenantDefaults()).window(),
		Version: c.GetClusterVersion(),
	}
	count(e, kindCluster, e.next.cluster)
	e.next.settings = settings
	count(e, kindSettings, settings)

	m := e.newMember(c.GetMember(), c.GetStoreId())
	m.State, m.Activated = clusterpb.MemberState_ACTIVE, e.rev
	e.setMember(m)
	for _, t := range c.GetTokens() {
		if r := e.addToken(t); r != nil {
			return 0, r
		}
	}
	first.Placement = allOn(storeOf(m.GetStore()), slotsOf(first), e.rev)
	if r := e.newRing(first); r != nil {
		return 0, r
	}
	e.changed = Keys{AllTenants: true, Rings: true, Members: true, Settings: true, Tokens: true}
	e.note("cluster created", c.GetName(), "first member "+m.GetName())
	return e.rev, nil
}

func checkInit(c *clusterpb.InitCluster) *clusterpb.Refusal {
	if !clusterID.MatchString(c.GetId()) {
		return invalid("id", "cluster id %s: want 16 bytes as hex", quote(c.GetId()))
	}
	if n := len(c.GetCaCertificates()); n > maxCertificates {
		return invalid("ca_certificates", "the certificates have %d bytes: at most %d", n, maxCertificates)
	}
	return firstOf(checkName("name", "cluster name", c.GetName()), checkMember(c.GetMember(), c.GetStoreId()))
}

// setCluster replaces the cluster's object by a copy that f has changed.
func (e *edit) setCluster(f func(*clusterpb.Cluster)) {
	next := copyOf(e.next.cluster)
	f(next)
	discount(e, kindCluster, e.next.cluster)
	count(e, kindCluster, next)
	e.next.cluster = next
}

// widen remembers the window if no tenant had a wider one before.
func (e *edit) widen(window int64) {
	if window > e.next.cluster.GetWidestWindowMs() {
		e.setCluster(func(c *clusterpb.Cluster) { c.WidestWindowMs = window })
	}
}

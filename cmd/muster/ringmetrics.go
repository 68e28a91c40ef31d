package main

import "github.com/prometheus/client_golang/prometheus"

// ringMetrics are the metrics of Thanos' receive dashboards and alerts that are
// about what the cluster has agreed on. They are read off the state when they
// are asked for. docs/decisions/0031 says which names there are none of, and why.
type ringMetrics struct {
	node                  *node
	factor, nodes, claims *prometheus.Desc
	loaded, status        *prometheus.Desc
}

func newRingMetrics(n *node) *ringMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &ringMetrics{
		node:   n,
		factor: desc("thanos_receive_replication_factor", "The largest replication factor of a ring."),
		nodes:  desc("thanos_receive_hashring_nodes", "Stores that hold slots of a ring.", "name"),
		claims: desc("thanos_receive_hashring_tenants", "Tenants and patterns that a ring claims; 0: it takes the rest.", "name"),
		loaded: desc("thanos_receive_config_last_reload_successful", "1 while this node serves by a control state that is the cluster's; 0 while it was removed, or fetches the state anew."),
		status: desc("thanos_status", "1 where the check succeeds.", "component", "check"),
	}
}

// Describe implements prometheus.Collector.
func (m *ringMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.factor, m.nodes, m.claims, m.loaded, m.status} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *ringMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.status, 1, "receive", "healthy")
	gauge(m.status, yes(m.node.ready.err() == nil), "receive", "ready")
	st := m.node.cluster.State()
	if st.Cluster() == nil {
		return
	}
	gauge(m.loaded, yes(m.node.cluster.Standing() == nil && m.node.cluster.Doubt() == ""))
	factor := 0
	for _, r := range st.Rings() {
		factor = max(factor, r.RF())
		gauge(m.nodes, float64(len(r.Table.Held())), r.Spec.GetName())
		gauge(m.claims, float64(len(r.Spec.GetTenants())), r.Spec.GetName())
	}
	gauge(m.factor, float64(factor))
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

package door

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	accepted *prometheus.CounterVec
	refused  *prometheus.CounterVec
	open     *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_member_door_accepted_total",
			Help: "Connections that the member door let in.",
		}, []string{"protocol"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_member_door_refused_total",
			Help: "Connections that the member door refused; the log says why.",
		}, []string{"protocol"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "muster_member_door_connections",
			Help: "Open connections between this node and members, accepted and dialled.",
		}, []string{"protocol"}),
	}
	if reg != nil {
		reg.MustRegister(m.accepted, m.refused, m.open)
	}
	return m
}

package cluster

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-metrics/muster/cluster/pki"
)

// register exports what an operator alerts on. Everything is read when it is
// asked for.
func (n *Node) register() error {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	n.collectors = []prometheus.Collector{
		gauge("muster_cluster_revision", "Newest revision of the control state that this node has applied.",
			func() float64 { return float64(n.fsm.Applied()) }),
		gauge("muster_cluster_members", "Members of the cluster, as this node knows them.",
			func() float64 { return float64(len(n.State().Members())) }),
		gauge("muster_cluster_is_leader", "1 on the node that leads.", func() float64 {
			if e := n.engine.Load(); e != nil && e.raft.State() == raft.Leader {
				return 1
			}
			return 0
		}),
		gauge("muster_cluster_raft_term", "Raft's term: it rises with each election.", func() float64 {
			if e := n.engine.Load(); e != nil {
				return float64(e.raft.CurrentTerm())
			}
			return 0
		}),
		gauge("muster_cluster_has_leader", "1 while this node knows a leader.", func() float64 {
			if _, ok := n.Leader(); ok {
				return 1
			}
			return 0
		}),
		gauge("muster_cluster_diverged_members", "Members whose control state differs from the majority's; the leader knows.", func() float64 {
			e := n.engine.Load()
			if e == nil || e.raft.State() != raft.Leader {
				return 0
			}
			f := n.compare(e, time.Now())
			return float64(len(f.diverged) + len(f.disputed))
		}),
		gauge("muster_cluster_diverged", "1 while the leader says that this node's control state differs from the majority's, or it is being fetched anew.", func() float64 {
			return truth(textOf(n.diverged.Load())+n.fsm.Doubted() != "")
		}),
		gauge("muster_cluster_halted", "1 while this node applies nothing more, because its software is too old for the log.", func() float64 {
			return truth(n.fsm.Halted() != "")
		}),
		gauge("muster_cluster_version", "Cluster version: what all members understand.",
			func() float64 { return float64(n.State().Version()) }),
		gauge("muster_cluster_disk_free_bytes", "Room for the control state, as if the ballast were in its place.",
			func() float64 { return float64(max(n.disk.Left(), 0)) }),
		gauge("muster_cluster_disk_wanted_bytes", "With less room than this a leader refuses changes.",
			func() float64 { return float64(n.disk.full) }),
		gauge("muster_cluster_ballast_bytes", "Size of the ballast that is held back on the disk of the control state; 0 while it is given up.",
			func() float64 { return float64(n.disk.size - n.disk.missing()) }),
		gauge("muster_cluster_raft_silent_seconds", "How long Raft's main loop has owed a sign of life.",
			func() float64 { return n.pulse.Silent(time.Now()).Seconds() }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "muster_cluster_raft_restarts_total",
			Help: "Times that Raft was started anew in this process, because a leadership transfer did not end.",
		}, func() float64 { return float64(n.restarts.Load()) }),
		gauge("muster_cluster_leader_seen_timestamp_seconds", "When this node last knew a leader; 0: never.", func() float64 {
			if at := n.sightings.LastLeader(); !at.IsZero() {
				return float64(at.Unix())
			}
			return 0
		}),
		gauge("muster_cluster_clock_offset_seconds", "This node's clock minus the median of the members' clocks.",
			func() float64 { return n.ClockOffset().Seconds() }),
	}
	n.metrics = newMetrics()
	n.collectors = append(n.collectors, n.metrics.steps, n.metrics.stepsLeft)
	n.collectors = append(n.collectors, n.credentialCollectors(gauge)...)
	n.collectors = append(n.collectors, n.schedule.collectors()...)
	for i, c := range n.collectors {
		if err := n.cfg.Reg.Register(c); err != nil {
			n.collectors = n.collectors[:i]
			n.unregister()
			return fmt.Errorf("cluster metrics: %w", err)
		}
	}
	return nil
}

// metrics are what is counted, not read.
type metrics struct {
	renewals, renewalsFailed prometheus.Counter
	steps                    prometheus.Counter
	stepsLeft                prometheus.Gauge
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		steps: counter("muster_cluster_move_steps_total", "Slot replicas that this node, as the leader, has given to other stores, or taken away."),
		stepsLeft: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "muster_cluster_move_steps_left",
			Help: "Slot replicas that have to move still, over all rings, as the leader last looked; 0 elsewhere.",
		}),
		renewals:       counter("muster_cluster_certificate_renewals_total", "Certificates that this node has got in the place of its own."),
		renewalsFailed: counter("muster_cluster_certificate_renewals_failed_total", "Renewals of this node's certificate that failed; they are tried again."),
	}
}

// credentialCollectors tell of certificate and CA; times are 0 without one.
func (n *Node) credentialCollectors(gauge func(string, string, func() float64) prometheus.Collector) []prometheus.Collector {
	at := func(f func(*pki.Credentials) time.Time) func() float64 {
		return func() float64 {
			if c := n.credentials(); c != nil {
				return float64(f(c).Unix())
			}
			return 0
		}
	}
	return []prometheus.Collector{
		n.metrics.renewals, n.metrics.renewalsFailed,
		gauge("muster_cluster_certificate_expires_timestamp_seconds", "When this node's certificate runs out; 0 without one.",
			at((*pki.Credentials).Expires)),
		gauge("muster_cluster_certificate_renew_timestamp_seconds", "When this node's certificate is to be renewed; 0 without one.",
			at((*pki.Credentials).RenewAt)),
		gauge("muster_cluster_ca_expires_timestamp_seconds", "When the newest CA that this node believes runs out; 0 without one.",
			at(func(c *pki.Credentials) time.Time {
				cas := c.CAs.Certificates()
				return cas[len(cas)-1].NotAfter
			})),
		gauge("muster_cluster_ca_key_held", "1 on a node that has the CA's key: a voter.", func() float64 {
			if n.caKey.Load() != nil {
				return 1
			}
			return 0
		}),
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (n *Node) unregister() {
	for _, c := range n.collectors {
		n.cfg.Reg.Unregister(c)
	}
}

package cluster

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
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
		gauge("muster_cluster_clock_offset_seconds", "This node's clock minus the median of the members' clocks.",
			func() float64 { return n.ClockOffset().Seconds() }),
		gauge("muster_cluster_certificate_expires_timestamp_seconds", "When this node's certificate runs out; 0 without one.", func() float64 {
			if c := n.credentials(); c != nil {
				return float64(c.Expires().Unix())
			}
			return 0
		}),
	}
	for i, c := range n.collectors {
		if err := n.cfg.Reg.Register(c); err != nil {
			n.collectors = n.collectors[:i]
			n.unregister()
			return fmt.Errorf("cluster metrics: %w", err)
		}
	}
	return nil
}

func (n *Node) unregister() {
	for _, c := range n.collectors {
		n.cfg.Reg.Unregister(c)
	}
}

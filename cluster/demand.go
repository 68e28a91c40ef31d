package cluster

import (
	"sync"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Sharer is a Local that grants tenants their limits in parts: as much of each as
// its node has of the demand. Report tells of that, for tenants by incarnation.
type Sharer interface {
	// SetParts gives this node's part of the demand of each tenant that it has
	// told of, between 0 and 1, and what its part is of one that it has not.
	SetParts(of map[uint64]float64, rest float64)
}

// demand is what nodes have told of how many samples come to them: on the leader,
// of all. It never enters the log.
type demand struct {
	fresh, every time.Duration

	mu     sync.Mutex
	told   map[string]toldDemand // by node
	sum    map[uint64]uint64     // of all that was fresh, by tenant
	summed time.Time
}

type toldDemand struct {
	at              time.Time
	tenants, counts []uint64
}

func newDemand(t Timing) *demand {
	return &demand{fresh: t.Fresh, every: t.Report / 2, told: map[string]toldDemand{}}
}

// Take keeps what a report tells of demand, and takes it out of the report: it is
// as long as there are tenants, and reports are passed on to every node.
func (d *demand) Take(r *clusterpb.Report, now time.Time) toldDemand {
	n := min(len(r.GetDemandTenants()), len(r.GetDemandSamples()))
	t := toldDemand{now, r.GetDemandTenants()[:n], r.GetDemandSamples()[:n]}
	r.DemandTenants, r.DemandSamples = nil, nil
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told[r.GetNode()] = t
	return t
}

// All is how many samples a second come to all nodes that were heard a moment ago,
// for each tenant that one has told of, in its order. It adds them up now and
// then, not for each that asks.
func (d *demand) All(one toldDemand, now time.Time) []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.summed) >= d.every {
		d.add(now)
	}
	all := make([]uint64, len(one.tenants))
	for i, tenant := range one.tenants {
		all[i] = max(d.sum[tenant], one.counts[i])
	}
	return all
}

// add adds up. Under mu.
func (d *demand) add(now time.Time) {
	d.sum, d.summed = make(map[uint64]uint64, len(d.sum)), now
	for node, t := range d.told {
		if now.Sub(t.at) > d.fresh {
			delete(d.told, node)
			continue
		}
		for i, tenant := range t.tenants {
			d.sum[tenant] += t.counts[i]
		}
	}
}

// share tells this node's rooms their part of the demand: own is what it has told,
// all what the leader knows, among so many members.
func (n *Node) share(own toldDemand, all []uint64, members int) {
	s, ok := n.cfg.Local.(Sharer)
	if !ok || len(all) != len(own.tenants) {
		return // a leader of an older release tells nothing
	}
	of := make(map[uint64]float64, len(all))
	for i, tenant := range own.tenants {
		of[tenant] = float64(own.counts[i]) / float64(max(all[i], own.counts[i], 1))
	}
	s.SetParts(of, 1/float64(max(members, 1)))
}

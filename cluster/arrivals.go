package cluster

import (
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// Arrivals is about how many new series each store would get where the ring's
// slots went to the target, by what the members report of theirs.
func (s *State) Arrivals(r *Ring, target []ring.Set, healths []*clusterpb.Health) map[ring.Store]float64 {
	price, series := s.seriesPerSlot(healths), map[ring.Store]float64{}
	if len(price) == 0 {
		return series
	}
	for i := range r.Table.Slots() {
		old := r.Table.At(i).Replicas
		for k := range target[i].Len() {
			to := target[i].At(k)
			if old.Has(to) {
				continue
			}
			most := 0.0
			for j := range old.Len() {
				most = max(most, price[old.At(j)])
			}
			series[to] += most
		}
	}
	return series
}

// QuorumAt is the ring's write quorum if it had this replication factor.
func (r *Ring) QuorumAt(rf int) int { return modeOf(r.Spec.GetWriteQuorum()).Quorum(rf) }

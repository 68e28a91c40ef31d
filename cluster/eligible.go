package cluster

import "github.com/muster-metrics/muster/ring"

// Eligible are the nodes that may hold slots of the ring, by name: the active
// members in its node list, or all active ones where it has none.
func (s *State) Eligible(r *Ring) []ring.Node {
	var out []ring.Node
	for _, m := range s.members {
		if eligible(m) && inList(r, m.GetName()) {
			out = append(out, ring.Node{Store: storeOf(m.GetStore()), Weight: m.GetWeight(), Zone: m.GetZone()})
		}
	}
	return out
}

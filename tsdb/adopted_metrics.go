package tsdb

import "github.com/prometheus/client_golang/prometheus"

// gauges count what is kept, and what of it cannot be read.
func (a *Adopted) gauges() []prometheus.Collector {
	gauge := func(name, help string, of func(*adoptedStore) (n int)) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return a.sum(of) })
	}
	return []prometheus.Collector{
		gauge("muster_tsdb_adopted_stores", "Stores of nodes that left, all of whose blocks are kept here.", func(s *adoptedStore) int {
			if s.seal == nil {
				return 0
			}
			return 1
		}),
		gauge("muster_tsdb_adopted_blocks", "Blocks kept for nodes that left.", (*adoptedStore).readable),
		gauge("muster_tsdb_adopted_unreadable_blocks", "Blocks kept for nodes that left which cannot be read: reads of their time are not complete.", (*adoptedStore).unreadable),
	}
}

func (a *Adopted) sum(of func(*adoptedStore) int) float64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	n := 0
	for _, s := range a.stores {
		n += of(s)
	}
	return float64(n)
}

func (s *adoptedStore) readable() (n int) {
	for _, blocks := range s.blocks {
		n += len(blocks)
	}
	return n
}

func (s *adoptedStore) unreadable() (n int) {
	if s.seal == nil {
		return 0
	}
	for _, t := range s.seal.Tenants {
		for _, b := range t.Blocks {
			if s.blocks[t.key()][b.ULID] == nil {
				n++
			}
		}
	}
	return n
}

package prom

import (
	"errors"

	"github.com/prometheus/prometheus/storage"

	"github.com/muster-metrics/muster/tsdb"
)

// Kept is what this node keeps of the stores of nodes that have left.
type Kept interface {
	// Answering are the stores of which all is here, and that this node was named
	// the custodian of.
	Answering() []tsdb.Keeping
	// ChunkQuerier reads one tenant of one of them; the caller closes it.
	ChunkQuerier(store tsdb.StoreID, key tsdb.Key, mint, maxt int64) (storage.ChunkQuerier, error)
	Status(store tsdb.StoreID, key tsdb.Key) tsdb.Status
}

// withKept reads the kept stores beside q, and closes q where it fails. What
// several stores have of a series is put one behind the other: whoever asked
// merges replicas anyway.
func (r *Reader) withKept(q storage.ChunkQuerier, keeps []tsdb.Keeping, key tsdb.Key, mint, maxt int64) (storage.ChunkQuerier, error) {
	if len(keeps) == 0 {
		return q, nil
	}
	all := []storage.ChunkQuerier{q}
	for _, keep := range keeps {
		kept, err := r.kept.ChunkQuerier(keep.Store, key, mint, maxt)
		if err != nil {
			for _, open := range all {
				err = errors.Join(err, open.Close())
			}
			return nil, err
		}
		all = append(all, kept)
	}
	return storage.NewMergeChunkQuerier(all, nil, storage.NewConcatenatingChunkSeriesMerger()), nil
}

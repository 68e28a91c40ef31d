package tsdb

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// A Keeping is a store of which all is here, and the custody that it was sealed
// for.
type Keeping struct {
	Store   StoreID
	Custody uint64
}

// ChunkQuerier reads what a store that is kept here has of the key in
// [mint, maxt], in milliseconds, both ends included. The caller closes it, soon:
// a block is not removed before. Of a store that is not sealed it reads nothing.
func (a *Adopted) ChunkQuerier(id StoreID, key Key, mint, maxt int64) (storage.ChunkQuerier, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	s := a.stores[id]
	if s == nil || s.seal == nil {
		return storage.NoopChunkedQuerier(), nil
	}
	var qs []storage.ChunkQuerier
	for block, b := range s.blocks[key] {
		if !b.OverlapsClosedInterval(mint, maxt) {
			continue
		}
		q, err := promtsdb.NewBlockChunkQuerier(b, mint, maxt)
		if err != nil {
			errs := []error{fmt.Errorf("query adopted block %s: %w", block, err)}
			for _, open := range qs {
				errs = append(errs, open.Close())
			}
			return nil, errors.Join(errs...)
		}
		qs = append(qs, q)
	}
	merge := storage.NewCompactingChunkSeriesMergerWithFloatEncoding(storage.ChainedSeriesMerge,
		func() chunkenc.Encoding { return chunkenc.EncXOR })
	return storage.NewMergeChunkQuerier(qs, nil, merge), nil
}

// Status of a key of a store that is kept here. A block that the seal names and
// that cannot be read is a gap; a store that is not sealed is not replayed.
func (a *Adopted) Status(id StoreID, key Key) Status {
	a.mu.RLock()
	defer a.mu.RUnlock()
	s := a.stores[id]
	if s == nil || s.seal == nil {
		return Status{MinTime: math.MinInt64}
	}
	out := Status{Replayed: true, MinTime: math.MaxInt64}
	sealed := s.seal.of(key)
	gaps := append([]Interval(nil), sealed.Gaps...)
	for _, b := range sealed.Blocks {
		if s.blocks[key][b.ULID] == nil {
			gaps = union(gaps, Interval{Mint: b.Mint, Maxt: b.Maxt})
		}
		out.MinTime = min(out.MinTime, b.Mint)
	}
	out.Gaps = gaps
	return out
}

// Blocks are those of the key that can be read, by ULID.
func (a *Adopted) Blocks(id StoreID, key Key) []Block {
	a.mu.RLock()
	defer a.mu.RUnlock()
	s := a.stores[id]
	if s == nil {
		return nil
	}
	var out []Block
	for block, b := range s.blocks[key] {
		m := b.Meta()
		out = append(out, Block{ULID: block, Dir: b.Dir(), MinTime: m.MinTime, MaxTime: m.MaxTime, Samples: m.Stats.NumSamples})
	}
	slices.SortFunc(out, func(a, b Block) int { return a.ULID.Compare(b.ULID) })
	return out
}

package tsdb

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// headReader looks single samples up in the in-order head, by reference. Nearly
// all repeats end here, without the index look-ups of a query, which cost fifty
// times as much. What it does not find may still be elsewhere.
type headReader struct {
	index  promtsdb.IndexReader
	chunks promtsdb.ChunkReader

	ref     storage.SeriesRef // whose chunks metas are; 0: none
	builder labels.ScratchBuilder
	labels  labels.Labels
	metas   []chunks.Meta
	it      chunkenc.Iterator
}

func newHeadReader(head *promtsdb.Head, mint, maxt int64) (*headReader, error) {
	view := promtsdb.NewRangeHead(head, mint, maxt)
	index, err := view.Index()
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	chunks, err := view.Chunks()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read back: %w", err), index.Close())
	}
	return &headReader{index: index, chunks: chunks, builder: labels.NewScratchBuilder(16)}, nil
}

func (r *headReader) close() error { return errors.Join(r.chunks.Close(), r.index.Close()) }

// holds reports whether exactly this sample is there.
func (r *headReader) holds(s *straggler) bool {
	if s.ref == 0 || !r.load(s) {
		return false
	}
	for _, m := range r.metas {
		if s.t < m.MinTime || s.t > m.MaxTime {
			continue
		}
		// Truncated away meanwhile: then it is in a block, and not found here.
		c, _, err := r.chunks.ChunkOrIterable(m)
		if err != nil || c == nil {
			return false
		}
		r.it = c.Iterator(r.it)
		at := r.it.Seek(s.t)
		return at != chunkenc.ValNone && r.it.AtT() == s.t && s.same(readingAt(r.it, at))
	}
	return false
}

// load reads the series' chunk list. The labels are compared: a reference is
// never trusted further than that.
func (r *headReader) load(s *straggler) bool {
	if r.ref != s.ref {
		r.ref, r.metas = 0, r.metas[:0]
		if err := r.index.Series(s.ref, &r.builder, &r.metas); err != nil {
			return false
		}
		r.labels = r.builder.Labels()
		r.ref = s.ref
	}
	return labels.Equal(r.labels, viewString(s.labels))
}

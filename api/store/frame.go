package store

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/muster-metrics/muster/proto/storepb"
)

const frameBytes = 1 << 20 // Thanos cuts frames here; the Querier sizes its buffers by it

// sender is the half of a Series stream that frames need. Send has encoded the
// message when it returns, so that its bytes may go with the querier.
type sender interface {
	Send(resp *storepb.SeriesResponse) error
}

// frames cuts series into messages: one series each, or batches where the
// request asks for them.
type frames struct {
	to    sender
	batch int
	// pending are the series of the batch, and the bytes of their chunks.
	pending []*storepb.Series
	bytes   int
	// chunks counts what was sent.
	chunks int
}

// add sends a series, in as many frames as its chunks need.
func (f *frames) add(s series) error {
	names := labelsPB(s.labels)
	for rest := s.chunks; ; {
		out := &storepb.Series{Labels: names}
		size := 0
		for len(rest) > 0 && size < frameBytes {
			c, err := chunkPB(rest[0])
			if err != nil {
				return fmt.Errorf("series %s: %w", s.labels, err)
			}
			out.Chunks = append(out.Chunks, c)
			size += len(c.Raw.Data)
			rest = rest[1:]
		}
		f.chunks += len(out.Chunks)
		if err := f.put(out, size); err != nil {
			return err
		}
		if len(rest) == 0 {
			return nil
		}
	}
}

func (f *frames) put(s *storepb.Series, size int) error {
	if f.batch <= 1 {
		return f.to.Send(&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Series{Series: s}})
	}
	f.pending = append(f.pending, s)
	f.bytes += size
	if len(f.pending) < f.batch && f.bytes < frameBytes {
		return nil
	}
	return f.flush()
}

// flush sends the batch that has begun.
func (f *frames) flush() error {
	if len(f.pending) == 0 {
		return nil
	}
	batch := &storepb.SeriesBatch{Series: f.pending}
	f.pending, f.bytes = nil, 0
	return f.to.Send(&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Batch{Batch: batch}})
}

// encodings are the chunks that exist on this wire.
var encodings = map[chunkenc.Encoding]storepb.Chunk_Encoding{
	chunkenc.EncXOR:            storepb.Chunk_XOR,
	chunkenc.EncHistogram:      storepb.Chunk_HISTOGRAM,
	chunkenc.EncFloatHistogram: storepb.Chunk_FLOAT_HISTOGRAM,
}

func chunkPB(m chunks.Meta) (*storepb.AggrChunk, error) {
	enc, ok := encodings[m.Chunk.Encoding()]
	if !ok {
		return nil, fmt.Errorf("a chunk of encoding %s cannot be sent", m.Chunk.Encoding())
	}
	data := m.Chunk.Bytes()
	return &storepb.AggrChunk{
		MinTime: m.MinTime,
		MaxTime: m.MaxTime,
		Raw:     &storepb.Chunk{Type: enc, Data: data, Hash: xxhash.Sum64(data)},
	}, nil
}

func labelsPB(ls labels.Labels) []*storepb.Label {
	n := ls.Len()
	all, out := make([]storepb.Label, n), make([]*storepb.Label, 0, n)
	ls.Range(func(l labels.Label) {
		p := &all[len(out)]
		p.Name, p.Value = l.Name, l.Value
		out = append(out, p)
	})
	return out
}

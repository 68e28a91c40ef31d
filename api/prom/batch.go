package prom

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// batch gathers series into responses of about batchBytes. A series that does
// not fit goes on in the next one.
type batch struct {
	send     func(*peerpb.SelectResponse) error
	labelled bool // labels only
	limit    int64

	series []*peerpb.Series
	bytes  int
	sent   int64
}

// all sends the whole set, which is sorted.
func (b *batch) all(ctx context.Context, set storage.ChunkSeriesSet) error {
	var it chunks.Iterator
	for (b.limit <= 0 || b.sent < b.limit) && set.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if it, err = b.one(set.At(), it); err != nil {
			return err
		}
		b.sent++
	}
	if err := set.Err(); err != nil {
		return err
	}
	return b.flush()
}

func (b *batch) one(s storage.ChunkSeries, it chunks.Iterator) (chunks.Iterator, error) {
	name := labelBytes(s.Labels())
	b.begin(name)
	if b.labelled {
		return it, b.flushFull()
	}
	it = s.Iterator(it)
	for it.Next() {
		if b.bytes >= batchBytes {
			if err := b.flush(); err != nil {
				return it, err
			}
			b.begin(name)
		}
		m := it.At()
		data := m.Chunk.Bytes()
		last := b.series[len(b.series)-1]
		last.Chunks = append(last.Chunks, &peerpb.Chunk{
			MinTime: m.MinTime, MaxTime: m.MaxTime, Encoding: uint32(m.Chunk.Encoding()), Data: data,
		})
		b.bytes += len(data)
	}
	if err := it.Err(); err != nil {
		return it, fmt.Errorf("read the chunks of %s: %w", s.Labels(), err)
	}
	return it, b.flushFull()
}

func (b *batch) begin(name []byte) {
	b.series = append(b.series, &peerpb.Series{Labels: name})
	b.bytes += len(name) + seriesCost
}

func (b *batch) flushFull() error {
	if b.bytes < batchBytes {
		return nil
	}
	return b.flush()
}

func (b *batch) flush() error {
	if len(b.series) == 0 {
		return nil
	}
	out := &peerpb.SelectResponse{Series: b.series}
	b.series, b.bytes = nil, 0
	return b.send(out)
}

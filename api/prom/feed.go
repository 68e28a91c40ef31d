package prom

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// feed is one node's answer to one select while it comes in: a goroutine reads
// ahead a little, the set gives out series in order. An answer that ends early
// ends the set; what it had said until then is true and is used.
type feed struct {
	batches chan []*replica
	now     []*replica
	at      *replica
	query   *query
}

// readAhead is how many batches wait for the engine, about a megabyte each.
const readAhead = 2

var (
	errOrder = errors.New("series are not in order")
	errChunk = errors.New("malformed chunk")
)

// startFeed asks node; whoever closes the query waits for the goroutine.
func (q *query) startFeed(ctx context.Context, node string, i *inquiry, req *peerpb.SelectRequest) *feed {
	f := &feed{batches: make(chan []*replica, readAhead), query: q}
	q.running.Go(func() {
		defer close(f.batches)
		d := decoder{period: period{req.MinTime, req.MaxTime}, charge: q.charge, scratch: labels.NewScratchBuilder(16)}
		err := q.api.members.ask(ctx, node, req, func(resp *peerpb.SelectResponse) error {
			out, err := d.take(resp)
			if err != nil {
				return err
			}
			return f.put(ctx, out)
		})
		if err == nil && d.provenance == nil {
			err = errors.New("the answer was cut")
		}
		if err == nil {
			err = f.put(ctx, d.rest())
		}
		if err != nil {
			q.missed(ctx, node, err)
			return
		}
		q.heard(i, node, d.provenance)
	})
	return f
}

func (f *feed) put(ctx context.Context, out []*replica) error {
	if len(out) == 0 {
		return nil
	}
	select {
	case f.batches <- out:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Next waits for the next series.
func (f *feed) Next() bool {
	for len(f.now) == 0 {
		batch, ok := <-f.batches
		if !ok {
			return false
		}
		f.now = batch
	}
	f.at, f.now = f.now[0], f.now[1:]
	return true
}

// At is the series that Next moved to.
func (f *feed) At() storage.Series { return f.at }

// Err is only what the query itself did wrong: a silent member is no error.
func (f *feed) Err() error { return f.query.failed() }

// Warnings are none.
func (f *feed) Warnings() annotations.Annotations { return nil }

// decoder reads responses into series; one that goes on in the next response
// is given out when it is whole.
type decoder struct {
	period     period
	charge     func(bytes int) error
	scratch    labels.ScratchBuilder
	open       *replica
	provenance *peerpb.Provenance
}

func (d *decoder) take(resp *peerpb.SelectResponse) ([]*replica, error) {
	var out []*replica
	bytes := 0
	for _, s := range resp.GetSeries() {
		ls, err := labelsOf(s.GetLabels(), &d.scratch)
		if err != nil {
			return nil, err
		}
		bytes += len(s.GetLabels()) + seriesCost
		order := 1
		if d.open != nil {
			order = labels.Compare(ls, d.open.labels)
		}
		if order < 0 {
			return nil, fmt.Errorf("%w: %s after %s", errOrder, ls, d.open.labels)
		}
		if order > 0 {
			if d.open != nil {
				out = append(out, d.open)
			}
			d.open = &replica{labels: ls, period: d.period}
		}
		for _, c := range s.GetChunks() {
			ch, err := chunkOf(c)
			if err != nil {
				return nil, fmt.Errorf("series %s: %w", ls, err)
			}
			bytes += len(ch.data)
			d.open.chunks = append(d.open.chunks, ch)
		}
	}
	if p := resp.GetProvenance(); p != nil {
		d.provenance = p
	}
	return out, d.charge(bytes)
}

func (d *decoder) rest() []*replica {
	if d.open == nil {
		return nil
	}
	return []*replica{d.open}
}

// minChunk is the header that a chunk's iterator reads without looking.
var minChunk = map[chunkenc.Encoding]int{
	chunkenc.EncXOR:            2,
	chunkenc.EncHistogram:      3,
	chunkenc.EncFloatHistogram: 3,
}

// chunkOf copies the chunk: its bytes belong to the sender, which may be this
// node's own TSDB.
func chunkOf(c *peerpb.Chunk) (chunk, error) {
	enc := chunkenc.Encoding(min(c.GetEncoding(), 255))
	size, ok := minChunk[enc]
	if !ok || len(c.GetData()) < size {
		return chunk{}, fmt.Errorf("%w: encoding %d, %d bytes", errChunk, c.GetEncoding(), len(c.GetData()))
	}
	return chunk{c.GetMinTime(), c.GetMaxTime(), enc, slices.Clone(c.GetData())}, nil
}

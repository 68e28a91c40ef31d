package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// series is one series with the labels it is sent with. Its chunks' bytes are
// valid until the querier they came from is closed.
type series struct {
	labels labels.Labels
	chunks []chunks.Meta
}

// errCollision ends a stream whose order could not be kept: a label that this
// door adds or removes appeared inside a series after the stream had begun.
var errCollision = status.Error(codes.Aborted, "a series with a replaced label appeared while streaming: ask again")

// held is a series that waits for others that may sort before it.
type held struct {
	series
	// stored are its labels in the TSDB.
	stored []labels.Label
}

// cursor walks one tenant's series in the order of their labels as sent.
type cursor struct {
	external labels.Labels
	// drop are the names in without_replica_labels, gone from both.
	drop []string
	// last is the greatest name among the external labels; "" without any.
	last     string
	replaced []string // drop and the names of the external labels
	shard    *shard
	labelled bool // labels only

	set     storage.ChunkSeriesSet
	querier storage.ChunkQuerier
	builder *labels.Builder
	names   []labels.Label

	at    series
	stack []held   // each extends the one below it, and sorts before it
	queue []series // to be given out, in order
	ended bool
}

// openCursor selects from one tenant. The caller closes the cursor.
func openCursor(ctx context.Context, v view, q storage.ChunkQuerier, req *request, inner []*labels.Matcher) (*cursor, error) {
	external := without(v.external, req.drop)
	c := &cursor{
		external: external,
		drop:     req.drop,
		replaced: slices.Clone(req.drop),
		shard:    req.shard,
		labelled: req.skipChunks,
		querier:  q,
		builder:  labels.NewBuilder(labels.EmptyLabels()),
	}
	external.Range(func(l labels.Label) {
		c.last = l.Name
		c.replaced = append(c.replaced, l.Name)
	})
	sorted, err := c.keepsOrder(ctx)
	if err != nil {
		return c, err
	}
	c.set = q.Select(ctx, true, req.hints(), inner...)
	if !sorted {
		if err := c.gather(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

// without is ls without the names.
func without(ls labels.Labels, names []string) labels.Labels {
	return labels.NewBuilder(ls).Del(names...).Labels()
}

// keepsOrder says whether no series of the TSDB has a label that is replaced.
func (c *cursor) keepsOrder(ctx context.Context) (bool, error) {
	for _, name := range c.replaced {
		values, _, err := c.querier.LabelValues(ctx, name, &storage.LabelHints{Limit: 1})
		if err != nil {
			return false, fmt.Errorf("look for the label %s: %w", name, err)
		}
		if len(values) > 0 {
			return false, nil
		}
	}
	return true, nil
}

// gather reads everything and sorts it: the price of a replaced label that
// lives inside the series. Chunks stay where they are until they are sent.
func (c *cursor) gather(ctx context.Context) error {
	for c.set.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, ok, err := c.read()
		if err != nil {
			return err
		}
		if ok {
			c.queue = append(c.queue, s)
		}
	}
	c.ended = true
	slices.SortStableFunc(c.queue, func(a, b series) int { return labels.Compare(a.labels, b.labels) })
	return c.set.Err()
}

// next moves to the next series; false at the end or on an error.
func (c *cursor) next(ctx context.Context) (bool, error) {
	for len(c.queue) == 0 {
		if c.ended {
			return false, nil
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if !c.set.Next() {
			c.ended = true
			c.release(nil)
			if err := c.set.Err(); err != nil {
				return false, err
			}
			continue
		}
		if err := c.take(); err != nil {
			return false, err
		}
	}
	c.at, c.queue = c.queue[0], c.queue[1:]
	return true, nil
}

// take reads the TSDB's current series, gives out what need not wait for it,
// and lets it wait itself.
func (c *cursor) take() error {
	stored := c.set.At().Labels()
	for _, name := range c.replaced {
		if stored.Has(name) {
			return errCollision
		}
	}
	s, ok, err := c.read()
	if err != nil || !ok {
		return err
	}
	c.names = c.names[:0]
	stored.Range(func(l labels.Label) { c.names = append(c.names, l) })
	c.release(c.names)
	c.stack = append(c.stack, held{s, slices.Clone(c.names)})
	return nil
}

// release gives out what no later series can sort before, when the TSDB has
// come to a series with the labels now (nil: to its end).
//
// A waits only for series that begin with A's labels: these follow A at once,
// and sort before it as long as their next name is below an external one, which
// is where the external labels of A stand.
func (c *cursor) release(now []labels.Label) {
	for n := len(c.stack) - 1; n >= 0; n-- {
		a := c.stack[n].stored
		extends := len(now) > len(a) && slices.Equal(now[:len(a)], a)
		if extends && now[len(a)].Name < c.last {
			return
		}
		c.queue = append(c.queue, c.stack[n].series)
		c.stack = c.stack[:n]
	}
}

// read turns the TSDB's current series into what is sent; ok is false where
// another shard has it or nothing of it lies in the asked time.
func (c *cursor) read() (s series, ok bool, err error) {
	at := c.set.At()
	c.builder.Reset(at.Labels())
	c.builder.Del(c.drop...)
	c.external.Range(func(l labels.Label) { c.builder.Set(l.Name, l.Value) })
	s.labels = c.builder.Labels()
	if !c.shard.has(s.labels) {
		return series{}, false, nil
	}
	if c.labelled {
		return s, true, nil
	}
	it := at.Iterator(nil)
	for it.Next() {
		s.chunks = append(s.chunks, it.At())
	}
	if err := it.Err(); err != nil {
		return series{}, false, fmt.Errorf("read the chunks of %s: %w", s.labels, err)
	}
	slices.SortStableFunc(s.chunks, func(a, b chunks.Meta) int { return int(min(1, max(-1, a.MinTime-b.MinTime))) })
	return s, len(s.chunks) > 0, nil
}

func (c *cursor) close() error { return c.querier.Close() }

package tsdb

import (
	"context"
	"fmt"
	"sync"

	"github.com/prometheus/prometheus/storage"
)

// ChunkQuerier reads what the tenant holds in [mint, maxt], in milliseconds, both
// ends included. The caller closes it, soon: the tenant cannot be closed, nor a
// cut finished, before. While moved series are let go it may wait for some
// seconds. A key that is not served is ErrUnknownTenant; one that is still being
// replayed after some seconds, or could not be, ErrNotReady.
func (d *DB) ChunkQuerier(key Key, mint, maxt int64) (storage.ChunkQuerier, error) {
	t, err := d.find(key)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	ctx, cancel := context.WithTimeout(d.ctx, readWait)
	defer cancel()
	e, err := t.acquire(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	if e == nil {
		return storage.NoopChunkedQuerier(), nil
	}
	q, err := e.openQuerier(d.ctx, mint, maxt)
	if err != nil {
		t.release()
		return nil, fmt.Errorf("query: %w", err)
	}
	return &querier{ChunkQuerier: q, close: sync.OnceValue(func() error {
		defer t.release()
		return q.Close()
	})}, nil
}

// openQuerier opens one as soon as readers may go in.
func (e *engine) openQuerier(ctx context.Context, mint, maxt int64) (storage.ChunkQuerier, error) {
	if err := e.readers.pass(ctx); err != nil {
		return nil, fmt.Errorf("closed: %w", ErrNotReady)
	}
	return e.db.ChunkQuerier(mint, maxt)
}

// querier keeps its engine open until it is closed, which may be twice.
type querier struct {
	storage.ChunkQuerier
	close func() error
}

func (q *querier) Close() error { return q.close() }

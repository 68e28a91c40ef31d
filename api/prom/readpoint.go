package prom

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// readPoint asks for the revision that a query must be judged at, beside the
// query itself: without it a node that has not heard of a change yet could call
// an answer complete that lacks what the new owners acknowledged.
type readPoint struct {
	ask func(ctx context.Context) (uint64, error)
	now func() time.Time
	// until is when it is asked again after a failure, Unix nanoseconds.
	until atomic.Int64
}

const (
	readPointPatience = 500 * time.Millisecond
	readPointRest     = 2 * time.Second // without a leader, queries shall not wait each time
)

// start gives the revision when it is known, or 0.
func (p *readPoint) start(ctx context.Context) <-chan uint64 {
	out := make(chan uint64, 1)
	if p.ask == nil || p.now().UnixNano() < p.until.Load() {
		out <- 0
		return out
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, readPointPatience)
		defer cancel()
		rev, err := p.ask(ctx)
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			p.until.Store(p.now().Add(readPointRest).UnixNano())
		}
		if err != nil {
			rev = 0
		}
		out <- rev
	}()
	return out
}

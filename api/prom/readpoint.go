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
	// why is what that failure was.
	why atomic.Pointer[error]
}

const (
	// readPointPatience is longer than an election takes (about five seconds):
	// a query waits for the new leader rather than calling itself incomplete.
	readPointPatience = 10 * time.Second
	readPointRest     = 2 * time.Second // without a leader, queries shall not wait each time
)

// confirmed is the read point of one query.
type confirmed struct {
	revision uint64
	err      error // why nobody could confirm it
}

// before is why a query just before had no answer.
func (p *readPoint) before() error {
	if err := p.why.Load(); err != nil {
		return *err
	}
	return errors.New("no leader a moment ago")
}

// start gives the read point when it is known.
func (p *readPoint) start(ctx context.Context) <-chan confirmed {
	out := make(chan confirmed, 1)
	switch {
	case p.ask == nil:
		out <- confirmed{}
		return out
	case p.now().UnixNano() < p.until.Load():
		out <- confirmed{err: p.before()}
		return out
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, readPointPatience)
		defer cancel()
		rev, err := p.ask(ctx)
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			p.why.Store(&err)
			p.until.Store(p.now().Add(readPointRest).UnixNano())
		}
		out <- confirmed{rev, err}
	}()
	return out
}

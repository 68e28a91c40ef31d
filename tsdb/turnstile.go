package tsdb

import (
	"context"
	"sync"
)

// turnstile holds readers for a moment in which none is wanted. Its zero value is
// open.
type turnstile struct {
	mu     sync.Mutex
	closed chan struct{} // closed when it opens; nil: it is open
}

func (t *turnstile) shut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed == nil {
		t.closed = make(chan struct{})
	}
}

func (t *turnstile) open() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed != nil {
		close(t.closed)
		t.closed = nil
	}
}

// pass waits until it opens, once: who has waited goes in.
func (t *turnstile) pass(ctx context.Context) error {
	t.mu.Lock()
	closed := t.closed
	t.mu.Unlock()
	if closed == nil {
		return nil
	}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

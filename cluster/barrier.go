package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// barrier shares linearizable read points: all who ask while one is on its way
// wait together for the next one.
type barrier struct {
	// run makes one barrier; its revision covers whatever was committed when
	// it began.
	run func() (uint64, error)
	// spawn starts a goroutine that is waited for when the node closes; false:
	// it is closed.
	spawn func(func()) bool

	mu      sync.Mutex
	next    *round
	running bool
}

type round struct {
	done     chan struct{}
	revision uint64
	err      error
}

// Start asks for a barrier and waits for nothing.
func (b *barrier) Start() { b.join() }

// Wait waits for a barrier that begins from now on.
func (b *barrier) Wait(ctx context.Context) (uint64, error) {
	r := b.join()
	select {
	case <-r.done:
		return r.revision, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (b *barrier) join() *round {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = &round{done: make(chan struct{})}
	}
	r := b.next
	if !b.running {
		b.running = true
		if !b.spawn(b.loop) {
			b.running, b.next = false, nil
			r.err = ErrClosed
			close(r.done)
		}
	}
	return r
}

func (b *barrier) loop() {
	for {
		b.mu.Lock()
		r := b.next
		b.next = nil
		if r == nil {
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		r.revision, r.err = b.run()
		close(r.done)
	}
}

// Barrier is a linearizable read point, on whichever node: when it returns,
// State has every change that was answered before it was called. Readers that
// wait at the same time share one. The revision is this node's.
func (n *Node) Barrier(ctx context.Context) (uint64, error) {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	for {
		rev, err := n.barrier.Wait(ctx)
		switch {
		case err == nil:
			if err := n.fsm.WaitApplied(ctx, rev); err != nil {
				return 0, err
			}
			// A state that differs from the others' is none to judge by, though it
			// has the revision: it is about to be replaced.
			why := n.Doubt()
			if why == "" {
				return n.fsm.Applied(), nil
			}
			if n.pause(ctx) != nil {
				return 0, fmt.Errorf("no read point at revision %d: %s", rev, why)
			}
			continue
		case errors.Is(err, ErrClosed), errors.Is(err, ErrNoCluster):
			return 0, err
		case n.Standing() != nil:
			return 0, n.Standing()
		case errors.Is(err, ErrNoLeader) && n.hopeless():
			return 0, n.noLeader()
		}
		if n.pause(ctx) != nil {
			return 0, n.unanswered(ctx, false)
		}
	}
}

// barrierOnce makes one barrier, here or at the leader.
func (n *Node) barrierOnce() (uint64, error) {
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.Timing.Wait)
	defer cancel()
	e := n.engine.Load()
	switch {
	case e == nil:
		return 0, n.outside()
	case n.Standing() != nil:
		return 0, n.Standing()
	case e.raft.State() == raft.Leader:
		return n.barrierHere(ctx, e)
	}
	return n.forwardBarrier(ctx, e)
}

func (n *Node) barrierHere(ctx context.Context, e *engine) (uint64, error) {
	limit := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline), time.Millisecond)
	}
	if err := e.wait(ctx, e.raft.Barrier(limit)); err != nil {
		return 0, err
	}
	if why := n.fsm.Halted(); why != "" {
		return 0, fmt.Errorf("%w: %s should, and applies nothing more: %s", ErrNoLeader, n.cfg.Name, why)
	}
	return n.fsm.Applied(), nil
}

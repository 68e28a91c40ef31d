package cluster

import "sync"

// crew is goroutines that end before their owner does.
type crew struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// Go runs f, unless the crew was dismissed: then it says false.
func (c *crew) Go(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// Dismiss takes no more work and waits for what there is.
func (c *crew) Dismiss() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
}

// bell wakes one who waits. Ringing it again before he wakes changes nothing.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

// Ring never blocks.
func (b bell) Ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

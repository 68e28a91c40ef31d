package tsdb

import "runtime"

// aside runs f on a thread of its own that gives way to all others of the
// machine, and waits for it: for work that is long, whose end nobody waits for
// with a write. What f locks is held longer so: it is not for what writes wait
// for.
func aside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its priority
		// with it, which a process without rights could not raise again.
		runtime.LockOSThread()
		giveWay()
		done <- f()
	}()
	return <-done
}

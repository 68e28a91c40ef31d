package ingest

import (
	"context"
	"sync"
)

// backlog is what waits for this node's own storage though its writes have been
// answered, in bytes of frames. Others may make the quorum while this storage
// hangs: what is left behind is bounded then, as on the way to a peer.
type backlog struct {
	mu    sync.Mutex
	bytes int64
}

// ownShare is a share for this node's own storage.
type ownShare struct {
	backlog *backlog
	bytes   int64
	giveUp  context.CancelFunc // ends waiting; what the storage has begun goes on

	left, done, given bool // under backlog.mu
}

// leave says that the share's write has been answered. Where too much is left
// behind, at most so many bytes, the share waits no longer.
func (o *ownShare) leave(most int64) {
	o.backlog.mu.Lock()
	defer o.backlog.mu.Unlock()
	switch {
	case o.done:
	case o.backlog.bytes+o.bytes > most:
		o.given = true
		o.giveUp()
	default:
		o.left = true
		o.backlog.bytes += o.bytes
	}
}

// end says that the storage is done with the share, and answers whether the
// share had been given up.
func (o *ownShare) end() bool {
	o.backlog.mu.Lock()
	defer o.backlog.mu.Unlock()
	o.done = true
	if o.left {
		o.backlog.bytes -= o.bytes
	}
	o.giveUp()
	return o.given
}

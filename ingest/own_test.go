package ingest

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// hung is a storage whose appends wait for one that never ends.
type hung struct {
	waiting atomic.Int64
	end     chan struct{}
}

func (h *hung) Append(ctx context.Context, _ string, _ uint64, _ Share, _, _ bool, _ []peerpb.Outcome) (uint64, int, error) {
	h.waiting.Add(1)
	defer h.waiting.Add(-1)
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-h.end:
		return 0, 0, errClosed
	}
}

func (h *hung) Disown(context.Context, string, uint64, Share) error { return nil }

// TestWhatOwnStorageLeavesBehindIsBounded: the others make the quorum of each
// write, and what this node's own storage does not take must not pile up.
func TestWhatOwnStorageLeavesBehindIsBounded(t *testing.T) {
	b := newBed(t, 3, func(c *Config) { c.PeerBytes = 10_000 })
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	n := b.nodes[0]
	h := &hung{end: make(chan struct{})}
	n.ing.storage = h
	t.Cleanup(func() { close(h.end) })
	at := now()
	for i := range int64(20) {
		n.mustPost(samplesOf(50, at+i, 1), http.StatusNoContent)
	}
	// A share is about four thousand bytes, and twice PeerBytes may wait.
	eventually(t, "few shares wait", func() bool { return h.waiting.Load() <= 5 })
	if h.waiting.Load() == 0 {
		t.Error("none is left to wait")
	}
	n.ing.own.mu.Lock()
	defer n.ing.own.mu.Unlock()
	if got := n.ing.own.bytes; got <= 10_000 || got > 20_000 {
		t.Errorf("%d bytes wait", got)
	}
}

// TestCloseDoesNotWaitForAStorageThatHangs: what waits for its turn behind a hung
// append would wait for as long as on the way to a peer.
func TestCloseDoesNotWaitForAStorageThatHangs(t *testing.T) {
	b := newBed(t, 3, func(c *Config) { c.CloseWait, c.PeerAge = 50*time.Millisecond, time.Hour })
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	n := b.nodes[0]
	h := &hung{end: make(chan struct{})}
	n.ing.storage = h
	n.mustPost(samplesOf(50, now(), 1), http.StatusNoContent)
	eventually(t, "it waits", func() bool { return h.waiting.Load() == 1 })
	closed := make(chan struct{})
	go func() { n.ing.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("Close still waits")
	}
	close(h.end)
	<-closed
}

package ingest

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/muster-metrics/muster/proto/peerpb"
)

const (
	// minBackoff and maxBackoff lie between two attempts. While the connection
	// below is down an attempt costs nothing, it fails at once.
	minBackoff = 50 * time.Millisecond
	maxBackoff = 200 * time.Millisecond
	// missedWait is how long a share that its peer could not take for the moment
	// rests before it is sent again.
	missedWait = time.Second
	// mostDoubled is how often that is doubled where the peer cannot take it.
	mostDoubled = 3
)

// lane is one long-lived stream to a peer. Shares are multiplexed over it by
// id. While it is down, a share fails at once; what fails so, or finds the peer
// not able for the moment, waits here for a while and is sent again as a
// repeat, though nobody waits for its answer any more.
type lane struct {
	peer  *peer
	peers *peers

	mu      sync.Mutex
	down    bool  // between two attempts
	reason  error // why
	id      uint64
	queue   []*parcel          // to be sent, in order
	pending map[uint64]*parcel // sent, unanswered
	missed  []*parcel          // to be sent again, oldest first
	waiting []*parcel          // without room yet, not counted in the peer's bytes
	flights flights            // which of them may be under way
	last    string             // tenant of the parcel that was sent last
	left    int64              // bytes of those whose writes have been answered
	ended   bool
	wake    chan struct{}
}

func newLane(p *peer, ps *peers) *lane {
	return &lane{peer: p, peers: ps, pending: map[uint64]*parcel{}, wake: make(chan struct{}, 1)}
}

// submit queues a parcel, or tells it at once that it cannot go. One for which
// there is no room yet waits: its write is still being served and has been
// admitted. abandon ends that.
func (l *lane) submit(c *parcel) {
	l.mu.Lock()
	room := !l.ended && l.peer.take(l.peers.room(), c)
	var err error
	var done func(answer)
	switch {
	case l.ended:
		err, done = errClosed, c.done
	case l.down:
		err, done = l.peer.unreachable(l.reason), c.done
		c.done = nil
		if room {
			l.miss(c, 0)
		}
	case room:
		l.enqueue(c)
	default:
		l.waiting = append(l.waiting, c)
	}
	l.mu.Unlock()
	if done == nil {
		l.poke()
		return
	}
	if !room {
		l.lose(c)
	}
	done(answer{err: err})
}

// enqueue puts a parcel at the end of the queue, or lets it wait for those of its
// tenant that are under way; l.mu is held.
func (l *lane) enqueue(c *parcel) {
	if l.flights.begin(c) {
		l.push(c)
	}
}

// push puts a parcel at the end of the queue; l.mu is held.
func (l *lane) push(c *parcel) {
	c.since = time.Now()
	l.queue = append(l.queue, c)
}

// lose gives up a parcel that has no room: the peer has to fetch it.
func (l *lane) lose(c *parcel) {
	l.peers.metrics.missedSamples.WithLabelValues("dropped").Add(float64(c.share.Samples))
	c.buf.release()
}

// abandon says that the parcel's write has been answered. Where it still waits
// for room it may go on doing so, but what is left so is bounded too.
func (l *lane) abandon(c *parcel) {
	n := int64(len(c.frames))
	l.mu.Lock()
	k := slices.Index(l.waiting, c)
	if k < 0 {
		l.mu.Unlock()
		return
	}
	c.done = nil
	keep := l.left+n <= l.peers.room()/int64(len(l.peer.lanes))
	if keep {
		c.left = true
		l.left += n
	} else {
		l.waiting = slices.Delete(l.waiting, k, k+1)
	}
	l.mu.Unlock()
	if !keep {
		l.lose(c)
	}
}

// unwait accounts for a parcel that leaves waiting; l.mu is held.
func (l *lane) unwait(c *parcel) {
	if c.left {
		c.left = false
		l.left -= int64(len(c.frames))
	}
}

// promote queues those waiting parcels for which there is room now, in order.
func (l *lane) promote() {
	l.mu.Lock()
	if len(l.waiting) == 0 {
		l.mu.Unlock()
		return
	}
	n := len(l.queue)
	l.waiting = slices.DeleteFunc(l.waiting, func(c *parcel) bool {
		if !l.peer.take(l.peers.room(), c) {
			return false
		}
		l.unwait(c)
		l.enqueue(c)
		return true
	})
	more := len(l.queue) > n
	l.mu.Unlock()
	if more {
		l.poke()
	}
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// miss keeps a parcel for another try; l.mu is held.
func (l *lane) miss(c *parcel, wait time.Duration) {
	c.due = time.Now().Add(wait)
	c.share = repeatOf(c.share)
	l.missed = append(l.missed, c)
}

// repeatOf is the share as it is sent again, when nobody waits for it. It is
// another one because gRPC may still be reading the first.
func repeatOf(s *peerpb.Share) *peerpb.Share {
	return &peerpb.Share{
		Tenant: s.Tenant, Incarnation: s.Incarnation, Ring: s.Ring, Store: s.Store, Seen: s.Seen, Need: s.Need,
		Repeat: true, Series: s.Series, Samples: s.Samples, Traceparent: s.Traceparent,
	}
}

// run keeps the stream up until ctx ends.
func (l *lane) run(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		up, err := l.session(ctx)
		if up {
			backoff = minBackoff
		}
		l.fail(err)
		select {
		case <-time.After(backoff/2 + rand.N(backoff)):
		case <-ctx.Done():
		}
		backoff = min(2*backoff, maxBackoff)
		l.revive()
	}
	l.finish()
}

// fail tells everybody that the stream is down. What was on its way is missed.
func (l *lane) fail(err error) {
	l.mu.Lock()
	lost := append(l.queue, l.flights.clear()...)
	for _, c := range l.pending {
		lost = append(lost, c)
	}
	slices.SortFunc(lost, func(a, b *parcel) int { return a.born.Compare(b.born) })
	waiting := l.waiting
	l.queue, l.waiting, l.left, l.down, l.reason = nil, nil, 0, true, err
	clear(l.pending)
	var tell []func(answer)
	for _, c := range slices.Concat(lost, waiting) {
		if c.done != nil {
			tell = append(tell, c.done)
			c.done = nil
		}
	}
	for _, c := range lost {
		l.miss(c, 0)
	}
	l.mu.Unlock()
	l.expire()
	for _, c := range waiting {
		l.lose(c)
	}
	for _, done := range tell {
		done(answer{err: l.peer.unreachable(err)})
	}
}

// revive takes shares again, for the next attempt.
func (l *lane) revive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// finish gives up everything that is left.
func (l *lane) finish() {
	l.mu.Lock()
	l.ended = true
	left := slices.Concat(l.queue, l.missed, l.flights.clear())
	for _, c := range l.pending {
		left = append(left, c)
	}
	waiting := l.waiting
	l.queue, l.missed, l.waiting, l.pending, l.left = nil, nil, nil, nil, 0
	l.mu.Unlock()
	for _, c := range left {
		l.peer.drop(c)
		c.tell(answer{err: errClosed})
	}
	for _, c := range waiting {
		l.lose(c)
		c.tell(answer{err: errClosed})
	}
}

// pop moves a parcel of the queue to the pending ones: the first, or the first of
// another tenant than was sent last, so that nobody waits behind all that one
// tenant has queued. A tenant's own stay in order. What it gives is a reader of
// the frames of its own: an early answer may end the parcel.
func (l *lane) pop() (*outgoing, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil, false
	}
	k := max(0, slices.IndexFunc(l.queue, func(c *parcel) bool { return c.share.Tenant != l.last }))
	c := l.queue[k]
	copy(l.queue[1:k+1], l.queue[:k])
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.last = c.share.Tenant
	l.id++
	c.share.Id = l.id
	c.since = time.Now()
	l.pending[l.id] = c
	return &outgoing{share: c.share, frames: c.frames, buf: c.buf.retain()}, true
}

// answered takes an answer of the stream.
func (l *lane) answered(res *peerpb.ShareResult) {
	l.mu.Lock()
	c := l.pending[res.Id]
	if c == nil {
		l.mu.Unlock()
		return
	}
	delete(l.pending, res.Id)
	if now := time.Now(); res.Status == peerpb.Status_BEHIND && c.done != nil && now.Before(c.until) {
		// It stored nothing and has waited already; its write has time still.
		c.share = repeatOf(c.share)
		c.share.TimeoutMs = uint32(max(c.until.Sub(now).Milliseconds(), 1))
		l.push(c)
		l.mu.Unlock()
		l.poke()
		return
	}
	next := l.flights.end(c)
	if next != nil {
		l.push(next)
	}
	done := c.done
	c.done = nil
	// Of a patient share the lane has another parcel, of the whole, already.
	again := c.until.IsZero() && (res.Status == peerpb.Status_BEHIND || res.Status == peerpb.Status_UNAVAILABLE)
	if again {
		l.miss(c, missedWait<<min(c.tries, mostDoubled))
		if res.Status == peerpb.Status_UNAVAILABLE {
			c.tries++ // it has enough to do: do not send it the same every second
		}
	} else if c.share.Repeat && done == nil {
		l.peers.metrics.caughtUp(c.share, res)
	}
	l.mu.Unlock()
	if next != nil {
		l.poke()
	}
	if !again {
		l.peer.drop(c)
	}
	if done != nil {
		done(answer{res: res})
	}
}

// requeue moves what is due to the queue.
func (l *lane) requeue() {
	l.mu.Lock()
	now := time.Now()
	n := len(l.queue)
	l.missed = slices.DeleteFunc(l.missed, func(c *parcel) bool {
		if c.due.After(now) {
			return false
		}
		l.enqueue(c)
		return true
	})
	more := len(l.queue) > n
	l.mu.Unlock()
	if more {
		l.poke()
	}
}

// expire gives up what has been missed, or has waited, for too long: from then
// on the peer has to fetch it.
func (l *lane) expire() {
	limit := time.Now().Add(-l.peers.cfg.PeerAge)
	var missed, waited []*parcel
	var tell []func(answer)
	take := func(from []*parcel, to *[]*parcel) []*parcel {
		return slices.DeleteFunc(from, func(c *parcel) bool {
			old := c.born.Before(limit) && c.done == nil
			if old {
				*to = append(*to, c)
				l.unwait(c)
			}
			return old
		})
	}
	l.mu.Lock()
	l.missed = take(l.missed, &missed)
	l.waiting = take(l.waiting, &waited)
	for _, c := range l.flights.expire(limit) {
		missed = append(missed, c)
		if c.done != nil {
			tell = append(tell, c.done)
			c.done = nil
		}
	}
	l.mu.Unlock()
	for _, done := range tell {
		done(answer{err: l.peer.unreachable(errSilent)})
	}
	for _, c := range missed {
		l.peers.metrics.missedSamples.WithLabelValues("dropped").Add(float64(c.share.Samples))
		l.peer.drop(c)
	}
	for _, c := range waited {
		l.lose(c)
	}
}

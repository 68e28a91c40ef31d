package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/proto/peerpb"
)

const (
	// connectWait is how long a stream may take to come up.
	connectWait = 3 * time.Second
	// minBackoff and maxBackoff lie between two attempts.
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
	// missedWait is how long a share that its peer could not take for the moment
	// rests before it is sent again.
	missedWait = time.Second
)

var (
	errQueueFull = errors.New("too much is on its way already")
	errSilent    = errors.New("no answer")
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
	ended   bool
	wake    chan struct{}
}

func newLane(p *peer, ps *peers) *lane {
	return &lane{peer: p, peers: ps, pending: map[uint64]*parcel{}, wake: make(chan struct{}, 1)}
}

// submit queues a parcel, or tells it at once that it cannot go.
func (l *lane) submit(c *parcel) {
	if !l.peer.take(l.peers.cfg.PeerBytes, c) {
		l.peers.metrics.missedSamples.WithLabelValues("dropped").Add(float64(c.share.Samples))
		c.buf.release()
		c.tell(answer{err: l.peer.unreachable(errQueueFull)})
		return
	}
	l.mu.Lock()
	down, reason := l.down, l.reason
	switch {
	case l.ended:
		l.mu.Unlock()
		l.peer.drop(c)
		c.tell(answer{err: errClosed})
		return
	case down:
		done := c.done
		c.done = nil
		l.miss(c, 0)
		l.mu.Unlock()
		done(answer{err: l.peer.unreachable(reason)})
		return
	}
	c.since = time.Now()
	l.queue = append(l.queue, c)
	l.mu.Unlock()
	l.poke()
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
		Repeat: true, Series: s.Series, Samples: s.Samples,
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
	lost := l.queue
	for _, c := range l.pending {
		lost = append(lost, c)
	}
	slices.SortFunc(lost, func(a, b *parcel) int { return a.born.Compare(b.born) })
	l.queue, l.down, l.reason = nil, true, err
	clear(l.pending)
	var tell []func(answer)
	for _, c := range lost {
		if c.done != nil {
			tell = append(tell, c.done)
			c.done = nil
		}
		l.miss(c, 0)
	}
	l.mu.Unlock()
	l.expire()
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
	left := append(l.queue, l.missed...)
	for _, c := range l.pending {
		left = append(left, c)
	}
	l.queue, l.missed, l.pending = nil, nil, nil
	l.mu.Unlock()
	for _, c := range left {
		l.peer.drop(c)
		c.tell(answer{err: errClosed})
	}
}

// session is the life of one stream: it comes up, carries shares and answers,
// and breaks.
func (l *lane) session(ctx context.Context) (up bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(connectWait, func() { cancel(fmt.Errorf("not connected after %s", connectWait)) })
	defer slow.Stop()
	stream, err := l.connect(ctx)
	if err != nil {
		return false, cmp.Or(context.Cause(ctx), err)
	}
	if !slow.Stop() {
		return false, context.Cause(ctx)
	}
	var both sync.WaitGroup
	both.Go(func() { cancel(l.receive(stream)) })
	both.Go(func() { cancel(l.transmit(ctx, stream)) })
	l.watch(ctx, cancel)
	both.Wait()
	return true, context.Cause(ctx)
}

func (l *lane) connect(ctx context.Context) (grpc.ClientStream, error) {
	conn, err := l.peers.dialer.Dial(ctx, l.peer.node)
	if err != nil {
		return nil, err
	}
	desc := &peerpb.Replication_ServiceDesc.Streams[0]
	stream, err := conn.NewStream(ctx, desc, peerpb.Replication_Shares_FullMethodName, grpc.CallContentSubtype(codecName))
	if err != nil {
		return nil, err
	}
	// The other side answers with its header before it takes anything.
	head, err := stream.Header()
	if err != nil {
		return nil, err
	}
	if head == nil { // it ended without one, and says why
		return nil, cmp.Or(stream.RecvMsg(&peerpb.ShareResult{}), io.ErrUnexpectedEOF)
	}
	return stream, nil
}

// transmit sends what is queued, in order.
func (l *lane) transmit(ctx context.Context, stream grpc.ClientStream) error {
	for {
		out, ok := l.pop()
		if !ok {
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := stream.SendMsg(out)
		out.buf.release()
		if err != nil {
			// The reason is what the stream says to its reader.
			<-ctx.Done()
			return err
		}
	}
}

// pop moves the first parcel of the queue to the pending ones. What it gives
// is a reader of the frames of its own: an early answer may end the parcel.
func (l *lane) pop() (*outgoing, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil, false
	}
	c := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.id++
	c.share.Id = l.id
	c.since = time.Now()
	l.pending[l.id] = c
	return &outgoing{share: c.share, frames: c.frames, buf: c.buf.retain()}, true
}

// receive takes the answers.
func (l *lane) receive(stream grpc.ClientStream) error {
	for {
		res := &peerpb.ShareResult{}
		if err := stream.RecvMsg(res); err != nil {
			return err
		}
		l.answered(res)
	}
}

func (l *lane) answered(res *peerpb.ShareResult) {
	l.mu.Lock()
	c := l.pending[res.Id]
	if c == nil {
		l.mu.Unlock()
		return
	}
	delete(l.pending, res.Id)
	done := c.done
	c.done = nil
	again := res.Status == peerpb.Status_BEHIND || res.Status == peerpb.Status_UNAVAILABLE
	if again {
		l.miss(c, missedWait)
	} else if c.share.Repeat && done == nil {
		l.peers.metrics.missedSamples.WithLabelValues("sent").Add(float64(c.share.Samples))
	}
	l.mu.Unlock()
	if !again {
		l.peer.drop(c)
	}
	if done != nil {
		done(answer{res: res})
	}
}

// watch lets what was missed go again when it is due, and breaks a stream that
// has not answered a share for too long.
func (l *lane) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(min(missedWait/2, l.peers.cfg.PeerAge/4))
	defer tick.Stop()
	for {
		l.expire()
		l.requeue()
		if l.silent() {
			cancel(fmt.Errorf("%w for %s", errSilent, l.peers.cfg.PeerAge))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *lane) silent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := time.Now().Add(-l.peers.cfg.PeerAge)
	for _, c := range l.pending {
		if c.since.Before(limit) {
			return true
		}
	}
	return len(l.queue) > 0 && l.queue[0].since.Before(limit)
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
		c.since = now
		l.queue = append(l.queue, c)
		return true
	})
	more := len(l.queue) > n
	l.mu.Unlock()
	if more {
		l.poke()
	}
}

// expire gives up what has been missed for too long: from then on the peer
// has to fetch it.
func (l *lane) expire() {
	l.mu.Lock()
	limit := time.Now().Add(-l.peers.cfg.PeerAge)
	var old []*parcel
	l.missed = slices.DeleteFunc(l.missed, func(c *parcel) bool {
		if c.born.After(limit) {
			return false
		}
		old = append(old, c)
		return true
	})
	l.mu.Unlock()
	for _, c := range old {
		l.peers.metrics.missedSamples.WithLabelValues("dropped").Add(float64(c.share.Samples))
		l.peer.drop(c)
	}
}

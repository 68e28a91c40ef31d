package ingest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// peer is the way to one other store: a few streams to its node, and a bound
// on what is on its way there. A slow or dead peer costs only itself: what
// does not fit fails at once.
type peer struct {
	node  string
	lanes []*lane
	stop  context.CancelFunc

	mu sync.Mutex
	// bytes of the frames that are on their way or wait for it, and of each
	// tenant's: one whose storage hangs over there must not stop the others.
	bytes   int64
	tenants map[string]int64
}

// tenantPart of what may be on the way to a peer is what one tenant may have.
const tenantPart = 4

// parcel is a share on its way.
type parcel struct {
	share  *peerpb.Share // without frames
	frames []byte
	buf    *buffer // of which the parcel is a reader
	born   time.Time
	since  time.Time // when it was queued, or sent
	// due is when a parcel that was missed is worth another try.
	due time.Time
	// until is when the parcel of a patient share is not sent again any more,
	// where its receiver is behind still.
	until time.Time
	// done takes the answer, once, and is nil from then on.
	done func(answer)
	// tries is how often its peer has had no room for it, or no memory.
	tries int
	// left says that the parcel waits for room though its write is answered.
	left bool
}

// answer is what became of a share: a result, or why there is none.
type answer struct {
	res *peerpb.ShareResult
	err error
}

func (p *parcel) tell(a answer) {
	if p.done != nil {
		p.done(a)
		p.done = nil
	}
}

// peers are the ways to all stores that have been written to.
type peers struct {
	cfg     Config
	dialer  Peers
	metrics *metrics
	life    context.Context
	work    sync.WaitGroup

	ways atomic.Int64 // len(all)

	mu     sync.Mutex
	closed bool
	all    map[ring.Store]*peer
}

// leastPeerBytes may be on the way to each peer, however many there are.
const leastPeerBytes = 1 << 20

// room is what may be on the way to each peer, and as much again may wait for
// that: with many peers and little memory each has its part of what is for all.
func (ps *peers) room() int64 {
	all := ps.cfg.MemoryBudget / 4
	if all <= 0 {
		return ps.cfg.PeerBytes
	}
	return min(ps.cfg.PeerBytes, max(all/(2*max(ps.ways.Load(), 1)), leastPeerBytes))
}

// send hands a share over to the way to its store. done is called once, from
// any goroutine, and at once where there is no way. send takes the caller's
// place as a reader of buf. abandon is to be called when nobody waits for the
// answer any more. Until then, where that is not the zero time, the share is sent
// again while its receiver is behind.
func (ps *peers) send(to ring.Store, who Peer, share *peerpb.Share, frames []byte, buf *buffer, until time.Time, done func(answer)) (abandon func()) {
	p := ps.to(to, who)
	if p == nil {
		buf.release()
		done(answer{err: errClosed})
		return func() {}
	}
	c := &parcel{share: share, frames: frames, buf: buf, born: time.Now(), until: until, done: done}
	// A tenant keeps to its lane: its shares arrive in the order they were sent,
	// so that the next sample of a series seldom overtakes the one before.
	l := p.lanes[ring.TenantHash(share.Tenant)%uint64(len(p.lanes))]
	l.submit(c)
	return func() { l.abandon(c) }
}

func (ps *peers) to(store ring.Store, who Peer) *peer {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.all[store]; p != nil || ps.closed {
		return p
	}
	ctx, stop := context.WithCancel(ps.life)
	p := &peer{node: who.Node, stop: stop, tenants: map[string]int64{}}
	for range ps.cfg.Lanes {
		l := newLane(p, ps)
		p.lanes = append(p.lanes, l)
		ps.work.Go(func() { l.run(ctx) })
	}
	ps.all[store] = p
	ps.ways.Store(int64(len(ps.all)))
	return p
}

// sweep ends the ways to stores that the view does not know any more.
func (ps *peers) sweep(known func(ring.Store) bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for store, p := range ps.all {
		if !known(store) {
			p.stop()
			delete(ps.all, store)
		}
	}
	ps.ways.Store(int64(len(ps.all)))
}

func (ps *peers) close() {
	ps.mu.Lock()
	ps.closed = true
	for _, p := range ps.all {
		p.stop()
	}
	ps.all = nil
	ps.mu.Unlock()
	ps.work.Wait()
}

// take reserves room for a parcel; false: there is none. Where nothing is on
// its way there always is.
func (p *peer) take(most int64, c *parcel) bool {
	n, tenant := int64(len(c.frames)), c.share.Tenant
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.tenants[tenant]
	if (p.bytes > 0 && p.bytes+n > most) || (own > 0 && own+n > most/tenantPart) {
		return false
	}
	p.bytes += n
	p.tenants[tenant] = own + n
	return true
}

// drop ends a parcel's stay, and lets others have its room.
func (p *peer) drop(c *parcel) {
	n := int64(len(c.frames))
	p.mu.Lock()
	p.bytes -= n
	if p.tenants[c.share.Tenant] -= n; p.tenants[c.share.Tenant] == 0 {
		delete(p.tenants, c.share.Tenant)
	}
	p.mu.Unlock()
	c.buf.release()
	for _, l := range p.lanes {
		l.promote()
	}
}

// load is the bytes that are on their way or wait.
func (p *peer) load() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

func (p *peer) unreachable(err error) error { return fmt.Errorf("%s unreachable: %w", p.node, err) }

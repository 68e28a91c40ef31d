package ingest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

const (
	// maxWaves is how often a series is routed within one write: each time some
	// replica knows a newer table than the coordinator.
	maxWaves = 4
)

// write is one write on its way to a quorum.
type write struct {
	ingester *Ingester
	tenant   string
	batch    *wire.Batch
	frames   *buffer // holds batch.Frames
	repeat   bool
	// activeSeries is the tenant's limit, for the answer; 0: none.
	activeSeries int64
	// appealed says that replicas are asked to take what one of them holds.
	appealed bool
	tally    *tally
	inbox    *inbox
	deadline time.Time
	// leave takes back what still waits for room on the way to a peer, or for this
	// node's own storage.
	leave []func()
	// troubles say, for a person, what kept replicas from storing.
	troubles map[string]int
}

// reply is what became of one share of a write.
type reply struct {
	share *share
	who   string
	res   *peerpb.ShareResult
	err   error
}

// run sends the batch to its replicas and returns once the verdict on every
// sample is known, or the time is up. Replicas that have not answered by then
// still get and store their shares; their buffers are released after them.
func (w *write) run(ctx context.Context, v *View, t Tenant) {
	w.tally = newTally(w.batch)
	w.inbox = newInbox()
	w.troubles = map[string]int{}
	w.activeSeries = t.Limits.ActiveSeries
	w.deadline = time.Now().Add(w.ingester.cfg.QuorumTimeout)
	defer func() {
		for _, leave := range w.leave {
			leave()
		}
	}()
	w.send(ctx, v, t, nil, 0)
	w.await(ctx, w.ingester.cfg.QuorumTimeout)
	if w.appeal(ctx) {
		w.await(ctx, appealWait)
	}
	w.disown(ctx, w.ingester.fence.view.Load())
}

// await counts answers until the verdict on every sample is known, or the time is up.
func (w *write) await(ctx context.Context, patience time.Duration) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	again := &reroute{write: w}
	defer again.stop()
	var doubted doubts
	defer doubted.stop()
	for w.tally.open > 0 {
		changed := again.next()
		if again.try(ctx); w.tally.open == 0 {
			return
		}
		select {
		case <-w.inbox.wake:
			for _, r := range w.inbox.take() {
				w.count(ctx, r, again)
			}
			again.add(w.tally.takeStale())
			doubted.add(w.tally.takeDoubted())
		case <-doubted.over():
			w.tally.despair(doubted.take())
			again.add(w.tally.takeStale())
		case <-changed:
		case <-timeout.C:
			again.giveUp()
			w.troubles[fmt.Sprintf("no quorum within %s", w.ingester.cfg.QuorumTimeout)]++
			w.tally.giveUp(nil)
		case <-ctx.Done():
			w.tally.giveUp(nil)
		}
	}
}

// send routes series, nil for all, and sends their shares.
func (w *write) send(ctx context.Context, v *View, t Tenant, which []uint32, wave uint8) {
	r := v.Ring(t.Ring)
	if r == nil || r.Table == nil {
		w.troubles["no ring takes the tenant"]++
		w.tally.giveUp(which)
		return
	}
	p := route(r, ring.TenantHash(w.tenant), max(t.Incarnation, t.Routed), w.batch, which, w.frames)
	for k := range p.shares {
		p.shares[k].held = w.appealed
	}
	w.tally.send(&p, wave)
	if len(p.short) > 0 {
		w.troubles[fmt.Sprintf("ring %s has fewer replicas than its quorum", r.Name)]++
	}
	w.dispatch(ctx, &sight{v, t}, p.shares)
}

// dispatch sends shares that were routed by one look.
func (w *write) dispatch(ctx context.Context, by *sight, shares []share) {
	for k := range shares {
		s := &shares[k]
		s.sent = by
		if leave := w.ingester.dispatch(ctx, by.view, s, w.message(by.view, by.tenant, s), w.inbox.put); leave != nil {
			w.leave = append(w.leave, leave)
		}
	}
}

func (w *write) message(v *View, t Tenant, s *share) *peerpb.Share {
	return &peerpb.Share{
		Tenant: w.tenant, Incarnation: t.Incarnation, Ring: t.Ring,
		Seen: v.Revision, Need: s.need, Repeat: w.repeat || s.wave > 0,
		Held:      s.held,
		TimeoutMs: uint32(max(time.Until(w.deadline).Milliseconds(), 1)),
		Series:    uint32(s.count()), Samples: uint32(s.samples),
	}
}

// dispatch sends a share to its store, this node's own included; done is
// called once. leave, where it is not nil, is for the end of the write.
func (i *Ingester) dispatch(ctx context.Context, v *View, s *share, m *peerpb.Share, done func(reply)) (leave func()) {
	who, ok := v.Store(s.store)
	if !ok {
		s.buf.release()
		done(reply{share: s, who: fmt.Sprintf("store %d", s.store), err: fmt.Errorf("store %d: %w", s.store, errUnknownStore)})
		return nil
	}
	m.Store = who.ID[:]
	ctx, end := i.tracedShare(ctx, who.Node, m)
	if end != nil {
		told := done
		done = func(r reply) { end(r.res, r.err); told(r) }
	}
	if s.store != v.Self {
		i.metrics.sentShares.Inc()
		var until time.Time
		if s.patient {
			until = time.Now().Add(time.Duration(m.TimeoutMs) * time.Millisecond)
		}
		return i.peers.send(s.store, who, m, s.frames, s.buf, until, func(a answer) {
			i.metrics.forwarded(a)
			i.brought(v, m, a.res)
			done(reply{share: s, who: who.Node, res: a.res, err: a.err})
		})
	}
	m.Frames = s.frames
	// The caller may go as soon as others have made the quorum.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.cfg.PeerAge)
	hurried := context.AfterFunc(i.late, cancel)
	giveUp := func() { hurried(); cancel() }
	own := &ownShare{backlog: &i.own, bytes: int64(len(s.frames)), giveUp: giveUp}
	ok = i.begin(func() {
		res := i.store(ctx, m, true)
		i.brought(v, m, res)
		s.buf.release()
		if own.end() && res.Status != peerpb.Status_DONE {
			i.metrics.missedSamples.WithLabelValues("dropped").Add(float64(s.samples))
		}
		done(reply{share: s, who: who.Node, res: res})
	})
	if !ok {
		giveUp()
		s.buf.release()
		done(reply{share: s, who: who.Node, err: errClosed})
		return nil
	}
	// As much as a peer: on its way, and waiting for that.
	return func() { own.leave(2 * i.cfg.PeerBytes) }
}

// brought charges the tenant for series that one replica has found to be new: for
// its part of them, as the others find them too.
func (i *Ingester) brought(v *View, m *peerpb.Share, res *peerpb.ShareResult) {
	if res.GetBorn() == 0 {
		return
	}
	if r := v.Ring(m.Ring); r != nil && r.Table != nil {
		copies := max(r.Table.At(0).Replicas.Len(), 1)
		i.rates.brought(m.Tenant, m.Incarnation, float64(res.GetBorn())/float64(copies))
	}
}

// count brings one answer into the tally.
func (w *write) count(ctx context.Context, r reply, again *reroute) {
	switch {
	case r.err != nil:
		w.troubles[r.err.Error()]++
		w.all(r.share, peerpb.Outcome_FAILED)
	case r.res.Status == peerpb.Status_STALE:
		again.until = max(again.until, r.res.StaleRevision)
		w.all(r.share, peerpb.Outcome_STALE_SERIES)
	case r.res.Status == peerpb.Status_BEHIND && w.behind(ctx, r):
		w.troubles[fmt.Sprintf("%s: %s", r.who, r.res.Detail)]++
	case r.res.Status != peerpb.Status_DONE:
		w.troubles[fmt.Sprintf("%s: %s", r.who, r.res.Detail)]++
		w.all(r.share, peerpb.Outcome_FAILED)
	case len(r.res.Outcomes) == 0:
		w.tally.clean(r.share)
	default:
		again.until = max(again.until, r.res.StaleRevision)
		w.some(r)
	}
}

func (w *write) all(s *share, o peerpb.Outcome) {
	w.tally.count(s, func(int) peerpb.Outcome { return o })
}

// some counts an answer with exceptions, in ascending order as promised; one
// that breaks the promise counts for nothing.
func (w *write) some(r reply) {
	next, last, lost := 0, -1, peerpb.Outcome_STORED
	for _, o := range r.res.Outcomes {
		if int(o.Index) <= last || int(o.Index) >= r.share.samples {
			w.troubles[r.who+": malformed answer"]++
			w.all(r.share, peerpb.Outcome_FAILED)
			return
		}
		last = int(o.Index)
		if o.Outcome == peerpb.Outcome_FAILED || o.Outcome == peerpb.Outcome_HOLE {
			lost = o.Outcome
		}
	}
	if lost != peerpb.Outcome_STORED {
		w.troubles[fmt.Sprintf("%s: samples not stored (%s)", r.who, lost)]++
	}
	w.tally.count(r.share, func(i int) peerpb.Outcome {
		// Samples that were sent again meanwhile are not asked about.
		for next < len(r.res.Outcomes) && int(r.res.Outcomes[next].Index) < i {
			next++
		}
		if next < len(r.res.Outcomes) && int(r.res.Outcomes[next].Index) == i {
			next++
			return r.res.Outcomes[next-1].Outcome
		}
		return peerpb.Outcome_STORED
	})
}

// reroute is the series of a write whose slots have moved: it waits for this
// node to see the change and sends them again. It has as much patience as the
// write: a change that is seen late, on a busy machine or under an election, is
// no reason to refuse what there is still time for.
type reroute struct {
	write  *write
	series []uint32
	until  uint64 // the revision to wait for
	since  time.Time
}

func (a *reroute) add(series []uint32) {
	if len(series) == 0 {
		return
	}
	if len(a.series) == 0 {
		a.since = time.Now()
	}
	a.series = append(a.series, series...)
}

// next gives what to wait for: a newer view than the one that try looks at
// afterwards.
func (a *reroute) next() (changed <-chan struct{}) {
	if len(a.series) == 0 {
		return nil
	}
	_, changed = a.write.ingester.fence.next()
	return changed
}

// try sends the series again if the view is new enough.
func (a *reroute) try(ctx context.Context) {
	w := a.write
	v := w.ingester.fence.view.Load()
	if len(a.series) == 0 || v.Revision < a.until {
		return
	}
	series := a.series
	a.stop()
	t, ok := v.Tenant(w.tenant)
	waves := map[uint8][]uint32{}
	for _, n := range series {
		if wave := w.tally.series[n].wave + 1; ok && wave < maxWaves {
			waves[wave] = append(waves[wave], n)
			continue
		}
		w.troubles["slots move faster than they are seen"]++
		w.tally.giveUp([]uint32{n})
	}
	for wave, list := range waves {
		w.ingester.metrics.reroutedSeries.Add(float64(len(list)))
		w.send(ctx, v, t, list, wave)
	}
}

// giveUp tells what the write waited for, if it did.
func (a *reroute) giveUp() {
	if len(a.series) > 0 {
		a.write.troubles[fmt.Sprintf("this node has not seen revision %d", a.until)]++
	}
}

func (a *reroute) stop() {
	if len(a.series) > 0 {
		a.write.ingester.metrics.waited("reroute", a.since)
	}
	a.series = nil
}

// inbox collects replies; it never makes those who bring them wait.
type inbox struct {
	mu      sync.Mutex
	replies []reply
	wake    chan struct{}
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (b *inbox) put(r reply) {
	b.mu.Lock()
	b.replies = append(b.replies, r)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) take() []reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.replies
	b.replies = nil
	return r
}

package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// lingerWait is how long a write that has refused series as too many waits for
// the replicas that have not answered yet: one may have stored them.
const lingerWait = 100 * time.Millisecond

// disown tells the replicas of series which the write has refused as too many that
// those are not to be counted. Requests that come at once reach replicas in
// different orders, and each of those may have had room for another series: a
// series that one alone has taken fills its room and is never acknowledged. Once
// it is not counted, the replicas have room for one that all of them take.
//
// Nobody waits for it; where it is lost, some room is lost until the series are
// cut.
func (w *write) disown(ctx context.Context, v *View) {
	w.linger(ctx)
	series := w.tally.unwanted()
	t, known := v.Tenant(w.tenant)
	r := v.Ring(t.Ring)
	if len(series) == 0 || !known || r == nil || r.Table == nil {
		return
	}
	tenant := ring.TenantHash(w.tenant)
	frames, need := map[ring.Store][]byte{}, max(t.Incarnation, t.Routed)
	for _, n := range series {
		s := w.batch.Series[n]
		slot := r.Table.At(ring.KeyOf(tenant, s.Hash).Slot(r.Table.Slots()))
		need = max(need, slot.Changed)
		for k := range slot.Replicas.Len() {
			st := slot.Replicas.At(k)
			frames[st] = append(frames[st], w.batch.Of(s)...)
		}
	}
	w.ingester.metrics.disownedSeries.Add(float64(len(series)))
	for st, b := range frames {
		s := &share{store: st, need: need, buf: newBuffer(0), sent: &sight{v, t}}
		m := w.message(v, t, s)
		m.TimeoutMs = uint32(w.ingester.cfg.QuorumTimeout.Milliseconds())
		m.Disowned = b
		if leave := w.ingester.dispatch(ctx, v, s, m, func(reply) {}); leave != nil {
			w.leave = append(w.leave, leave)
		}
	}
}

// linger waits for replicas that have not told of series which the write refuses.
func (w *write) linger(ctx context.Context) {
	if !w.tally.unheard() {
		return
	}
	timeout := time.NewTimer(lingerWait)
	defer timeout.Stop()
	for w.tally.unheard() {
		select {
		case <-w.inbox.wake:
			for _, r := range w.inbox.take() {
				if r.err == nil && r.res.Status == peerpb.Status_BEHIND {
					r.res.Status = peerpb.Status_UNAVAILABLE // it is not asked again
				}
				w.count(ctx, r, &reroute{write: w})
			}
		case <-timeout.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// tooMany calls f with each sample that is refused as of a series too many.
func (t *tally) tooMany(f func(n uint32, e *electorate, b *ballot) (more bool)) {
	if t.ballots == nil {
		return
	}
	for n := range t.series {
		s := t.batch.Series[n]
		for k := s.First; k < s.First+s.Samples; k++ {
			b := &t.ballots[k]
			if b.verdict == refused && b.content[seriesLimit] > 0 && !t.apart(uint32(n)) && !f(uint32(n), &t.series[n], b) {
				return
			}
		}
	}
}

// unheard says whether some replica has not told whether it has stored a series
// that is refused as too many.
func (t *tally) unheard() (found bool) {
	t.tooMany(func(_ uint32, e *electorate, b *ballot) bool {
		found = int(b.stored)+int(b.lost)+b.blamed() < int(e.replicas)
		return !found
	})
	return found
}

// unwanted are the series that are refused as too many and stored by some replica.
func (t *tally) unwanted() (series []uint32) {
	t.tooMany(func(n uint32, _ *electorate, b *ballot) bool {
		if b.stored > 0 && (len(series) == 0 || series[len(series)-1] != n) {
			series = append(series, n)
		}
		return true
	})
	return series
}

// disown lets the storage hear of series that are not to be counted.
func (i *Ingester) disown(ctx context.Context, s *peerpb.Share) error {
	r := wire.NewReader(s.Disowned)
	for r.Next() {
		if !wire.WellFormed(r.Labels()) {
			return fmt.Errorf("%w: labels", wire.ErrFrame)
		}
	}
	if r.Err() != nil {
		return r.Err()
	}
	return i.storage.Disown(ctx, s.Tenant, s.Incarnation, wire.NewReader(s.Disowned))
}

package ingest

import (
	"context"
	"time"

	"github.com/muster-metrics/muster/ingest/wire"
)

// appealWait is how long replicas are asked once more: the write's own time may
// have been spent on one that hangs.
const appealWait = time.Second

// appeal asks the replicas again about samples that one of them has stored and
// another has refused as a series too many, where too few others have answered to
// decide that. Such samples would be sent again, with all others of their request,
// until a replica is back that may be gone for half an hour. Replicas reach a
// limit at different series: their order of arrival differs, and so do their
// slots. Who hears that the series is held elsewhere takes it.
//
// It is asked once in a write, and says whether it was. A crash at any line of it
// is one before the answer: nothing was acknowledged that is not stored.
func (w *write) appeal(ctx context.Context) bool {
	series := w.tally.disputed()
	if len(series) == 0 || ctx.Err() != nil {
		return false
	}
	v := w.ingester.fence.view.Load()
	t, ok := v.Tenant(w.tenant)
	if !ok {
		return false
	}
	w.appealed = true
	w.deadline = time.Now().Add(appealWait)
	w.ingester.metrics.appealedSeries.Add(float64(len(series)))
	waves := map[uint8][]uint32{}
	for _, n := range series {
		waves[w.tally.series[n].wave+1] = append(waves[w.tally.series[n].wave+1], n)
	}
	w.tally.reopen(series)
	for wave, list := range waves {
		w.send(ctx, v, t, list, wave)
	}
	return true
}

// disputed are the series with samples that lack their quorum though a replica
// has stored them, and that another has called one series too many.
func (t *tally) disputed() []uint32 {
	if t.ballots == nil {
		return nil
	}
	var out []uint32
	for n := range t.series {
		found := false
		t.each(uint32(n), func(b *ballot) {
			found = found || b.verdict == deferred && b.stored > 0 && b.content[seriesLimit] > 0
		})
		if found && !t.apart(uint32(n)) {
			out = append(out, uint32(n))
		}
	}
	return out
}

// apart says whether a series stands for its exemplars, or its family's metadata:
// they bring no series.
func (t *tally) apart(n uint32) bool {
	k := t.batch.Kind(t.batch.Series[n])
	return k == wire.Exemplars || k == wire.Descriptors
}

// reopen takes back that these series are to be sent again by their sender.
func (t *tally) reopen(series []uint32) {
	for _, n := range series {
		t.series[n].again, t.series[n].doubted = false, false
		t.each(n, func(b *ballot) {
			if b.verdict == deferred {
				*b = ballot{}
				t.open++
			}
		})
	}
}

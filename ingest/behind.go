package ingest

import (
	"context"

	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// sight is what a share was routed by.
type sight struct {
	view   *View
	tenant Tenant
}

// behind takes the answer of a replica that has not seen what a share needs. A
// share needs the newest change of all its slots, but the replica holds those
// that have not changed since the revision it has as well as anybody: their
// series are sent once more, without the others. The others have lost a vote. It
// says whether there were such series.
//
// The parcel of the whole share waits in its lane and is sent again as a repeat
// when the replica may have caught up; what is stored twice by that is found
// there, and nobody counts its answer.
func (w *write) behind(ctx context.Context, r reply) bool {
	s, sent := r.share, r.share.sent
	need := max(sent.tenant.Incarnation, sent.tenant.Routed)
	if s.rest || r.res.Revision < need || r.res.Revision >= s.need {
		return false
	}
	table, tenant := sent.view.Ring(sent.tenant.Ring).Table, ring.TenantHash(w.tenant)
	to := target{store: s.store, open: -1}
	var stayed, moved []uint32
	s.each(func(n uint32) {
		series := &w.batch.Series[n]
		if table.At(ring.KeyOf(tenant, series.Hash).Slot(table.Slots())).Changed > r.res.Revision {
			moved = append(moved, n)
			return
		}
		stayed = append(stayed, n)
		to.bytes += int(series.End - series.Start)
		to.count++
	})
	if len(stayed) == 0 {
		return false
	}
	var p plan
	for _, n := range stayed {
		slot := table.At(ring.KeyOf(tenant, w.batch.Series[n].Hash).Slot(table.Slots()))
		p.add(&to, max(need, slot.Changed), w.batch, n)
	}
	w.all(&share{series: moved, wave: s.wave}, peerpb.Outcome_FAILED)
	for k := range p.shares {
		p.shares[k].wave, p.shares[k].rest = s.wave, true
	}
	w.dispatch(ctx, sent, p.shares)
	return true
}

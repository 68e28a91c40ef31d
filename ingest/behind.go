package ingest

import (
	"context"
	"time"

	"github.com/muster-metrics/muster/ring"
)

// sight is what a share was routed by.
type sight struct {
	view   *View
	tenant Tenant
}

// behind takes the answer of a replica that has not seen what a share needs, and
// says whether it may come to store of it still. A share needs the newest change
// of all its slots, but the replica holds those that have not changed since the
// revision it has as well as anybody: their series are sent once more, without
// the others. The others are sent again for as long as the write has time: a
// change that is seen late, on a busy machine or under an election, is no reason
// to refuse them.
//
// The parcel of the whole share waits in its lane and is sent again as a repeat
// when the replica may have caught up; what is stored twice by that is found
// there, and nobody counts its answer.
func (w *write) behind(ctx context.Context, r reply) bool {
	s, sent := r.share, r.share.sent
	if s.rest || s.patient || !time.Now().Before(w.deadline) {
		return false
	}
	need := max(sent.tenant.Incarnation, sent.tenant.Routed)
	table, tenant := sent.view.Ring(sent.tenant.Ring).Table, ring.TenantHash(w.tenant)
	changed := func(n uint32) uint64 {
		return max(need, table.At(ring.KeyOf(tenant, w.batch.Series[n].Hash).Slot(table.Slots())).Changed)
	}
	var stayed, moved []uint32
	s.each(func(n uint32) {
		if changed(n) > r.res.Revision {
			moved = append(moved, n)
		} else {
			stayed = append(stayed, n)
		}
	})
	again := w.part(s, stayed, changed)
	for k := range again {
		again[k].rest = true
	}
	late := w.part(s, moved, changed)
	for k := range late {
		late[k].patient = true
	}
	w.dispatch(ctx, sent, append(again, late...))
	return true
}

// part lays out some series of a share anew, for the same store.
func (w *write) part(s *share, which []uint32, need func(uint32) uint64) []share {
	to := target{store: s.store, open: -1, count: len(which)}
	for _, n := range which {
		to.bytes += int(w.batch.Series[n].End - w.batch.Series[n].Start)
	}
	var p plan
	for _, n := range which {
		p.add(&to, need(n), w.batch, n)
	}
	for k := range p.shares {
		p.shares[k].wave, p.shares[k].held = s.wave, s.held
	}
	return p.shares
}

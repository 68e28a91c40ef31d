package tsdb

import (
	"context"
	"math"

	"github.com/oklog/ulid/v2"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// blocksToDelete names the blocks that have outlived the tenant's retention and,
// where there is a bucket, are known to be safe in it. The TSDB asks whenever it
// looks at its blocks.
func (e *engine) blocksToDelete(blocks []*promtsdb.Block) map[ulid.ULID]struct{} {
	gone := map[ulid.ULID]struct{}{}
	keep := e.settings.Load().Retention
	if keep <= 0 {
		return gone
	}
	end := e.cfg.Now().Add(-keep).UnixMilli()
	for _, b := range blocks {
		if m := b.Meta(); m.MaxTime <= end && e.shipped(m.ULID) {
			gone[m.ULID] = struct{}{}
		}
	}
	return gone
}

func (e *engine) shipped(id ulid.ULID) bool {
	if !e.cfg.Ship {
		return true
	}
	return e.cfg.Ledger != nil && e.cfg.Ledger.Safe(e.key.Tenant, e.key.Incarnation, id)
}

// retainAll deletes what retention lets go, in tenants that do not cut now.
func (d *DB) retainAll(ctx context.Context) {
	for _, t := range d.all() {
		if ctx.Err() != nil {
			return
		}
		e := t.peek()
		if e == nil {
			continue
		}
		if err := e.retain(); err != nil {
			d.met.retainFailures.Inc()
			d.cfg.Log.Error("retention failed", "tenant", t.key.Tenant, "err", err)
		}
		t.release()
	}
}

func (e *engine) retain() error {
	if len(e.blocksToDelete(e.db.Blocks())) == 0 {
		return nil
	}
	if !e.cutting.TryLock() {
		return nil // the next look does it
	}
	defer e.cutting.Unlock()
	// The TSDB deletes when it reloads its blocks, and has no call for that alone.
	// Cutting the empty range before all time writes nothing, and reloads.
	return e.cutRange(math.MinInt64, math.MinInt64)
}

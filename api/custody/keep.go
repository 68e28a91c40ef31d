package custody

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/tsdb"
)

// Run removes what is over until ctx ends: blocks that have outlived their
// tenant's retention or their tenant, and stores that this node does not keep
// any more.
func (t *Taker) Run(ctx context.Context) error {
	tick := time.NewTicker(t.cfg.Every)
	defer tick.Stop()
	for {
		if err := t.Tidy(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("tidy adopted blocks", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Tidy removes what is over, once.
func (t *Taker) Tidy(ctx context.Context) error {
	if !t.cfg.Current() {
		return nil
	}
	st := t.cfg.State()
	own := numberOf(st, t.cfg.Store)
	if own == 0 {
		return nil
	}
	var errs []error
	for _, id := range t.Stores() {
		of := numberOf(st, id)
		if of == 0 {
			continue // a store that nobody knows is nobody's to remove
		}
		if _, ok := st.Custody(of, own); !ok {
			// It may have been named again since, and have sealed: the state is
			// looked at anew then, which is at least the one that was sealed by.
			errs = append(errs, t.Drop(id, func() bool {
				_, ok := t.cfg.State().Custody(of, own)
				return !ok
			}))
		}
	}
	errs = append(errs, t.Expire(func(key tsdb.Key) (time.Duration, bool) { return keepOf(st, key) }))
	for _, s := range st.InCustody(own) {
		errs = append(errs, t.giveBack(ctx, st, s, own))
	}
	return errors.Join(errs...)
}

// keepOf is how long a tenant's blocks stay, and whether its life is over. A
// tenant that the state does not know at all is kept.
func keepOf(st *cluster.State, key tsdb.Key) (keep time.Duration, over bool) {
	now, dead := st.Tenant(key.Tenant), st.Tombstone(key.Tenant)
	switch {
	case now.GetIncarnation() == key.Incarnation && now != nil:
		return time.Duration(st.TenantConfig(now).Retention) * time.Millisecond, false
	case now.GetIncarnation() > key.Incarnation, dead != nil && dead.GetIncarnation() >= key.Incarnation:
		return 0, true
	default:
		return 0, false
	}
}

// giveBack ends a custody of which nothing is left: no block, and no read that
// may ask for the store.
func (t *Taker) giveBack(ctx context.Context, st *cluster.State, s *clusterpb.Store, own ring.Store) error {
	of := ring.Store(s.GetNumber())
	var id tsdb.StoreID
	copy(id[:], s.GetId())
	since, _ := st.Custody(of, own)
	seal := t.Sealed(id)
	if t.cfg.Propose == nil || st.Holder(of) != nil || seal == nil || seal.Custody != since || len(seal.Tenants) > 0 || st.Duties(of).Past {
		return nil
	}
	return propose(ctx, t.cfg.Propose, st, &clusterpb.Command{Change: &clusterpb.Command_SetCustodians{SetCustodians: &clusterpb.SetCustodians{
		Store: s.GetNumber(), Custodians: without(s.GetCustodians(), uint32(own)), Were: s.GetCustodians(),
	}}})
}

func without(list []uint32, n uint32) []uint32 {
	return slices.DeleteFunc(slices.Clone(list), func(x uint32) bool { return x == n })
}

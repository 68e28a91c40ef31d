package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ship"
	"github.com/muster-metrics/muster/tsdb"
)

// tenantChanges is what a change means to tsdb: the settings of the tenants
// that live, and the keys whose life is over.
func tenantChanges(c cluster.Change) (set []tsdb.Settings, gone []tsdb.Key) {
	if c.Keys.AllTenants || c.Keys.Settings || c.Old == nil {
		c.New.WalkTenants("", func(t *clusterpb.Tenant) bool {
			set = append(set, settingsOf(c.New, t))
			return true
		})
		if c.Old != nil {
			c.Old.WalkTenants("", func(t *clusterpb.Tenant) bool {
				gone = appendGone(gone, c.New, t)
				return true
			})
		}
		return set, gone
	}
	for _, id := range c.Keys.Tenants {
		now := c.New.Tenant(id)
		if now != nil {
			set = append(set, settingsOf(c.New, now))
		}
		gone = appendGone(gone, c.New, c.Old.Tenant(id))
	}
	return set, gone
}

// appendGone adds the tenant whose life is over. One from changes that a recovery
// has lost is none that somebody deleted: its directory is left alone.
func appendGone(gone []tsdb.Key, now *cluster.State, old *clusterpb.Tenant) []tsdb.Key {
	if old == nil || now.Tenant(old.GetId()).GetIncarnation() == old.GetIncarnation() || now.LostHistory(old.GetIncarnation()) {
		return gone
	}
	return append(gone, tsdb.Key{Tenant: old.GetId(), Incarnation: old.GetIncarnation()})
}

// removeDead removes what a stop kept from being removed: the directories of
// incarnations that the state says are over. One that it does not know at all is
// left alone.
func (n *node) removeDead() {
	keys, err := n.tsdb.OnDisk()
	if err != nil {
		n.log.Error("look for directories of deleted tenants", "err", err)
		return
	}
	st := n.cluster.State()
	var dead []tsdb.Key
	for _, k := range keys {
		if st.LostHistory(k.Incarnation) {
			n.log.Warn("a tenant's directory is of changes that a recovery has lost; it is left alone, and served by nobody", "tenant", k.Tenant, "incarnation", k.Incarnation)
			continue
		}
		gone := st.Tombstone(k.Tenant)
		if st.Tenant(k.Tenant).GetIncarnation() > k.Incarnation || gone != nil && gone.GetIncarnation() >= k.Incarnation {
			dead = append(dead, k)
		}
	}
	n.tsdb.SetTenants(nil, dead)
}

// stillLives asks the leader whether a tenant's life is not over: this node may
// have slept since it last heard of it.
func (n *node) stillLives(ctx context.Context, s ship.Source) error {
	if _, led := n.cluster.Leader(); !led {
		return fmt.Errorf("whether the tenant was deleted: %w", cluster.ErrNoLeader)
	}
	if _, err := n.cluster.Barrier(ctx); err != nil {
		return fmt.Errorf("whether the tenant was deleted: %w", err)
	}
	if n.cluster.State().Tenant(s.Tenant).GetIncarnation() != s.Incarnation {
		return errors.New("the tenant was deleted")
	}
	return nil
}

func settingsOf(st *cluster.State, t *clusterpb.Tenant) tsdb.Settings {
	c := st.TenantConfig(t)
	return tsdb.Settings{
		Key:              tsdb.Key{Tenant: t.GetId(), Incarnation: t.GetIncarnation()},
		Retention:        time.Duration(c.Retention) * time.Millisecond,
		OutOfOrderWindow: time.Duration(c.OutOfOrderWindow) * time.Millisecond,
		FutureWindow:     time.Duration(c.FutureWindow) * time.Millisecond,
		Exemplars:        c.Limits.Exemplars,
	}
}

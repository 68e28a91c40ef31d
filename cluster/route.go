package cluster

import (
	"context"
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// closeRoutes commits that no write begins any more by which tenants went
// through a ring until then; that this is so the leader knows from the announced
// revisions.
func (e *edit) closeRoutes(c *clusterpb.CloseRoutes) (uint64, *clusterpb.Refusal) {
	old, r := e.ringByID(c.GetRing())
	if r != nil {
		return 0, r
	}
	closed := 0
	tenants := e.next.tenants.Txn()
	e.next.WalkTenants("", func(t *clusterpb.Tenant) bool {
		var next *clusterpb.Tenant
		for i, past := range t.GetPastRoutes() {
			if past.GetRing() != c.GetRing() || past.GetClosed() != 0 || past.GetTo() > c.GetThrough() {
				continue
			}
			if next == nil {
				next = copyOf(t)
			}
			// A leader's clock may be behind its predecessor's.
			next.PastRoutes[i].Closed, next.PastRoutes[i].ClosedMs = e.rev, max(e.now, past.GetEndMs())
		}
		if next == nil {
			return true
		}
		discount(e, kindTenant, t)
		count(e, kindTenant, next)
		tenants.Insert([]byte(t.GetId()), next)
		e.changed.touch(t.GetId())
		closed++
		return true
	})
	e.next.tenants = tenants.CommitOnly()
	if closed > 0 {
		e.note("routes closed", old.Spec.GetName(), fmt.Sprintf("of %d tenants", closed))
	}
	return old.Spec.GetVersion(), nil
}

// openRoutes are the past routes that are not closed: by ring, at which
// revisions they ended.
func (s *State) openRoutes() map[uint64]map[uint64]bool {
	open := map[uint64]map[uint64]bool{}
	s.WalkTenants("", func(t *clusterpb.Tenant) bool {
		for _, past := range t.GetPastRoutes() {
			if past.GetClosed() != 0 {
				continue
			}
			if open[past.GetRing()] == nil {
				open[past.GetRing()] = map[uint64]bool{}
			}
			open[past.GetRing()][past.GetTo()] = true
		}
		return true
	})
	return open
}

// closableRoutes are the past routes by which no write begins any more: by ring,
// the newest revision at which one ended.
func (s *State) closableRoutes(announced map[ring.Store]uint64) (through map[uint64]uint64, waiting bool) {
	through = map[uint64]uint64{}
	for id, ends := range s.openRoutes() {
		r := s.RingByID(id)
		if r == nil {
			continue
		}
		for to := range ends {
			if r.Table.Passed(to, func(st ring.Store) uint64 { return announced[st] }, s.Lost) {
				through[id] = max(through[id], to)
			} else {
				waiting = true
			}
		}
	}
	return through, waiting
}

// closeRoutes closes the past routes that can be, and looks at the tenants only
// while some may be open.
func (n *Node) closeRoutes(ctx context.Context, e *engine) error {
	if n.routed.Swap(true) {
		return nil
	}
	st := n.State()
	through, waiting := st.closableRoutes(n.announcements(st))
	if waiting || len(through) > 0 {
		n.routed.Store(false) // look again
	}
	for id, to := range through {
		err := n.commit(ctx, e, &clusterpb.Command{Change: &clusterpb.Command_CloseRoutes{
			CloseRoutes: &clusterpb.CloseRoutes{Ring: id, Through: to},
		}})
		if err != nil {
			return fmt.Errorf("ring %d: %w", id, err)
		}
	}
	return nil
}

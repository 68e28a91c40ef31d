package ingest

import (
	"slices"
	"time"
)

// A table is not seen by all nodes at one moment: on busy machines a tenth of a
// second lies between the first and the last. A node that went by the newest
// table at once would make writes wait for those who have not seen it, and call
// stale what they send. So each node holds the view before a change of slots for
// a while: for its own writes until the others have seen the new one, too, and
// for the shares of those who write by the old one a little longer.
//
//	slots change here  ├── own writes by the old view ──┤
//	                   ├── others' by the old view are stored ──────────┤ announced
//	slots change there      ├──────────────────────────────┤
//
// To the cluster this looks like a node that is slow to see the change: a share
// is admitted under the held revision, which keeps it from announcing the new one.
// Nothing is promised by that: a node that takes longer waits, and is waited for.
type held struct {
	view *View
	era  *era      // in which it counts as a share
	lead time.Time // until when this node writes by it
}

// hold keeps the view before v where slots have changed between them; f.mu is
// held.
func (f *fence) hold(old, v *View) {
	if f.keep <= 0 || old == nil || old.Self == 0 || v.Moved <= old.Revision {
		return
	}
	e := f.eras[len(f.eras)-1]
	e.shares++
	h := &held{view: old, era: e, lead: time.Now().Add(f.keep)}
	f.held = append(f.held, h)
	time.AfterFunc(heldFor*f.keep, func() { f.drop(h) })
}

// heldFor is how much longer others' shares by the old view are stored than own
// writes go by it: they may have seen the change later.
const heldFor = 3

// drop ends the hold of a view, and tells that there may be a revision to announce.
func (f *fence) drop(h *held) {
	f.mu.Lock()
	f.held = slices.DeleteFunc(f.held, func(other *held) bool { return other == h })
	f.mu.Unlock()
	f.leave(h.era)
	if f.tell != nil {
		f.tell()
	}
}

// lead is the view that this node writes by.
func (f *fence) lead() *View {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.held) > 0 {
		now := time.Now()
		for _, h := range f.held {
			if now.Before(h.lead) {
				return h.view
			}
		}
	}
	return f.view.Load()
}

// enter admits a share of a sender that has seen a revision: under the view that is
// held for such senders where the tenant is the same in it, else under the newest.
func (f *fence) enter(seen uint64, tenant string) (*View, *era) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.held {
		if seen <= h.view.Revision {
			if !sameTenant(h.view, f.view.Load(), tenant) {
				break
			}
			h.era.shares++
			return h.view, h.era
		}
	}
	return f.admit()
}

// sameTenant says whether a share of the tenant may be judged by an older view:
// nothing but slots has changed for it.
func sameTenant(old, v *View, tenant string) bool {
	a, was := old.Tenant(tenant)
	b, is := v.Tenant(tenant)
	return was && is && old.Self == v.Self && a.Incarnation == b.Incarnation && a.Ring == b.Ring && a.Routed == b.Routed
}

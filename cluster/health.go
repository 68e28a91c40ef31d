package cluster

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// contact is what the leader knows of a member from its heartbeats.
type contact struct {
	report *clusterpb.Report
	heard  time.Time
	// since is when it was first heard without a break.
	since time.Time
	// offset is its clock minus this node's.
	offset time.Duration
}

// health is the leader's memory of the members. It never enters the log.
type health struct {
	fresh time.Duration

	mu       sync.Mutex
	contacts map[string]contact
	began    time.Time     // when it knew nobody: this leader's first moment
	changed  chan struct{} // closed and replaced by each report
}

func newHealth(fresh time.Duration) *health {
	return &health{fresh: fresh, contacts: map[string]contact{}, changed: make(chan struct{})}
}

// Put notes a report that came at now, when this node's clock showed clock, and
// says whether it tells of a newer
// revision than the one before it.
func (h *health) Put(r *clusterpb.Report, now, clock time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, known := h.contacts[r.GetNode()]
	news := !known || c.report.GetApplied() != r.GetApplied() || c.report.GetAnnounced() != r.GetAnnounced()
	if !known || now.Sub(c.heard) > h.fresh || c.report.GetIncarnation() != r.GetIncarnation() ||
		!bytes.Equal(c.report.GetStoreId(), r.GetStoreId()) {
		c.since = now
	}
	c.report, c.heard = r, now
	c.offset = time.UnixMilli(r.GetClockMs()).Sub(clock.Round(0))
	h.contacts[r.GetNode()] = c
	close(h.changed)
	h.changed = make(chan struct{})
	return news
}

// Forget empties the memory: a new leader believes only what it hears itself.
func (h *health) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.contacts)
	h.began = time.Now()
}

// Silent says whether the member has not been heard for a while by somebody who
// would have heard it: a leader that has just begun knows of nobody's silence.
func (h *health) Silent(m *clusterpb.Member, now time.Time) bool {
	if h.Live(m, now) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Sub(h.began) >= 2*h.fresh
}

// Of is what was heard of a member, in its present incarnation.
func (h *health) Of(m *clusterpb.Member) (contact, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.contacts[m.GetName()]
	return c, ok && c.report.GetIncarnation() == m.GetIncarnation()
}

// OfStore is what was heard of a member that has this store.
func (h *health) OfStore(m *clusterpb.Member, id []byte) (contact, bool) {
	c, ok := h.Of(m)
	return c, ok && bytes.Equal(c.report.GetStoreId(), id)
}

// Live says whether the member was heard a moment ago.
func (h *health) Live(m *clusterpb.Member, now time.Time) bool {
	c, ok := h.Of(m)
	return ok && now.Sub(c.heard) <= h.fresh
}

// MedianOffset is the median of the live members' clocks minus this node's.
func (h *health) MedianOffset(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	var offsets []time.Duration
	for _, c := range h.contacts {
		if now.Sub(c.heard) <= h.fresh {
			offsets = append(offsets, c.offset)
		}
	}
	if len(offsets) == 0 {
		return 0
	}
	slices.Sort(offsets)
	return offsets[len(offsets)/2]
}

// WaitApplied waits until the live ones of members have applied rev, and says
// who has and who has not.
func (h *health) WaitApplied(ctx context.Context, rev uint64, members []*clusterpb.Member) (applied, pending []string) {
	for {
		h.mu.Lock()
		changed := h.changed
		h.mu.Unlock()
		applied, pending = nil, nil
		waiting := false
		now := time.Now()
		for _, m := range members {
			c, ok := h.Of(m)
			switch {
			case ok && c.report.GetApplied() >= rev:
				applied = append(applied, m.GetName())
			default:
				pending = append(pending, m.GetName())
				waiting = waiting || h.Live(m, now) && c.report.GetGuards().GetHalted() == ""
			}
		}
		if !waiting {
			return applied, pending
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return applied, pending
		}
	}
}

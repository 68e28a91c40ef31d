package ingest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// behindWait is how long a share waits for this node to see what it needs.
const behindWait = time.Second

// store lets a share through the fence into the storage. The coordinator's
// own shares and those of its peers come the same way. ctx says for how long
// it is worth to begin; what has begun ends only with the storage, and until
// then no newer revision is announced. own says that the frames were laid out
// here. It keeps nothing of s.
func (i *Ingester) store(ctx context.Context, s *peerpb.Share, own bool) *peerpb.ShareResult {
	res := &peerpb.ShareResult{Id: s.Id}
	ctx, end := i.tracedStore(ctx, s)
	if end != nil {
		defer func() { end(res) }()
	}
	timer := time.Now().Add(behindWait)
	for {
		v, era := i.fence.enter(s.Seen, s.Tenant)
		if v == nil {
			res.Status, res.Detail = peerpb.Status_UNAVAILABLE, "this node knows no cluster yet"
			return res
		}
		res.Revision = v.Revision
		h := v.holding(s.Tenant)
		switch h.Judge(v.claim(s)) {
		case ring.Pass:
			defer i.fence.leave(era)
			i.admit(ctx, s, own, h, res)
			return res
		case ring.Stale:
			i.fence.leave(era)
			i.metrics.refusedShare("stale")
			res.Status, res.StaleRevision = peerpb.Status_STALE, max(h.Routed, h.Incarnation)
			if res.StaleRevision <= s.Seen {
				res.StaleRevision = h.Revision
			}
			return res
		}
		i.fence.leave(era)
		began := time.Now()
		seen := i.fence.await(ctx, time.Until(timer), func(v *View) bool { return v.Revision >= s.Need })
		i.metrics.waited("revision", began)
		if !seen {
			i.metrics.refusedShare("behind")
			res.Status = peerpb.Status_BEHIND
			res.Detail = fmt.Sprintf("at revision %d, the share needs %d", v.Revision, s.Need)
			return res
		}
	}
}

// holding is what a node knows of a tenant in a view.
type holding struct {
	ring.Holding
	ring *Ring
}

// every says that no slot needs to be looked at: all of them are held here
// and none has changed since the sender looked.
func (h *holding) every(seen uint64) bool { return h.ring.whole.Has(h.Self) && h.ring.need <= seen }

func (v *View) holding(tenant string) holding {
	h := holding{Holding: ring.Holding{Self: v.Self, Revision: v.Revision}}
	t, ok := v.Tenant(tenant)
	if !ok {
		return h
	}
	h.Incarnation = t.Incarnation
	if r := v.Ring(t.Ring); r != nil && r.Table != nil {
		h.Ring, h.Routed, h.Table, h.ring = t.Ring, t.Routed, r.Table, r
	}
	return h
}

// claim is what the share says of itself; one for another store is for none.
func (v *View) claim(s *peerpb.Share) ring.Claim {
	c := ring.Claim{Incarnation: s.Incarnation, Ring: s.Ring, Seen: s.Seen, Need: s.Need}
	if self, ok := v.Store(v.Self); ok && v.Self != 0 && string(s.Store) == string(self.ID[:]) {
		c.Store = v.Self
	}
	return c
}

// admit stores those series of the share whose slots have not moved.
func (i *Ingester) admit(ctx context.Context, s *peerpb.Share, own bool, h holding, res *peerpb.ShareResult) {
	if len(s.Disowned) > 0 {
		if err := i.disown(ctx, s); err != nil {
			res.Status, res.Detail = peerpb.Status_UNAVAILABLE, err.Error()
		}
		return
	}
	scan, err := scanShare(s, own, h)
	if err != nil {
		res.Status, res.Detail = peerpb.Status_UNAVAILABLE, err.Error()
		return
	}
	out := outcomesOf(int(s.Samples))
	defer putOutcomes(out)
	var born int
	if scan.stale == 0 && !scan.apart {
		res.Opening, born, err = i.storage.Append(ctx, s.Tenant, s.Incarnation, wire.NewReader(s.Frames), s.Repeat, s.Held, *out)
	} else {
		i.metrics.staleSeries.Add(float64(scan.stale))
		i.metrics.strangeSeries.Add(float64(scan.strange))
		res.StaleRevision = scan.revision
		res.Opening, born, err = i.admitParts(ctx, s, h, *out)
	}
	if err != nil {
		res.Status, res.Detail = peerpb.Status_UNAVAILABLE, err.Error()
		return
	}
	res.Outcomes, res.Born = exceptions(*out), uint32(born)
}

// scan is what a first look at a share says.
type scan struct {
	stale    int    // series that may not be stored
	strange  int    // those of them whose slots have not changed since the sender looked
	apart    bool   // some are exemplars or metadata
	revision uint64 // the change that made them stale
}

// scanShare looks at all of a share before anything of it is stored: bytes
// that are no frames, or not as many as it says, refuse it as a whole.
func scanShare(s *peerpb.Share, own bool, h holding) (scan, error) {
	var out scan
	tenant := ring.TenantHash(s.Tenant)
	r := wire.NewReader(s.Frames)
	samples, slots, every := 0, h.Table.Slots(), h.every(s.Seen)
	held := h.ring.heldBy(h.Self)
	current := held.Newest() <= s.Seen // the usual case: no slot has changed since
	for r.Next() {
		if !own && !wire.WellFormed(r.Labels()) {
			return out, fmt.Errorf("%w: labels", wire.ErrFrame)
		}
		samples += r.Samples()
		if r.Kind() > wire.Histograms {
			out.apart = true
		}
		if every {
			continue
		}
		slot := ring.KeyOf(tenant, r.Hash()).Slot(slots)
		if current && held.Has(slot) {
			continue
		}
		if !h.Admits(slot, s.Seen) {
			out.stale++
			changed := h.Table.At(slot).Changed
			if changed <= s.Seen { // never ours: the sender needs all that we know
				changed = h.Revision
				out.strange++
			}
			out.revision = max(out.revision, changed)
		}
	}
	if r.Err() != nil {
		return out, r.Err()
	}
	if samples != int(s.Samples) {
		return out, fmt.Errorf("%w: %d samples where the share says %d", wire.ErrFrame, samples, s.Samples)
	}
	return out, nil
}

var outcomes = sync.Pool{New: func() any { return new([]peerpb.Outcome) }}

// outcomesOf gives n outcomes, all of them failed until the storage says otherwise.
func outcomesOf(n int) *[]peerpb.Outcome {
	p := outcomes.Get().(*[]peerpb.Outcome)
	if cap(*p) < n {
		*p = make([]peerpb.Outcome, n)
	}
	*p = (*p)[:n]
	for i := range *p {
		(*p)[i] = peerpb.Outcome_FAILED
	}
	return p
}

func putOutcomes(p *[]peerpb.Outcome) {
	if poisoned {
		spoilOutcomes(*p)
	}
	outcomes.Put(p)
}

// exceptions are the samples that are not stored.
func exceptions(out []peerpb.Outcome) []*peerpb.SampleOutcome {
	n := 0
	for _, o := range out {
		if o != peerpb.Outcome_STORED {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	all, list := make([]peerpb.SampleOutcome, n), make([]*peerpb.SampleOutcome, 0, n)
	for i, o := range out {
		if o != peerpb.Outcome_STORED {
			e := &all[len(list)]
			e.Index, e.Outcome = uint32(i), o
			list = append(list, e)
		}
	}
	return list
}

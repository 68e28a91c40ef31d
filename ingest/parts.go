package ingest

import (
	"context"
	"errors"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// parts are the series of a share that are stored in different ways. Usually a
// share is samples, all of them current, and goes to the storage as it came.
type parts struct{ samples, exemplars, families lot }

// lot is frames that are stored together.
type lot struct {
	frames *buffer // nil: none
	places []int   // of its items among those of the share
}

func (p *lot) add(frame []byte, from, n, room int) {
	if p.frames == nil {
		p.frames = newBuffer(room)
	}
	p.frames.b = append(p.frames.b, frame...)
	for i := range n {
		p.places = append(p.places, from+i)
	}
}

func (p *parts) release() {
	for _, one := range []*lot{&p.samples, &p.exemplars, &p.families} {
		if one.frames != nil {
			one.frames.release()
		}
	}
}

// partsOf sorts the series of a share, and marks those that are stale.
func partsOf(s *peerpb.Share, h holding, out []peerpb.Outcome) (p parts) {
	tenant := ring.TenantHash(s.Tenant)
	every := h.every(s.Seen)
	r := wire.NewReader(s.Frames)
	for at := 0; r.Next(); at += r.Samples() {
		if !every && !h.Admits(ring.KeyOf(tenant, r.Hash()).Slot(h.Table.Slots()), s.Seen) {
			for i := range r.Samples() {
				out[at+i] = peerpb.Outcome_STALE_SERIES
			}
			continue
		}
		to := &p.samples
		switch r.Kind() {
		case wire.Exemplars:
			to = &p.exemplars
		case wire.Descriptors:
			to = &p.families
		}
		to.add(r.Frame(), at, r.Samples(), len(s.Frames))
	}
	return p
}

// admitParts stores what of the share is not stale: samples first, because an
// exemplar's series must be there. What the storage could not take of the rest has
// failed, and does not take the samples along.
func (i *Ingester) admitParts(ctx context.Context, s *peerpb.Share, h holding, out []peerpb.Outcome) (opening uint64, born int, err error) {
	p := partsOf(s, h, out)
	defer p.release()
	if p.samples.frames != nil {
		opening, err = i.admitLot(&p.samples, out, func(r *wire.Reader, some []peerpb.Outcome) (opening uint64, err error) {
			opening, born, err = i.storage.Append(ctx, s.Tenant, s.Incarnation, r, s.Repeat, s.Held, some)
			return opening, err
		})
		if err != nil {
			return opening, born, err
		}
	}
	var failed error
	if p.exemplars.frames != nil {
		_, failed = i.admitLot(&p.exemplars, out, func(r *wire.Reader, some []peerpb.Outcome) (uint64, error) {
			if i.annex == nil {
				return 0, errNoAnnex
			}
			return 0, i.annex.AppendExemplars(ctx, s.Tenant, s.Incarnation, r, some)
		})
	}
	if p.families.frames != nil {
		_, err = i.admitLot(&p.families, out, func(r *wire.Reader, some []peerpb.Outcome) (uint64, error) {
			return 0, i.keepFamilies(ctx, s, r, some)
		})
		failed = errors.Join(failed, err)
	}
	if p.samples.frames == nil {
		return opening, born, failed
	}
	return opening, born, nil
}

// errNoAnnex is for those who give frames to a storage that keeps no such thing.
var errNoAnnex = errors.New("this storage keeps samples only")

// admitLot stores one, and puts its outcomes among those of the share.
func (i *Ingester) admitLot(p *lot, out []peerpb.Outcome, store func(*wire.Reader, []peerpb.Outcome) (uint64, error)) (uint64, error) {
	some := outcomesOf(len(p.places))
	defer putOutcomes(some)
	opening, err := store(wire.NewReader(p.frames.b), *some)
	for k, at := range p.places {
		out[at] = (*some)[k]
	}
	return opening, err
}

// keepFamilies keeps the descriptions of metric families. One that is none can
// never be kept.
func (i *Ingester) keepFamilies(ctx context.Context, s *peerpb.Share, r *wire.Reader, some []peerpb.Outcome) error {
	if i.annex == nil {
		return errNoAnnex
	}
	var all []Metadata
	for k := 0; r.Next(); k++ {
		some[k] = peerpb.Outcome_STORED
		m, ok := r.Metadata()
		if !ok {
			some[k] = peerpb.Outcome_BAD_LABELS
			continue
		}
		all = append(all, Metadata{Family: string(m.Family), Type: m.TypeName(), Help: string(m.Help), Unit: string(m.Unit)})
	}
	err := i.annex.AppendMetadata(ctx, s.Tenant, s.Incarnation, all)
	if err != nil {
		for k := range some {
			some[k] = peerpb.Outcome_FAILED
		}
	}
	return err
}

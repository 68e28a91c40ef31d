package ingest

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"golang.org/x/sync/errgroup"

	"github.com/muster-metrics/muster/ingest/wire"
)

const (
	// maxParts is how many tenants the series of one request may name.
	maxParts = 1000
	// meetParts is how many of them are looked for at once: some may have to be created.
	meetParts = 16
)

// recast is a request whose series go through their tenant's rules, and where a
// label says so to several tenants. Each of these has a part of it, a write of its
// own: judged by its tenant's limits, stored and refused apart from the others, and
// answered together with them. It costs another pass over the series, which
// requests of tenants without rules, in a cluster that does not split, never take.
type recast struct {
	ingester *Ingester
	home     string // the tenant that the request came as
	source   *batch
	repeat   bool
	label    string // that splits; "": none
	parts    []*part
	of       []uint32 // the part of each series
	at       []place  // where each series is in its part
}

// place is where a series of the source is in the batch of its part.
type place struct {
	first, samples uint32
	dropped        bool // by the rules: it is nowhere, and nothing is wrong with it
}

// part is what of a request is one tenant's.
type part struct {
	id string // the tenant's
	sight
	err error // nothing of it can be written

	samples   int // exemplars among them
	exemplars int
	bytes     int
	first     uint32 // its first series in the source

	batch   *batch
	dropped int // samples
	write   *write
}

// refusable is how many samples an answer that refuses all of them tells of. Exemplars
// are told of where there is nothing else.
func (p *part) refusable() int {
	if n := p.samples - p.exemplars; n > 0 {
		return n
	}
	return p.samples
}

// recast carries out a request whose series have been laid out as they came. by is
// what its own tenant is seen by.
func (i *Ingester) recast(ctx context.Context, home string, by sight, b *batch, repeat bool) (*report, error) {
	r := &recast{ingester: i, home: home, source: b, repeat: repeat, label: by.view.SplitLabel}
	if err := r.split(by); err != nil {
		return nil, err
	}
	r.meet(ctx)
	defer r.release()
	for _, p := range r.parts {
		if p.err == nil && p.samples > 0 {
			p.err = r.open(p)
		}
	}
	turn, err := i.admission.turn(ctx, home)
	if err != nil {
		return nil, err
	}
	r.lay()
	turn()
	r.charge()
	var running sync.WaitGroup
	for _, p := range r.parts {
		if p.err == nil && p.batch != nil {
			p.write = &write{ingester: i, tenant: p.id, batch: p.batch.wire, frames: p.batch.frames, repeat: repeat}
			running.Go(func() { p.write.run(ctx, p.view, p.tenant) })
		}
	}
	running.Wait()
	return r.report(), nil
}

// split finds the part of each series. The first part is the request's own tenant's.
func (r *recast) split(by sight) error {
	w := r.source.wire
	r.parts = []*part{{id: r.home, sight: by}}
	r.of = make([]uint32, len(w.Series))
	known := map[string]uint32{r.home: 0}
	for n, s := range w.Series {
		var name []byte
		if r.label != "" {
			name = w.Label(s, r.label)
		}
		k := uint32(0)
		if name != nil {
			var ok bool
			if k, ok = known[string(name)]; !ok {
				if len(r.parts) == maxParts {
					return &wire.TooLarge{What: "tenants in a request", Limit: maxParts}
				}
				k = uint32(len(r.parts))
				known[string(name)] = k
				r.parts = append(r.parts, &part{id: string(name)})
			}
		}
		p := r.parts[k]
		if p.samples == 0 {
			p.first = uint32(n)
		}
		p.samples += int(s.Samples)
		if w.Kind(s) == wire.Exemplars {
			p.exemplars += int(s.Samples)
		}
		p.bytes += int(s.End - s.Start)
		r.of[n] = k
	}
	return nil
}

// meet finds the tenants of the parts, and creates those that may be.
func (r *recast) meet(ctx context.Context) {
	admit := r.parts[0].view.Admit
	var g errgroup.Group
	g.SetLimit(meetParts)
	for _, p := range r.parts[1:] {
		if admit != nil {
			if p.err = admit(r.home, p.id); p.err != nil {
				continue
			}
		}
		g.Go(func() error {
			p.view, p.tenant, p.err = r.ingester.tenant(ctx, p.id)
			return nil
		})
	}
	_ = g.Wait()
}

// open makes room for what the part becomes: it is held by the tenant whose request it is.
func (r *recast) open(p *part) error {
	leave, err := r.ingester.admission.more(r.home, int64(p.bytes))
	if err != nil {
		return err
	}
	p.batch = &batch{tenant: r.home, wire: batches.Get().(*wire.Batch), frames: newBuffer(p.bytes), leave: []func(){leave}, held: int64(p.bytes)}
	p.batch.wire.Frames = p.batch.frames.b
	p.batch.wire.Reset()
	return nil
}

// lay lays out the series of all parts. One whose series go beyond a limit as a
// whole is refused as a whole.
func (r *recast) lay() {
	copies := make([]*wire.Copy, len(r.parts))
	for k, p := range r.parts {
		if p.batch == nil {
			continue
		}
		lim := r.ingester.limits(p.view, p.tenant)
		lim.Bytes = 2*p.bytes + 1<<20
		lim.More = func(n int) (int, error) { return n, r.ingester.grow(p.batch, n) }
		copies[k] = wire.NewCopy(lim, p.batch.wire)
	}
	w := r.source.wire
	var scratch labels.ScratchBuilder
	build := labels.NewBuilder(labels.EmptyLabels())
	r.at = make([]place, len(w.Series))
	for n, s := range w.Series {
		p := r.parts[r.of[n]]
		if p.err != nil {
			continue
		}
		build.Reset(w.Labels(s, &scratch))
		if r.label != "" {
			build.Del(r.label)
		}
		keep, ls := relabel.ProcessBuilder(build, p.tenant.Relabel...), labels.EmptyLabels()
		if keep {
			ls = build.Labels()
		}
		if ls.IsEmpty() { // the rules took all of them: Prometheus drops such a series, too
			if w.Kind(s) != wire.Exemplars {
				p.dropped += int(s.Samples)
			}
			r.at[n].dropped = true
			continue
		}
		first := p.batch.wire.Items()
		p.err = copies[r.of[n]].Take(w, s, ls)
		r.at[n] = place{first: uint32(first), samples: uint32(p.batch.wire.Items() - first)}
	}
	for _, p := range r.parts {
		if p.batch != nil {
			p.batch.frames.b = p.batch.wire.Frames
		}
	}
}

// charge takes what a part brings out of its tenant's rate.
func (r *recast) charge() {
	for _, p := range r.parts {
		if p.err == nil && p.batch != nil {
			p.err = r.ingester.chargeRate(p.id, p.tenant, p.batch.wire.Samples+p.batch.wire.Refused.Total())
		}
	}
}

// report tells what became of all parts, and counts it.
func (r *recast) report() *report {
	w, m := r.source.wire, r.ingester.metrics
	complaints := &r.ingester.complaints
	complaints.atDoor(r.home, &w.Refused)
	all := &report{refused: r.refused}
	all.refuse(&w.Refused) // what no tenant's rules could have put right
	m.refusedAtDoor(r.home, &w.Refused)
	for _, p := range r.parts {
		where := ""
		if len(r.parts) > 1 {
			where = "tenant " + fmt.Sprintf("%.60q", p.id) + ": "
		}
		switch {
		case p.write != nil:
			m.dropped(p.id, p.dropped)
			all.add(where, r.ingester.judged(p.write))
		case p.samples > 0:
			all.fail(where, p.err, p.refusable(), w.Text(w.Series[p.first]))
			status := statusOf(p.err)
			complaints.answered(r.home, account{known: true, samples: p.refusable()}, status, p.err.Error())
		}
	}
	return all
}

// refused calls f with the samples of the source that their parts refused for good. A series
// of which some are not in its part counts as one that is not there: a request whose
// samples are asked about has one in each series.
func (r *recast) refused(f func(sample int)) {
	for n, s := range r.source.wire.Series {
		p, at := r.parts[r.of[n]], r.at[n]
		switch {
		case at.dropped:
		case p.err != nil || at.samples < s.Samples:
			for k := range s.Samples {
				f(int(s.First + k))
			}
		case p.write.tally.ballots != nil:
			for k := range s.Samples {
				if p.write.tally.ballots[at.first+k].verdict == refused {
					f(int(s.First + k))
				}
			}
		}
	}
}

func (r *recast) release() {
	for _, p := range r.parts {
		if p.batch != nil {
			p.batch.release()
		}
	}
}

// add takes the report of a part into that of the request.
func (r *report) add(where string, of *report) {
	r.total, r.stored, r.forGood, r.deferred = r.total+of.total, r.stored+of.stored, r.forGood+of.forGood, r.deferred+of.deferred
	r.histograms += of.histograms
	r.exemplars, r.deferredExemplars = r.exemplars+of.exemplars, r.deferredExemplars+of.deferredExemplars
	r.refusedExemplars += of.refusedExemplars
	r.conflicting += of.conflicting
	for _, l := range of.why {
		l.text = where + l.text
		r.why = append(r.why, l)
	}
	for _, l := range of.lines {
		l.text = where + l.text
		r.lines = append(r.lines, l)
	}
}

// fail takes in samples of which none was looked at: they may come again where the
// reason may pass, and are refused for good where it does not.
func (r *report) fail(where string, err error, samples int, first string) {
	r.total += samples
	line := reason{where + err.Error(), samples, first}
	status := statusOf(err)
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		r.deferred += samples
		r.why = append(r.why, line)
		if status == http.StatusTooManyRequests {
			r.limited += samples
			r.after = later(r.after, retryAfterOf(err))
		}
		return
	}
	r.forGood += samples
	r.denied += samples
	r.deniedBy = max(r.deniedBy, status)
	r.lines = append(r.lines, line)
}

package tsdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// An ExemplarShare is the exemplars of a write that one store gets: series in any
// order, and the exemplars of each. Its reader owns nothing of it.
type ExemplarShare interface {
	// Next advances to the next series, and says whether there is one.
	Next() bool
	// Labels and Hash are as a Share's.
	Labels() []byte
	Hash() uint64
	// Exemplar gives the series' next exemplar: its labels, laid out like those of a
	// series and perhaps none, milliseconds since the epoch, and its value.
	Exemplar() (labels []byte, t int64, v float64, ok bool)
}

// AppendExemplars writes a share of exemplars and says, in out, what became of
// each, in the share's order. Their series are held already, or the outcome is
// SeriesLimit: an exemplar makes no series. BadLabels is one whose labels are not
// in order, or longer than 128 characters; Conflict one that is older than what
// its series has, and not among it. A tenant keeps the newest Settings.Exemplars.
// Errors are those of Append.
func (d *DB) AppendExemplars(ctx context.Context, key Key, share ExemplarShare, out []Outcome) error {
	fail := func(err error) error {
		setAll(out, Failed)
		d.met.countExemplars(out)
		return fmt.Errorf("append exemplars to %s: %w", key, err)
	}
	t, e, err := d.hold(ctx, key)
	if err != nil {
		return fail(err)
	}
	defer t.handBack(e)
	if err := e.appendExemplars(context.WithoutCancel(ctx), share, out); err != nil {
		return fail(err)
	}
	d.met.countExemplars(out)
	return nil
}

// appendExemplars writes the share with one appender, and looks afterwards
// whether those are there of which its answer does not tell: the TSDB judges an
// exemplar by what is committed, and drops it at the commit without a word.
func (e *engine) appendExemplars(ctx context.Context, share ExemplarShare, out []Outcome) error {
	if err := e.exemplars.makeRoom(e, int64(len(out))); err != nil {
		return err
	}
	p := exemplarPass{engine: e, app: e.db.AppenderV2(ctx), out: out}
	p.refs, _ = p.app.(storage.GetRef)
	p.sink, _ = p.app.(storage.ExemplarAppenderV2)
	setAll(out, Failed)
	for share.Next() && p.i < len(out) {
		p.series(share)
	}
	if err := e.commit(p.app); err != nil {
		return err
	}
	stored := 0
	for _, o := range out {
		if o == Stored {
			stored++
		}
	}
	e.exemplars.took(int64(stored))
	return e.lookForExemplars(ctx, p.doubtful, out)
}

// exemplarPass is one appender's way over a share of exemplars.
type exemplarPass struct {
	engine *engine
	app    storage.AppenderV2
	refs   storage.GetRef
	sink   storage.ExemplarAppenderV2
	out    []Outcome
	i      int // the next exemplar's number
	// doubtful are those whose fate the appender has not told.
	doubtful []given
}

// given is an exemplar of a share.
type given struct {
	exemplar.Exemplar
	series labels.Labels
	i      int // its number in the share
}

// series appends the exemplars of the series the share stands at.
func (p *exemplarPass) series(share ExemplarShare) {
	ls, ok := keepLabels(string(share.Labels()))
	list := p.collect(share, ls)
	if !ok {
		p.judge(list, BadLabels)
		return
	}
	if len(list) == 0 {
		return
	}
	ref := p.engine.refs.find(p.engine.refs.id(share.Hash(), share.Labels()))
	if ref == 0 && p.refs != nil {
		ref, _ = p.refs.GetRef(ls, ls.Hash())
	}
	if ref == 0 || p.sink == nil {
		p.judge(list, SeriesLimit)
		return
	}
	slices.SortFunc(list, inOrder)
	all := make([]exemplar.Exemplar, len(list))
	for k := range list {
		all[k] = list[k].Exemplar
	}
	got, err := p.sink.AppendExemplars(ref, ls, all)
	if errors.Is(err, storage.ErrNotFound) {
		p.judge(list, SeriesLimit)
		return
	}
	p.judge(list, Stored)
	certain := p.engine.exemplars.newer(got, list[0].Ts, list[len(list)-1].Ts)
	var partial *storage.AppendPartialError
	if errors.As(err, &partial) {
		certain = false
		for _, one := range partial.ExemplarErrors {
			p.out[list[one.Index].i] = BadLabels
			if errors.Is(one.Err, storage.ErrOutOfOrderExemplar) {
				p.out[list[one.Index].i] = Conflict
			}
		}
	} else if err != nil {
		p.judge(list, Failed)
		return
	}
	if !certain {
		p.doubtful = append(p.doubtful, list...)
	}
}

// collect takes copies of the series' exemplars; one with labels that cannot be
// kept has its outcome then.
func (p *exemplarPass) collect(share ExemplarShare, series labels.Labels) (list []given) {
	for p.i < len(p.out) {
		raw, t, v, ok := share.Exemplar()
		if !ok {
			return list
		}
		ls := labels.EmptyLabels()
		if len(raw) > 0 {
			if ls, ok = keepLabels(string(raw)); !ok {
				p.out[p.i] = BadLabels
				p.i++
				continue
			}
		}
		list = append(list, given{exemplar.Exemplar{Labels: ls, Value: v, Ts: t, HasTs: true}, series, p.i})
		p.i++
	}
	return list
}

func (p *exemplarPass) judge(list []given, o Outcome) {
	for _, g := range list {
		p.out[g.i] = o
	}
}

// inOrder is the order in which the TSDB takes the exemplars of a series.
func inOrder(a, b given) int {
	if c := cmp.Or(cmp.Compare(a.Ts, b.Ts), cmp.Compare(a.Value, b.Value)); c != 0 {
		return c
	}
	return cmp.Compare(a.Labels.Hash(), b.Labels.Hash())
}

// everySeries matches them all: a series without a name is not taken.
var everySeries = labels.MustNewMatcher(labels.MatchNotEqual, model.MetricNameLabel, "")

// lookForExemplars says of each whether it is held now.
func (e *engine) lookForExemplars(ctx context.Context, doubtful []given, out []Outcome) error {
	if len(doubtful) == 0 {
		return nil
	}
	mint, maxt := doubtful[0].Ts, doubtful[0].Ts
	for _, g := range doubtful {
		mint, maxt = min(mint, g.Ts), max(maxt, g.Ts)
	}
	q, err := e.db.ExemplarQuerier(ctx)
	if err != nil {
		return fmt.Errorf("read exemplars back: %w", err)
	}
	held, err := q.Select(mint, maxt, []*labels.Matcher{everySeries})
	if err != nil {
		return fmt.Errorf("read exemplars back: %w", err)
	}
	places := make(map[uint64][]int, len(held))
	for k := range held {
		h := held[k].SeriesLabels.Hash()
		places[h] = append(places[h], k)
	}
	for _, g := range doubtful {
		there := slices.ContainsFunc(places[g.series.Hash()], func(k int) bool {
			return labels.Equal(held[k].SeriesLabels, g.series) && slices.ContainsFunc(held[k].Exemplars, g.same)
		})
		switch {
		case there:
			out[g.i] = Stored
		case out[g.i] == Stored:
			out[g.i] = Conflict
		}
	}
	return nil
}

func (g given) same(e exemplar.Exemplar) bool {
	return g.Ts == e.Ts && math.Float64bits(g.Value) == math.Float64bits(e.Value) && labels.Equal(g.Labels, e.Labels)
}

func setAll(out []Outcome, o Outcome) {
	for i := range out {
		out[i] = o
	}
}

// Exemplars reads those held of the key in [mint, maxt], in milliseconds, both
// ends included, of the series that one of the selectors chooses; sorted by their
// series' labels. Errors are those of ChunkQuerier.
func (d *DB) Exemplars(ctx context.Context, key Key, mint, maxt int64, selectors ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	t, e, err := d.look(ctx, key)
	if err != nil || e == nil {
		return nil, err
	}
	defer t.release()
	q, err := e.db.ExemplarQuerier(ctx)
	if err != nil {
		return nil, fmt.Errorf("query exemplars: %w", err)
	}
	found, err := q.Select(mint, maxt, selectors...)
	if err != nil {
		return nil, fmt.Errorf("query exemplars: %w", err)
	}
	return found, nil
}

// look gives the engine of a key to a reader; release must follow. A key without
// a directory has none, and that is no error.
func (d *DB) look(ctx context.Context, key Key) (*tenant, *engine, error) {
	t, err := d.find(key)
	if err != nil {
		return nil, nil, fmt.Errorf("query: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	e, err := t.acquire(ctx, false)
	if err != nil {
		return nil, nil, fmt.Errorf("query: %w", err)
	}
	return t, e, nil
}

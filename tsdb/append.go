package tsdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// staleBits are those of a float stale marker. The TSDB's commit turns it into a
// histogram, where its series is one of these, and moves it behind the floats and
// histograms that the appender got after it, which it then drops for their age, or
// it drops the marker: what follows a stale marker waits for its commit.
const staleBits = value.StaleNaN

// append writes the share and says of every sample what became of it. Four
// steps; all but the first concern only samples that the first did not take:
//
//  1. one appender over the share: by reference, without allocation;
//  2. the samples that stand, in the share, behind a newer or equal one of their
//     series: an appender judges by what is committed, so they must wait;
//  3. what was refused is read back;
//  4. what is not there goes in through the out-of-order window.
func (e *engine) append(ctx context.Context, share Share, repeat, held bool, out []Outcome) error {
	s := takeScratch()
	defer s.release()
	if err := e.appendFirst(ctx, s, share, repeat, held, out); err != nil {
		return err
	}
	refused := s.refused
	if len(s.late) > 0 {
		sortStragglers(s.late)
		more, err := e.appendSorted(ctx, s.late, repeat || e.windowShut(), out)
		if err != nil {
			failAll(refused, out)
			return err
		}
		refused = append(refused, more...)
	}
	if len(refused) == 0 {
		return nil
	}
	sortStragglers(refused)
	absent, err := e.readBack(ctx, refused, repeat, out)
	if err != nil {
		failAll(refused, out)
		return err
	}
	return e.appendAbsent(ctx, absent, out)
}

// appendFirst is step 1. It fills out, and leaves the rest in s.
func (e *engine) appendFirst(ctx context.Context, s *scratch, share Share, repeat, held bool, out []Outcome) error {
	p := pass{engine: e, app: e.db.AppenderV2(ctx), known: &e.refs, scratch: s, out: out, held: held}
	p.refs, _ = p.app.(storage.GetRef)
	e.refs.bound(e.db.Head().NumSeries())
	p.opts.RejectOutOfOrder = repeat || e.windowShut()
	s.seen.reset(len(out))
	e.recall(s, share)
	share.Reset()
	for k := 0; share.Next() && k < len(s.ids); k++ {
		p.series(share, s.ids[k], s.refs[k])
	}
	for ; p.i < len(out); p.i++ {
		out[p.i] = Failed
	}
	e.born = p.born
	err := e.commit(p.app)
	if err != nil {
		for i, o := range out {
			if o == Stored {
				out[i] = Failed
			}
		}
		failAll(s.late, out)
		failAll(s.refused, out)
	}
	return err
}

// recall looks up what is remembered of the share's series, all at once: each
// look misses the processor's caches, and misses that do not wait for each other
// cost little more than one.
func (e *engine) recall(s *scratch, share Share) {
	s.ids = s.ids[:0]
	share.Reset()
	for share.Next() {
		s.ids = append(s.ids, e.refs.id(share.Hash(), share.Labels()))
	}
	s.refs = e.refs.findAll(s.ids, s.refs[:0])
}

// pass is one appender's way over a share.
type pass struct {
	engine  *engine
	app     storage.AppenderV2
	refs    storage.GetRef
	known   *refTable
	opts    storage.AOptions
	scratch *scratch
	out     []Outcome
	i       int // the next sample's number

	raw  []byte // the series the share stands at
	hash uint64
	kept string // a copy of raw, made once where one is needed

	held  bool  // by another replica
	born  int   // new series so far
	asked bool  // for the quota, which is the same for the whole share
	quota Quota // that new series are held to
}

// series appends the samples of the series the share stands at; found is its
// reference, if it is remembered.
func (p *pass) series(share Share, id seriesID, found storage.SeriesRef) {
	p.raw, p.hash, p.kept = share.Labels(), share.Hash(), ""
	ref := found
	if ref == 0 {
		ref = p.lookUp()
	}
	if ref != 0 && p.engine.census.strangeTo(ref) && !p.adopt(share, ref) {
		return
	}
	first := p.i
	for p.i < len(p.out) {
		t, v, ok := share.Sample()
		if !ok {
			break
		}
		ref = p.sample(ref, t, reading{v: v})
		p.i++
	}
	if p.i == first {
		ref = p.histograms(share, ref)
	}
	if ref != found && ref != 0 {
		p.known.put(id, ref)
	}
}

// histograms appends those of the series the share stands at.
func (p *pass) histograms(share Share, ref storage.SeriesRef) storage.SeriesRef {
	for p.i < len(p.out) {
		t, h, fh, ok := share.Histogram()
		if !ok {
			break
		}
		if h == nil && fh == nil {
			p.out[p.i] = BadHistogram
		} else {
			ref = p.sample(ref, t, reading{h: h, fh: fh})
		}
		p.i++
	}
	return ref
}

// lookUp asks the TSDB for a series that is not remembered; 0: it is new.
func (p *pass) lookUp() storage.SeriesRef {
	ls := viewLabels(p.raw)
	ref, _ := p.refs.GetRef(ls, p.hash)
	if ref != 0 {
		return ref
	}
	// A new series; or a wrong hash, which would hide that the appender already
	// holds samples of this one.
	if own := ls.Hash(); own != p.hash {
		p.hash = own
		ref, _ = p.refs.GetRef(ls, own)
	}
	return ref
}

// sample appends one sample, or puts it aside, and gives the reference by which
// its series is known from now on.
func (p *pass) sample(ref storage.SeriesRef, t int64, v reading) storage.SeriesRef {
	bits := v.bits()
	held := p.scratch.seen.find(ref)
	if held != nil && (t <= held.t || held.bits == staleBits) {
		if t == held.t && bits == held.bits && bits != histogramBits {
			p.out[p.i] = Stored // if the commit succeeds, as for all that are marked so
			return ref
		}
		p.scratch.late = append(p.scratch.late, p.straggler(ref, t, v))
		return ref
	}
	got, err := p.append(ref, t, v)
	if ref != 0 && errors.Is(err, promtsdb.ErrInvalidSample) {
		// Collected since; or made anew by an earlier entry of this share, behind
		// whose samples this one must stand.
		return p.sample(p.lookUp(), t, v)
	}
	if errors.Is(err, errSeriesLimit) {
		p.out[p.i] = SeriesLimit // nothing is copied or allocated for it
		return ref
	}
	if err != nil {
		aside := p.straggler(ref, t, v)
		p.out[p.i] = aside.judge(err)
		if p.out[p.i] == Failed && aside.refusedBy(err) {
			p.scratch.refused = append(p.scratch.refused, aside)
		}
		return ref
	}
	if got != ref {
		held = p.scratch.seen.find(got)
	}
	p.out[p.i] = Stored
	if held != nil {
		held.t, held.bits = t, bits
	} else {
		p.scratch.seen.put(got, t, bits)
	}
	return got
}

// append appends by reference, which is ErrInvalidSample where the series was
// collected a moment ago, or, where the series is new, by labels that the TSDB
// may keep. One series too many is errSeriesLimit.
func (p *pass) append(ref storage.SeriesRef, t int64, v reading) (storage.SeriesRef, error) {
	if ref != 0 {
		return p.app.Append(ref, labels.EmptyLabels(), 0, t, v.v, v.h, v.fh, p.opts)
	}
	if p.full() {
		return 0, errSeriesLimit
	}
	ls, ok := keepLabels(p.keep())
	if !ok {
		return 0, promtsdb.ErrInvalidSample
	}
	ref, err := p.app.Append(0, ls, 0, t, v.v, v.h, v.fh, p.opts)
	if ref != 0 {
		p.born++
	}
	return ref, err
}

func (p *pass) keep() string {
	if p.kept == "" {
		p.kept = string(p.raw)
	}
	return p.kept
}

func (p *pass) straggler(ref storage.SeriesRef, t int64, v reading) straggler {
	return straggler{labels: p.keep(), hash: p.hash, ref: ref, i: p.i, t: t, reading: v}
}

// judge gives the outcome that an append's error means by itself, and notes what
// the read-back needs to know.
func (s *straggler) judge(err error) Outcome {
	switch {
	case errors.Is(err, promtsdb.ErrInvalidSample):
		return BadLabels
	case (s.h != nil || s.fh != nil) && invalidHistogram(err):
		return BadHistogram
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		s.newest = true
	case errors.Is(err, storage.ErrTooOldSample):
		s.tooOld = true
	}
	return Failed
}

func invalidHistogram(err error) bool {
	var invalid histogram.Error
	return errors.As(err, &invalid)
}

// refusedBy reports whether err says that the sample's time is past, so that the
// sample may be held already.
func (s *straggler) refusedBy(err error) bool {
	return s.newest || s.tooOld || errors.Is(err, storage.ErrOutOfOrderSample) || errors.Is(err, storage.ErrOutOfBounds)
}

// append looks the series up again: it was perhaps created, or collected, since.
func (s *straggler) append(app storage.AppenderV2, opts storage.AOptions) error {
	ls, ok := keepLabels(s.labels)
	if !ok {
		return promtsdb.ErrInvalidSample
	}
	_, err := app.Append(0, ls, 0, s.t, s.v, s.h, s.fh, opts)
	return err
}

// appendSorted appends sorted samples: each series' in ascending order, equal
// times once. Samples refused for their time are given back, without an outcome.
func (e *engine) appendSorted(ctx context.Context, sorted []straggler, reject bool, out []Outcome) (refused []straggler, err error) {
	groups := twins(sorted)
	// A crash, or an error, between two rounds: the first ones are in the log, all
	// are reported as failed, and a repeat finds those.
	for left := groups; len(left) > 0; {
		if left, err = e.appendRound(ctx, left, storage.AOptions{RejectOutOfOrder: reject}, out); err != nil {
			failAll(sorted, out)
			return nil, err
		}
	}
	for _, group := range groups {
		first := group[0]
		if first.refused {
			refused = append(refused, first)
		}
		for _, s := range group[1:] {
			switch {
			case first.refused:
				s.newest, s.tooOld = first.newest, first.tooOld
				refused = append(refused, s)
			case out[first.i] == Stored && !s.same(first.reading):
				out[s.i] = Conflict
			default:
				out[s.i] = out[first.i]
			}
		}
	}
	return refused, nil
}

// appendRound appends the first sample of each group with one appender, and gives
// back the groups that have to wait for its commit.
func (e *engine) appendRound(ctx context.Context, groups [][]straggler, opts storage.AOptions, out []Outcome) (wait [][]straggler, err error) {
	app := e.db.AppenderV2(ctx)
	var before *straggler
	for _, group := range groups {
		first := &group[0]
		if before != nil && before.bits() == staleBits && before.series(first) == 0 {
			wait = append(wait, group)
			continue
		}
		before = first
		first.refused, first.newest, first.tooOld = false, false, false // a new judge
		err := first.append(app, opts)
		out[first.i] = Stored
		if err != nil {
			out[first.i] = first.judge(err)
			first.refused = out[first.i] == Failed && first.refusedBy(err)
		}
	}
	return wait, e.commit(app)
}

// twins cuts sorted samples into groups of equal series and time.
func twins(sorted []straggler) [][]straggler {
	groups := make([][]straggler, 0, len(sorted))
	for from, n := 0, 1; n <= len(sorted); n++ {
		if n < len(sorted) && sorted[n].t == sorted[from].t && sorted[n].series(&sorted[from]) == 0 {
			continue
		}
		groups = append(groups, sorted[from:n])
		from = n
	}
	return groups
}

// appendAbsent is step 4: what the read-back did not find goes in through the
// out-of-order window.
func (e *engine) appendAbsent(ctx context.Context, absent []straggler, out []Outcome) error {
	if len(absent) == 0 {
		return nil
	}
	if err := e.awaitWindow(); err != nil {
		failAll(absent, out)
		return err
	}
	refused, err := e.appendSorted(ctx, absent, false, out)
	for _, s := range refused {
		out[s.i] = s.verdict()
	}
	return err
}

// verdict of a sample that the TSDB does not take, by what was read back.
func (s *straggler) verdict() Outcome {
	if s.newest || s.differs {
		return Conflict
	}
	return Hole
}

// commit makes what app holds durable against the loss of this process, and
// readable. After an error nothing of it counts as held, and the engine takes no
// more: a log whose write failed may hold half a record, and a later one behind
// it would be cut away at the next opening.
func (e *engine) commit(app storage.AppenderV2) error {
	e.news.unlogged.Store(false)
	e.unsynced.Store(true)
	e.unmapped.Store(true)
	err := app.Commit()
	if err == nil && e.news.unlogged.Load() {
		err = errUnlogged
	}
	if err != nil {
		e.torn = true
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

var errUnlogged = errors.New("out-of-order samples were not logged")

func failAll(s []straggler, out []Outcome) {
	for i := range s {
		out[s[i].i] = Failed
	}
}

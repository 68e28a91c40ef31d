package ingest

import (
	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
)

// verdict is what became of a sample.
type verdict uint8

const (
	open     verdict = iota // not yet known
	acked                   // a quorum holds it
	refused                 // it can never be stored
	deferred                // it lacks its quorum for a reason that may pass
)

// contents are the outcomes that blame the sample and not the replica, and
// seriesLimit is one of them.
const (
	contents    = 4
	seriesLimit = 3
)

func contentOf(o peerpb.Outcome) (int, bool) {
	switch o {
	case peerpb.Outcome_CONFLICT:
		return 0, true
	case peerpb.Outcome_BAD_LABELS:
		return 1, true
	case peerpb.Outcome_BAD_HISTOGRAM:
		return 2, true
	case peerpb.Outcome_SERIES_LIMIT:
		return seriesLimit, true
	default:
		return 0, false
	}
}

// ballot is the votes of the replicas on one sample.
type ballot struct {
	verdict verdict
	stored  uint8
	lost    uint8           // failed for a reason that may pass
	stale   bool            // one of the lost was stale
	content [contents]uint8 // failed for good, by class
}

func (b *ballot) blamed() int {
	return int(b.content[0]) + int(b.content[1]) + int(b.content[2]) + int(b.content[3])
}

// electorate is how a series is voted on.
type electorate struct {
	replicas, quorum uint8
	stored           uint8 // replicas that stored all of it, while nothing has gone wrong
	wave             uint8 // in which it was last sent; votes of older ones do not count
	again            bool  // it is in tally.stale
	doubted          bool  // a replica has called it stale, see doubt
}

// tally counts the replicas' answers until the verdict on every sample is
// known. It only counts: who sends, waits and answers is write.go. As long as
// every replica stores everything it counts series; from the first failure on,
// samples.
type tally struct {
	batch   *wire.Batch
	series  []electorate
	ballots []ballot // one per sample, from the first failure on
	open    int      // samples and exemplars without a verdict
	// stale are the series that have lost their quorum because a replica has
	// seen a change that the coordinator had not: they are to be routed again.
	stale []uint32
	// doubted are those that still may have it from the others.
	doubted []uint32
}

func newTally(b *wire.Batch) *tally {
	return &tally{batch: b, series: make([]electorate, len(b.Series)), open: b.Items()}
}

// send opens the vote on the series of a plan; again: they were sent before.
func (t *tally) send(p *plan, wave uint8) {
	for i := range p.shares {
		p.shares[i].wave = wave
		p.shares[i].each(func(n uint32) { t.enrol(n, wave, p.vote) })
	}
	for _, n := range p.short {
		t.each(n, func(b *ballot) { t.decide(b, deferred) })
	}
}

func (t *tally) enrol(n uint32, wave uint8, vote func(uint32) (int, int)) {
	e := &t.series[n]
	if e.replicas > 0 && e.wave == wave {
		return
	}
	replicas, quorum := vote(n)
	if wave > 0 {
		t.each(n, func(b *ballot) {
			if b.verdict == open {
				*b = ballot{}
			}
		})
	}
	*e = electorate{replicas: uint8(replicas), quorum: uint8(quorum), wave: wave}
}

// clean counts a share of which the replica has stored everything.
func (t *tally) clean(s *share) {
	if t.ballots != nil {
		t.count(s, nil)
		return
	}
	s.each(func(n uint32) {
		e := &t.series[n]
		e.stored++
		if e.stored == e.quorum {
			t.open -= int(t.batch.Series[n].Samples)
		}
	})
}

// count takes the outcome of each sample of the share, in its order; nil:
// everything is stored.
func (t *tally) count(s *share, outcome func(i int) peerpb.Outcome) {
	t.split()
	i := 0
	s.each(func(n uint32) {
		e, first := &t.series[n], t.batch.Series[n].First
		samples := int(t.batch.Series[n].Samples)
		if e.wave != s.wave {
			i += samples
			return
		}
		for k := range samples {
			o := peerpb.Outcome_STORED
			if outcome != nil {
				o = outcome(i)
			}
			t.vote(n, e, &t.ballots[int(first)+k], o)
			i++
		}
	})
}

// vote counts one replica's outcome of one sample.
func (t *tally) vote(n uint32, e *electorate, b *ballot, o peerpb.Outcome) {
	if c, ok := contentOf(o); ok {
		b.content[c]++
	} else if o == peerpb.Outcome_STORED {
		b.stored++
	} else {
		b.lost++
		b.stale = b.stale || o == peerpb.Outcome_STALE_SERIES
	}
	if b.verdict != open {
		return
	}
	replicas, quorum, blamed := int(e.replicas), int(e.quorum), b.blamed()
	pending := replicas - int(b.stored) - int(b.lost) - blamed
	switch hopeless := int(b.stored)+pending < quorum; {
	case int(b.stored) >= quorum:
		t.decide(b, acked)
	case blamed > replicas-quorum:
		t.decide(b, refused)
	case hopeless && b.stale:
		if !e.again {
			e.again = true
			t.stale = append(t.stale, n)
		}
	case hopeless && blamed+pending <= replicas-quorum:
		t.decide(b, deferred)
	case b.stale:
		t.doubt(n)
	}
}

// split turns from counting series to counting samples.
func (t *tally) split() {
	if t.ballots != nil {
		return
	}
	t.ballots = make([]ballot, t.batch.Items())
	for n := range t.series {
		e := &t.series[n]
		v := open
		if e.quorum > 0 && e.stored >= e.quorum {
			v = acked
		}
		s := t.batch.Series[n]
		for k := s.First; k < s.First+s.Samples; k++ {
			t.ballots[k] = ballot{verdict: v, stored: e.stored}
		}
	}
}

// giveUp defers what is still open of the given series; nil: of all.
func (t *tally) giveUp(series []uint32) {
	if t.open == 0 {
		return
	}
	if series == nil {
		series = numbers(len(t.series))
	}
	for _, n := range series {
		t.each(n, func(b *ballot) { t.decide(b, deferred) })
	}
}

// refused calls f with the number of each sample that can never be stored.
func (t *tally) refused(f func(sample int)) {
	for sample := range t.ballots {
		if t.ballots[sample].verdict == refused {
			f(sample)
		}
	}
}

// takeStale are the series to route again, once.
func (t *tally) takeStale() []uint32 {
	s := t.stale
	t.stale = nil
	return s
}

func (t *tally) each(n uint32, f func(*ballot)) {
	t.split()
	s := t.batch.Series[n]
	for k := s.First; k < s.First+s.Samples; k++ {
		f(&t.ballots[k])
	}
}

func (t *tally) decide(b *ballot, v verdict) {
	if b.verdict == open {
		b.verdict = v
		t.open--
	}
}

// summary is the account of all verdicts.
type summary struct {
	stored, deferred int
	// histograms are those of the stored that are native histograms.
	histograms int
	// refused counts by class what replicas refused for good; first is a series of each.
	refused       [contents]int
	first         [contents]uint32
	firstDeferred uint32
	// exemplars are those that are stored. For them nothing else changes an answer
	// but what may pass; refusedExemplars are by class, too.
	exemplars, deferredExemplars int
	refusedExemplars             [contents]int
}

func (t *tally) sum() summary {
	var out summary
	b := t.batch
	if t.ballots == nil && t.open == 0 {
		out.stored, out.histograms, out.exemplars = b.Samples, b.Histograms, b.Exemplars
		return out
	}
	for n := range t.series {
		kind := wire.Floats
		if b.Histograms+b.Exemplars > 0 {
			kind = b.Kind(b.Series[n])
		}
		t.each(uint32(n), func(v *ballot) { out.count(uint32(n), kind, v) })
	}
	return out
}

// count takes the verdict on a sample or exemplar of the series n.
func (s *summary) count(n uint32, kind wire.Kind, b *ballot) {
	exemplar := kind == wire.Exemplars
	switch {
	case b.verdict == acked && exemplar:
		s.exemplars++
	case b.verdict == acked:
		s.stored++
		if kind == wire.Histograms {
			s.histograms++
		}
	case b.verdict == refused && exemplar:
		s.refusedExemplars[mostFrequent(b.content)]++
	case b.verdict == refused:
		c := mostFrequent(b.content)
		if s.refused[c]++; s.refused[c] == 1 {
			s.first[c] = n
		}
	default:
		if s.deferred+s.deferredExemplars == 0 {
			s.firstDeferred = n
		}
		if exemplar {
			s.deferredExemplars++
		} else {
			s.deferred++
		}
	}
}

func mostFrequent(counts [contents]uint8) int {
	best := 0
	for i, n := range counts {
		if n > counts[best] {
			best = i
		}
	}
	return best
}

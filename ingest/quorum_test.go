package ingest

import (
	"math/rand/v2"
	"testing"

	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

var allOutcomes = []peerpb.Outcome{
	peerpb.Outcome_STORED, peerpb.Outcome_CONFLICT, peerpb.Outcome_HOLE, peerpb.Outcome_BAD_LABELS,
	peerpb.Outcome_BAD_HISTOGRAM, peerpb.Outcome_SERIES_LIMIT, peerpb.Outcome_FAILED,
}

// TestTallyAgreesWithTheRule gives each replica's outcome of each sample by
// chance, in any order of answers, and holds every verdict against the rule
// as consistency tells it. No verdict may come before it is certain.
func TestTallyAgreesWithTheRule(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		b := walked(t, samplesOf(1+rng.IntN(20), 1_700_000_000_000, 1))
		r := NewRing(1, "r", tableOf(t, 8, 3+rng.IntN(3), 3, 1+rng.IntN(3), 5))
		frames := newBuffer(1)
		p := route(r, 1, 1, b, nil, frames)
		tl := newTally(b)
		tl.send(&p, 0)
		faults := rng.IntN(3) // 0: everything is stored
		votes := make([][]peerpb.Outcome, b.Samples)
		for _, k := range rng.Perm(len(p.shares)) {
			s := &p.shares[k]
			outcome := make([]peerpb.Outcome, 0, s.samples)
			clean := true
			s.each(func(n uint32) {
				o := peerpb.Outcome_STORED
				if faults > 0 && rng.IntN(3) < faults {
					o = allOutcomes[rng.IntN(len(allOutcomes))]
				}
				clean = clean && o == peerpb.Outcome_STORED
				outcome = append(outcome, o)
				votes[n] = append(votes[n], o)
			})
			if clean {
				tl.clean(s)
			} else {
				tl.count(s, func(i int) peerpb.Outcome { return outcome[i] })
			}
			checkTally(t, tl, r, b.Samples, votes)
			s.buf.release()
		}
		frames.release()
		if tl.open != 0 {
			t.Fatalf("%d samples without a verdict after every answer", tl.open)
		}
		sum := tl.sum()
		total := sum.stored + sum.deferred
		for _, n := range sum.refused {
			total += n
		}
		if total != b.Samples {
			t.Fatalf("%+v of %d samples", sum, b.Samples)
		}
	}
}

func checkTally(t *testing.T, tl *tally, r *Ring, samples int, votes [][]peerpb.Outcome) {
	t.Helper()
	undecided := 0
	for n := range samples {
		slot := slotOfHash(r, 1, tl.batch.Series[n].Hash)
		want := rule(votes[n], slot.Replicas.Len(), slot.Quorum)
		if want == open {
			undecided++
		}
		if tl.ballots != nil && tl.ballots[n].verdict != want {
			t.Fatalf("%v of %d replicas, quorum %d: verdict %d, want %d", votes[n], slot.Replicas.Len(), slot.Quorum, tl.ballots[n].verdict, want)
		}
	}
	if undecided != tl.open {
		t.Fatalf("%d open, want %d", tl.open, undecided)
	}
}

func slotOfHash(r *Ring, tenant, hash uint64) *ring.Slot {
	return r.Table.At(ring.KeyOf(tenant, hash).Slot(r.Table.Slots()))
}

// rule says what is certain after some of the answers, by trying what the
// missing ones may say.
func rule(votes []peerpb.Outcome, replicas, quorum int) verdict {
	stored, content := 0, 0
	for _, o := range votes {
		if o == peerpb.Outcome_STORED {
			stored++
		} else if _, ok := contentOf(o); ok {
			content++
		}
	}
	final := func(stored, content int) verdict {
		switch {
		case stored >= quorum:
			return acked
		case content > replicas-quorum:
			return refused
		default:
			return deferred
		}
	}
	missing := replicas - len(votes)
	first := final(stored, content)
	for s := range missing + 1 {
		for c := range missing - s + 1 {
			if final(stored+s, content+c) != first {
				return open
			}
		}
	}
	return first
}

func TestTallyNamesTheMostFrequentReason(t *testing.T) {
	b := walked(t, samplesOf(1, 1, 1))
	r := NewRing(1, "r", tableOf(t, 8, 5, 5, 2, 5))
	frames := newBuffer(1)
	defer frames.release()
	p := route(r, 1, 1, b, nil, frames)
	tl := newTally(b)
	tl.send(&p, 0)
	for i, o := range []peerpb.Outcome{peerpb.Outcome_CONFLICT, peerpb.Outcome_SERIES_LIMIT, peerpb.Outcome_SERIES_LIMIT, peerpb.Outcome_SERIES_LIMIT} {
		tl.count(&p.shares[i], func(int) peerpb.Outcome { return o })
	}
	if sum := tl.sum(); tl.open != 0 || sum.refused != [contents]int{0, 0, 0, 1} {
		t.Errorf("%+v", sum)
	}
	for i := range p.shares {
		p.shares[i].buf.release()
	}
}

func TestTallyForgetsOldVotesOfAReroutedSeries(t *testing.T) {
	b := walked(t, samplesOf(1, 1, 1))
	r := NewRing(1, "r", tableOf(t, 8, 3, 3, 2, 5))
	frames := newBuffer(1)
	defer frames.release()
	p := route(r, 1, 1, b, nil, frames)
	tl := newTally(b)
	tl.send(&p, 0)
	stale := func(int) peerpb.Outcome { return peerpb.Outcome_STALE_SERIES }
	tl.clean(&p.shares[0])
	tl.count(&p.shares[1], stale)
	if len(tl.stale) != 0 {
		t.Fatal("rerouted while a quorum is still possible")
	}
	tl.count(&p.shares[2], stale)
	again := tl.takeStale()
	if len(again) != 1 || tl.open != 1 {
		t.Fatalf("stale %v, open %d", again, tl.open)
	}
	p2 := route(r, 1, 1, b, again, frames)
	tl.send(&p2, 1)
	tl.clean(&p2.shares[0])
	tl.clean(&p.shares[1]) // a straggler of the first wave counts for nothing
	if tl.open != 1 {
		t.Fatal("votes of two waves were added up")
	}
	tl.clean(&p2.shares[1])
	if sum := tl.sum(); tl.open != 0 || sum.stored != 1 {
		t.Fatalf("%+v", sum)
	}
	for _, s := range append(p.shares, p2.shares...) {
		s.buf.release()
	}
}

// TestAnAnswerSpeaksOfEachSampleItself has answers arrive late, when some of
// their series have been sent again: what they say of those counts for nothing,
// and what they say of the others counts for these.
func TestAnAnswerSpeaksOfEachSampleItself(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		b := walked(t, samplesOf(2+rng.IntN(10), 1_700_000_000_000, 1))
		r := NewRing(1, "r", tableOf(t, 8, 3, 3, 2, 5))
		frames := newBuffer(1)
		p := route(r, 1, 1, b, nil, frames)
		w := &write{batch: b, tally: newTally(b), troubles: map[string]int{}}
		w.tally.send(&p, 0)
		again := make([]bool, len(b.Series))
		for n := range again {
			if again[n] = rng.IntN(2) == 0; again[n] {
				w.tally.enrol(uint32(n), 1, p.vote)
			}
		}
		lost := make([]uint8, b.Samples)
		for k := range p.shares {
			s := &p.shares[k]
			res, at := &peerpb.ShareResult{Status: peerpb.Status_DONE}, uint32(0)
			s.each(func(n uint32) {
				if rng.IntN(2) == 0 {
					res.Outcomes = append(res.Outcomes, &peerpb.SampleOutcome{Index: at, Outcome: peerpb.Outcome_STALE_SERIES})
					lost[n]++
				}
				at++
			})
			w.some(reply{share: s, who: "n1", res: res})
			s.buf.release()
		}
		frames.release()
		for n := range b.Series {
			got := w.tally.ballots[n]
			if again[n] && got.stored+got.lost > 0 {
				t.Fatalf("series %d was sent again and has %d + %d votes from before", n, got.stored, got.lost)
			}
			if want := lost[n]; !again[n] && (got.lost != want || got.stored != 3-want) {
				t.Fatalf("series %d: %d lost and %d stored, want %d and %d", n, got.lost, got.stored, want, 3-want)
			}
		}
	}
}

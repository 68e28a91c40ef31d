package ingest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// ruling is what has to become of a sample, by the rule and not by the code.
type ruling struct {
	verdict verdict
	again   bool   // it is to be routed again
	reason  string // of a refused one
}

// judged is the whole rule: what the replicas of a slot say of a sample, and how
// many of them have to hold it.
func judged(answers []peerpb.Outcome, quorum int) ruling {
	if len(answers) < quorum {
		return ruling{verdict: deferred} // nothing is sent
	}
	count := map[peerpb.Outcome]int{}
	hurried := false // the sender is told to send it again before any replica has spoken of a change
	for k, a := range answers {
		left := len(answers) - k
		hurried = hurried || count[peerpb.Outcome_STALE_SERIES] == 0 &&
			count[peerpb.Outcome_STORED]+left < quorum && blames(count)+left <= len(answers)-quorum
		count[a]++
	}
	reason, most := "", 0
	for _, c := range []struct {
		outcome peerpb.Outcome
		reason  string
	}{
		{peerpb.Outcome_CONFLICT, "another value is held at that time"},
		{peerpb.Outcome_BAD_LABELS, "labels cannot be stored"},
		{peerpb.Outcome_BAD_HISTOGRAM, "histogram is not valid"},
		{peerpb.Outcome_SERIES_LIMIT, "series would be new and active_series is reached"},
	} {
		if count[c.outcome] > most {
			reason, most = c.reason, count[c.outcome]
		}
	}
	switch {
	case count[peerpb.Outcome_STORED] >= quorum:
		return ruling{verdict: acked}
	case blames(count) > len(answers)-quorum:
		return ruling{verdict: refused, reason: reason}
	case count[peerpb.Outcome_STALE_SERIES] > 0 && !hurried:
		return ruling{verdict: open, again: true}
	default:
		return ruling{verdict: deferred}
	}
}

func blames(count map[peerpb.Outcome]int) int {
	return count[peerpb.Outcome_CONFLICT] + count[peerpb.Outcome_BAD_LABELS] + count[peerpb.Outcome_BAD_HISTOGRAM] + count[peerpb.Outcome_SERIES_LIMIT]
}

var modes = []ring.Mode{ring.One, ring.Majority, ring.All}

// TestEveryCombinationOfAnswersGetsItsVerdict runs, for each replication factor,
// each write quorum and each number of replicas that a slot may have meanwhile,
// every combination of what the replicas may answer, in every order.
func TestEveryCombinationOfAnswersGetsItsVerdict(t *testing.T) {
	outcomes := append([]peerpb.Outcome{peerpb.Outcome_STALE_SERIES}, allOutcomes...)
	all := 0
	for rf := 1; rf <= ring.MaxReplicas; rf++ {
		for _, mode := range modes {
			quorum := mode.Quorum(rf)
			for replicas := range rf + 1 {
				combinations(outcomes, replicas, func(answers []peerpb.Outcome) {
					all++
					if got, want := counted(answers, quorum), judged(answers, quorum); got != want {
						t.Fatalf("RF %d, %s (%d), answers %v: %+v, want %+v", rf, mode, quorum, answers, got, want)
					}
				})
			}
		}
	}
	if all < 3*(8+64+512+4096+32768) {
		t.Errorf("only %d combinations", all)
	}
}

// combinations calls f for every way to choose n of the outcomes, in order.
func combinations(outcomes []peerpb.Outcome, n int, f func([]peerpb.Outcome)) {
	chosen := make([]peerpb.Outcome, n)
	var choose func(int)
	choose = func(i int) {
		if i == n {
			f(chosen)
			return
		}
		for _, o := range outcomes {
			chosen[i] = o
			choose(i + 1)
		}
	}
	choose(0)
}

// counted is what a tally makes of a sample's answers.
func counted(answers []peerpb.Outcome, quorum int) ruling {
	tl := newTally(&wire.Batch{Series: []wire.Series{{Samples: 1}}, Samples: 1})
	p := plan{vote: func(uint32) (int, int) { return len(answers), quorum }}
	if len(answers) < quorum {
		p.short = []uint32{0}
	} else {
		p.shares = []share{{hi: 1, samples: 1}}
	}
	tl.send(&p, 0)
	for _, a := range answers {
		switch {
		case len(p.shares) == 0: // nobody is asked
		case a == peerpb.Outcome_STORED:
			tl.clean(&p.shares[0])
		default:
			tl.count(&p.shares[0], func(int) peerpb.Outcome { return a })
		}
	}
	sum, again := tl.sum(), len(tl.takeStale()) == 1
	switch {
	case tl.open > 0:
		return ruling{verdict: open, again: again}
	case sum.stored == 1:
		return ruling{verdict: acked}
	case sum.deferred == 1:
		return ruling{verdict: deferred}
	}
	for class, n := range sum.refused {
		if n == 1 {
			return ruling{verdict: refused, reason: contentTexts[class]}
		}
	}
	return ruling{verdict: 99}
}

// answersOf are those that a request's samples get here: one letter each.
var answersOf = map[byte]peerpb.Outcome{
	's': peerpb.Outcome_STORED, 'c': peerpb.Outcome_CONFLICT, 'l': peerpb.Outcome_SERIES_LIMIT, 'f': peerpb.Outcome_FAILED,
}

// TestEveryVerdictReachesTheSender has five real nodes answer each sample in one
// of all the ways that there are, and wants the sender to be told of each: by
// the status, the numbers and the reasons.
func TestEveryVerdictReachesTheSender(t *testing.T) {
	b := newBed(t, ring.MaxReplicas, nil)
	for i, n := range b.nodes {
		n.storage.judge = func(ls labels.Labels) peerpb.Outcome { return answersOf[ls.Get("answers")[i]] }
		n.storage.strict = true // whoever holds it
	}
	at, rev := now(), uint64(10)
	for rf := 1; rf <= ring.MaxReplicas; rf++ {
		done := map[int]bool{} // modes that ask for as many
		for _, mode := range modes {
			quorum := mode.Quorum(rf)
			if done[quorum] {
				continue
			}
			done[quorum] = true
			rev++
			b.show(rev, tableOf(t, 64, ring.MaxReplicas, rf, quorum, rev))
			for _, least := range []verdict{acked, refused, deferred} {
				at++
				b.checkVerdicts(t, fmt.Sprintf("RF %d, %s", rf, mode), least, at)
			}
		}
	}
}

// checkVerdicts sends every combination of answers whose verdict is least or
// better, and compares what the sender is told with what it should be.
func (b *bed) checkVerdicts(t *testing.T, name string, least verdict, at int64) {
	t.Helper()
	want := map[string]int{}
	req := &prompb.WriteRequest{}
	letters := []peerpb.Outcome{'s', 'c', 'l', 'f'}
	combinations(letters, ring.MaxReplicas, func(chosen []peerpb.Outcome) {
		text := ""
		for _, c := range chosen {
			text += string(rune(c))
		}
		w := b.due(t, text)
		if w.verdict > least {
			return
		}
		want[fmt.Sprint(w.verdict, w.reason)]++
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: "m"}, {Name: "answers", Value: text}},
			Samples: []prompb.Sample{{Timestamp: at, Value: 1}},
		})
	})
	status, total := http.StatusNoContent, 0
	for key, n := range want {
		total += n
		switch {
		case strings.HasPrefix(key, fmt.Sprint(deferred)):
			status = http.StatusServiceUnavailable
		case strings.HasPrefix(key, fmt.Sprint(refused)) && status == http.StatusNoContent:
			status = http.StatusBadRequest
		}
	}
	w := b.nodes[0].postV2(inV2(t, req))
	if written := fmt.Sprintf("%d 0 0", want[fmt.Sprint(acked)]); w.Code != status || writtenOf(w) != written {
		t.Errorf("%s: answered %d, written %q; want %d, %q: %s", name, w.Code, writtenOf(w), status, written, w.Body)
	}
	if n := want[fmt.Sprint(deferred)]; n > 0 && !strings.HasPrefix(w.Body.String(), fmt.Sprintf("%d of %d samples lack their quorum", n, total)) {
		t.Errorf("%s: %d of %d lack their quorum: %s", name, n, total, w.Body)
	}
	if retry := w.Header().Get("Retry-After"); (retry != "") != (status == http.StatusServiceUnavailable) {
		t.Errorf("%s: %d with Retry-After %q", name, status, retry)
	}
	for _, reason := range contentTexts {
		n := want[fmt.Sprint(refused, reason)]
		if line := fmt.Sprintf("\n%s: %d, ", reason, n); n > 0 != strings.Contains(w.Body.String(), line) {
			t.Errorf("%s: %q is not told, or not so: %s", name, line, w.Body)
		}
	}
}

// due is the verdict of a series that the i-th node answers with its i-th letter.
func (b *bed) due(t *testing.T, text string) ruling {
	t.Helper()
	ls := labels.FromStrings("__name__", "m", "answers", text)
	slot := b.table().At(ring.KeyOf(ring.TenantHash(tenantID), ls.Hash()).Slot(b.table().Slots()))
	var answers []peerpb.Outcome
	for i := range slot.Replicas.Len() {
		answers = append(answers, answersOf[text[slot.Replicas.At(i)-1]])
	}
	return judged(answers, slot.Quorum)
}

// TestASampleThatTwoReplicasBlameIsNotSentAgain: of the precedence, what a slow
// or lost third replica may still change, and what not.
func TestASampleThatTwoReplicasBlameIsNotSentAgain(t *testing.T) {
	b := newBed(t, 3, func(c *Config) { c.QuorumTimeout = 200 * time.Millisecond })
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	hung := make(chan struct{})
	defer close(hung)
	for i, n := range b.nodes {
		n.storage.set(func(s *promStorage) {
			s.judge = func(labels.Labels) peerpb.Outcome { return peerpb.Outcome_CONFLICT }
			if i == 2 {
				s.gate = func(string) error { <-hung; return nil }
			}
		})
	}
	b.nodes[0].mustPost(samplesOf(3, now(), 1), http.StatusBadRequest)
	b.nodes[1].storage.set(func(s *promStorage) {
		s.judge = func(labels.Labels) peerpb.Outcome { return peerpb.Outcome_STORED }
	})
	b.nodes[0].mustPost(samplesOf(3, now()+1, 1), http.StatusServiceUnavailable)
}

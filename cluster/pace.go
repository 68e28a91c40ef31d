package cluster

import (
	"cmp"
	"slices"
	"time"

	"github.com/muster-metrics/muster/ring"
)

// pace spends what receivers may take of new series. Slots that move bring their
// series anew to the head of the store that gains them: too many at a time, and
// its writes wait. So steps go in batches, one each `every`, of as many series for
// each receiver as it may get in that time. It has no clock and is not safe for
// concurrent use.
type pace struct {
	every time.Duration
	// last is when the last batch went; zero: none did under this leader.
	last time.Time
	// begun says that this leader has moved slots already.
	begun   bool
	budgets map[ring.Store]budget
}

// budget is how many new series a receiver may be given still, as of a moment;
// below 0 where its last slot brought more than was left.
type budget struct {
	series float64
	at     time.Time
}

func newPace(every time.Duration) *pace {
	return &pace{every: every, budgets: map[ring.Store]budget{}}
}

// Forget begins a new leadership.
func (p *pace) Forget() {
	p.last, p.begun = time.Time{}, false
	clear(p.budgets)
}

// Resume goes on with what another leader has begun: its last batch may have
// gone just now.
func (p *pace) Resume(now time.Time) {
	if p.last.IsZero() && !p.begun {
		p.last = now
	}
}

// Due says whether a batch may go.
func (p *pace) Due(now time.Time) bool { return p.last.IsZero() || now.Sub(p.last) >= p.every }

// Rest is how long it is until a batch may go.
func (p *pace) Rest(now time.Time) time.Duration { return max(p.every-now.Sub(p.last), 0) }

// Sent notes that a batch went.
func (p *pace) Sent(now time.Time) { p.last = now }

// late is how much more than a batch may be kept for a receiver: the leader looks
// when it may, and a batch that comes late should not make the move slower.
const late = 2

// left is what a receiver may be given at now, at so many series a second: what
// it was not given for longer than a batch's time is not kept for it.
func (p *pace) left(to ring.Store, rate float64, now time.Time) float64 {
	batch := rate * p.every.Seconds()
	b, known := p.budgets[to]
	if !known {
		return batch
	}
	return min(late*batch, b.series+rate*max(now.Sub(b.at), 0).Seconds())
}

// fare is what a step costs: it brings that many series to a store; none for 0.
type fare struct {
	step   ring.Step
	to     ring.Store
	series float64
	rank   rank
}

// rank is how urgent a step is, the most urgent first.
type rank int

const (
	belowQuorum rank = iota // writes to the slot get 503
	tooFew                  // it has fewer replicas than it should
	ordinary
)

// Choose takes the steps that go now. Those of slots below their quorum always
// do, whatever their receivers had; of the others as many as the budgets allow,
// those that lack replicas first, where a batch is due. What it takes it counts
// as given. batch says whether any but the urgent is among it.
func (p *pace) Choose(fares []fare, rate float64, due bool, now time.Time) (steps []ring.Step, batch bool) {
	slices.SortStableFunc(fares, func(a, b fare) int { return cmp.Compare(a.rank, b.rank) })
	for _, f := range fares {
		if f.rank != belowQuorum && !due {
			break
		}
		if f.to != 0 {
			left := p.left(f.to, rate, now)
			if left <= 0 && f.rank != belowQuorum {
				continue
			}
			p.budgets[f.to] = budget{series: left - f.series, at: now}
		}
		p.begun = true
		steps = append(steps, f.step)
		batch = batch || f.rank != belowQuorum
	}
	return steps, batch
}

package ingest

import (
	"math"
	"time"
)

// bucket lets so many pass a second, and as many at once as it holds. Who comes
// while anything is left passes as a whole, and the bucket owes what it had not:
// a request larger than the bucket is late, not refused for ever. Its zero value
// is full.
type bucket struct {
	level float64 // below 0: owed
	room  float64 // what it held at most at the last look
	at    time.Time
}

// look fills the bucket up to now at rate a second, to at most room. Where the
// room has changed, as when this node's part of a limit does, the bucket is as
// full as it was, and owes what it owed.
func (b *bucket) look(now time.Time, rate, room float64) {
	switch {
	case b.at.IsZero():
		b.level = room
	case b.level > 0 && b.room > 0 && b.room != room:
		b.level *= room / b.room
	}
	if d := now.Sub(b.at).Seconds(); !b.at.IsZero() && d > 0 {
		b.level += d * rate
	}
	b.level, b.room = min(b.level, room), room
	if b.at.IsZero() || now.After(b.at) {
		b.at = now
	}
}

// empty says whether nobody passes now.
func (b *bucket) empty() bool { return b.level <= 0 }

// wait is how long it takes until somebody passes.
func (b *bucket) wait(rate float64) time.Duration {
	if rate <= 0 {
		return math.MaxInt64
	}
	return time.Duration(min(max(-b.level, 0)/rate*float64(time.Second), math.MaxInt64/2))
}

// meter tells how much came in the last whole second; where it falls, it is
// halved each second, so that who sends every few seconds is not forgotten in
// between.
type meter struct {
	second    int64
	now, last float64
}

func (m *meter) roll(now time.Time) {
	passed := now.Unix() - m.second
	if passed <= 0 {
		return
	}
	m.last = max(m.now, m.last/2)
	if passed > 1 {
		m.last *= math.Pow(0.5, float64(min(passed-1, 64)))
	}
	m.second, m.now = now.Unix(), 0
}

func (m *meter) add(now time.Time, n float64) {
	m.roll(now)
	m.now += n
}

// rate is what came a second.
func (m *meter) rate(now time.Time) float64 {
	m.roll(now)
	if m.last < 1 {
		return m.now // nothing came lately: what has come since
	}
	return m.last
}

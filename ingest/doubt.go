package ingest

import "time"

// doubtWait is how long a series that some replica has called stale waits for
// the others. Mostly they answer at once, and store it or call it stale as well;
// one that hangs shall not hold up what others would take by the newer table.
const doubtWait = 100 * time.Millisecond

// doubts are the series of a write that a replica has called stale while others
// may still make their quorum.
type doubts struct {
	series []uint32
	timer  *time.Timer
}

// add takes what the tally has found since it was asked last.
func (d *doubts) add(series []uint32) {
	if len(series) == 0 {
		return
	}
	d.series = append(d.series, series...)
	if d.timer == nil {
		d.timer = time.NewTimer(doubtWait)
	}
}

// over is the end of the wait; nil where nothing waits.
func (d *doubts) over() <-chan time.Time {
	if d.timer == nil {
		return nil
	}
	return d.timer.C
}

// take ends the wait.
func (d *doubts) take() []uint32 {
	out := d.series
	d.stop()
	return out
}

func (d *doubts) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.series, d.timer = nil, nil
}

// doubt notes a series that was called stale and is still open.
func (t *tally) doubt(n uint32) {
	if e := &t.series[n]; !e.doubted && !e.again {
		e.doubted = true
		t.doubted = append(t.doubted, n)
	}
}

// takeDoubted are the series that were called stale since it was asked last.
func (t *tally) takeDoubted() []uint32 {
	d := t.doubted
	t.doubted = nil
	return d
}

// despair gives up waiting for the replicas of these series, as far as they are
// still open: they are to be routed again.
func (t *tally) despair(series []uint32) {
	for _, n := range series {
		e := &t.series[n]
		if !e.doubted || e.again { // it was sent again meanwhile, or will be
			continue
		}
		undecided := false
		t.each(n, func(b *ballot) { undecided = undecided || b.verdict == open })
		if undecided {
			e.again = true
			t.stale = append(t.stale, n)
		}
	}
}

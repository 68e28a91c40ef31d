package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Open is a load that goes by a schedule: a request is due when the clock says
// so, not when the one before it was answered. The time a write took counts from
// when it was due, so that a stall counts for all that it held up.
//
// Each template has a sender of its own, which sends its next request when the
// one before is acknowledged, as a shard of Prometheus' queue does: the samples
// of a series stay in order.
type Open struct {
	load *Load
	end  atomic.Pointer[time.Time]
	once sync.Once
	stop chan struct{}
	work sync.WaitGroup
}

// Open begins to send so many samples a second, until Stop. The samples bear
// the time at which their request was due; round is the first one's.
func (l *Load) Open(ctx context.Context, rate float64, round int) *Open {
	o := &Open{load: l, stop: make(chan struct{})}
	samples := 0
	for _, t := range l.Templates {
		samples += t.Samples()
	}
	// A round sends every template once.
	every := time.Duration(float64(samples) / rate * float64(time.Second))
	start := time.Now().Add(50 * time.Millisecond)
	for i, t := range l.Templates {
		first := start.Add(every * time.Duration(i) / time.Duration(len(l.Templates)))
		o.work.Go(func() { o.send(ctx, t, first, every, round) })
	}
	return o
}

func (o *Open) send(ctx context.Context, t *Template, first time.Time, every time.Duration, round int) {
	var s scratch
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		due := first.Add(time.Duration(n) * every)
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		case <-o.stop:
			if end := o.end.Load(); due.After(*end) {
				return
			}
		}
		if end := o.end.Load(); end != nil && due.After(*end) {
			return
		}
		o.load.send(ctx, t, round+n, due.UnixMilli(), due, &s)
	}
}

// Stop lets what is due until now be sent and acknowledged, and nothing more. It
// may be called again.
func (o *Open) Stop() {
	o.once.Do(func() {
		now := time.Now()
		o.end.Store(&now)
		close(o.stop)
	})
	o.work.Wait()
}

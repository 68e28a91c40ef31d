package load

import (
	"context"
	"iter"
	"sync"
	"time"
)

// Request is one request to send.
type Request struct {
	Template *Template
	// Round says which values it carries, At the time of its samples in Unix
	// milliseconds.
	Round int
	At    int64
}

// Rounds is every request of the rounds from..to: a round sends one sample of
// each series. at gives the time of a round's samples.
func (l *Load) Rounds(from, to int, at func(round int) int64) iter.Seq[Request] {
	return func(yield func(Request) bool) {
		for r := from; r < to; r++ {
			when := at(r)
			for _, t := range l.Templates {
				if !yield(Request{t, r, when}) {
					return
				}
			}
		}
	}
}

// Staggered is as Rounds, but the templates begin one after the other, evenly over
// all rounds. What a receiver does for a series every so many samples, it then
// does not do for all of them at once.
func (l *Load) Staggered(from, to int, at func(round int) int64) iter.Seq[Request] {
	return func(yield func(Request) bool) {
		for r := from; r < to; r++ {
			when, begun := at(r), (r-from+1)*len(l.Templates)/(to-from)
			for _, t := range l.Templates[:begun] {
				if !yield(Request{t, r, when}) {
					return
				}
			}
		}
	}
}

// Closed sends the requests as fast as they are answered.
func (l *Load) Closed(ctx context.Context, requests iter.Seq[Request]) {
	jobs := make(chan Request)
	var wg sync.WaitGroup
	for range l.inFlight {
		wg.Go(func() {
			var s scratch
			for j := range jobs {
				l.send(ctx, j.Template, j.Round, j.At, time.Now(), &s)
			}
		})
	}
	for r := range requests {
		if ctx.Err() != nil {
			break
		}
		jobs <- r
	}
	close(jobs)
	wg.Wait()
}

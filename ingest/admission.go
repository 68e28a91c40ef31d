package ingest

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"
)

// admission bounds the bytes of requests that are being served: first those
// that come in, then, before anything is decompressed, those that they become.
// Two bounds, taken in this order, cannot wait for each other. Memory that
// only slow replicas still hold is bounded by their queues.
type admission struct {
	wait     time.Duration
	incoming *semaphore.Weighted
	decoded  *semaphore.Weighted
	most     int64 // of decoded
	mostIn   int64
}

func newAdmission(cfg Config) *admission {
	mostIn := max(cfg.InflightBytes/2, cfg.MaxRequestBytes)
	return &admission{
		wait:     cfg.AdmissionWait,
		incoming: semaphore.NewWeighted(mostIn), mostIn: mostIn,
		decoded: semaphore.NewWeighted(cfg.InflightBytes), most: cfg.InflightBytes,
	}
}

// body admits a body of n bytes; false: there was no room in time.
func (a *admission) body(ctx context.Context, n int64) (release func(), ok bool) {
	return a.take(ctx, a.incoming, min(n, a.mostIn))
}

// work admits decoded bytes and what their canonical form takes.
func (a *admission) work(ctx context.Context, n int64) (release func(), ok bool) {
	return a.take(ctx, a.decoded, min(n, a.most))
}

// more admits n bytes more to one that has been admitted. It does not wait: two
// who waited for each other's would wait for ever.
func (a *admission) more(n int64) (release func(), ok bool) {
	if !a.decoded.TryAcquire(n) {
		return nil, false
	}
	return func() { a.decoded.Release(n) }, true
}

func (a *admission) take(ctx context.Context, s *semaphore.Weighted, n int64) (func(), bool) {
	n = max(n, 1)
	if !s.TryAcquire(n) {
		ctx, cancel := context.WithTimeout(ctx, a.wait)
		defer cancel()
		if s.Acquire(ctx, n) != nil {
			return nil, false
		}
	}
	return func() { s.Release(n) }, true
}

package tsdb

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"time"

	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// cutEvery is how often the clock is looked at for windows to cut.
func (d *DB) cutEvery() time.Duration {
	return min(max(d.cfg.BlockDuration/40, 100*time.Millisecond), 15*time.Second)
}

// dueWindow is the newest window, by number, that is to be cut at now: window k,
// of [k·d, (k+1)·d), is cut at (k+1)·d + d/2 and a stagger of at most d/10, which
// is the key's own, so that the tenants of a node are not cut at once.
func dueWindow(k Key, now time.Time, d time.Duration) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(k.String()))
	ms := d.Milliseconds()
	stagger := int64(h.Sum64() % uint64(max(ms/10, 1)))
	return floorDiv(now.UnixMilli()-ms/2-stagger, ms) - 1
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// cutDue cuts, in every open tenant, the windows whose time has come, whether or
// not the tenant still sends.
func (d *DB) cutDue(ctx context.Context) {
	for _, t := range d.all() {
		if ctx.Err() != nil {
			return
		}
		e := t.peek()
		if e == nil {
			continue
		}
		n, err := e.cutDue(ctx)
		d.met.cuts.Add(float64(n))
		if err != nil {
			d.met.cutFailures.Inc()
			d.cfg.Log.Error("cut failed", "tenant", t.key.Tenant, "err", err)
		}
		t.release()
	}
}

// Cut writes all that the tenant holds in memory to blocks, to the last
// millisecond, samples of the future included. Appends that run meanwhile are
// held, and stay in memory.
func (d *DB) Cut(ctx context.Context, key Key) error {
	t, err := d.find(key)
	if err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	e, err := t.acquire(ctx, false)
	if err != nil || e == nil {
		return err
	}
	defer t.release()
	n, err := e.cutAll(ctx)
	d.met.cuts.Add(float64(n))
	if err != nil {
		d.met.cutFailures.Inc()
		return fmt.Errorf("cut %s: %w", key, err)
	}
	return nil
}

func (e *engine) cutDue(ctx context.Context) (windows int, err error) {
	if !e.cutting.TryLock() {
		return 0, nil // series are being let go: the other tenants need not wait for it
	}
	defer e.cutting.Unlock()
	if time.Now().Before(e.cutRetry) {
		return 0, nil
	}
	due := dueWindow(e.key, e.cfg.Now(), e.cfg.BlockDuration)
	last := e.boundary
	if last == math.MinInt64 {
		e.boundary, last = due, due
	}
	windows, err = e.cutWindows(ctx, (due+1)*e.cfg.BlockDuration.Milliseconds()-1, false)
	if err == nil && (windows > 0 || due > last) {
		err = e.cutOutOfOrder(ctx)
	}
	if err != nil {
		e.cutRetry = time.Now().Add(min(max(e.cfg.BlockDuration/10, time.Second), time.Minute))
		return windows, err
	}
	e.boundary = due
	return windows, nil
}

func (e *engine) cutAll(ctx context.Context) (windows int, err error) {
	e.cutting.Lock()
	defer e.cutting.Unlock()
	e.writing <- struct{}{}
	target := e.db.Head().MaxTime()
	<-e.writing
	windows, err = e.cutWindows(ctx, target, true)
	if err != nil {
		return windows, err
	}
	return windows, e.cutOutOfOrder(ctx)
}

// cutWindows cuts the head, window by window, up to and including target, and
// counts them. The last window is cut in the middle only
// when broken says so. Under cutting.
func (e *engine) cutWindows(ctx context.Context, target int64, broken bool) (windows int, err error) {
	d := e.cfg.BlockDuration.Milliseconds()
	for e.holdsUntil(target) {
		if err := ctx.Err(); err != nil {
			return windows, err
		}
		from := e.db.Head().MinTime()
		mint := floorDiv(from, d) * d
		maxt := mint + d - 1
		if maxt > target {
			if !broken {
				return windows, nil
			}
			maxt = target
		}
		// A window that was cut in the middle before goes on where it ended.
		if end := e.blocksEnd(); end > mint && end <= from {
			mint = end
		}
		if err := e.cutRange(mint, maxt); err != nil {
			return windows, err
		}
		e.cfg.Log.Debug("window cut", "tenant", e.key.Tenant, "mint", mint, "maxt", maxt)
		windows++
	}
	return windows, nil
}

// holdsUntil reports whether the head or its log may hold in-order samples up to
// target. A head that has let all its series go still has them in its log.
func (e *engine) holdsUntil(target int64) bool {
	head := e.db.Head()
	return head.MinTime() <= target && (head.NumSeries() > 0 || head.MinTime() < head.MaxTime())
}

// blocksEnd is where the newest block cut from the head ends; exclusive. Blocks of
// late samples, and of series that were let go, end with their window, whether or
// not the head has been cut there.
func (e *engine) blocksEnd() int64 {
	end := int64(math.MinInt64)
	for _, b := range e.db.Blocks() {
		if m := b.Meta(); !m.Compaction.FromOutOfOrder() && !m.Compaction.FromSelectedSeries() {
			end = max(end, m.MaxTime)
		}
	}
	return end
}

// cutRange writes a block of [mint, maxt], and drops what it holds from the head
// and its log. Where there is nothing, no block appears. Under cutting.
func (e *engine) cutRange(mint, maxt int64) error {
	head := e.db.Head()
	if head.MinTime() == math.MaxInt64 {
		return nil // no sample ever
	}
	e.fence(maxt + 1)
	if err := e.db.CompactHead(promtsdb.NewRangeHead(head, mint, maxt)); err != nil {
		return fmt.Errorf("cut [%d, %d]: %w", mint, maxt, err)
	}
	return nil
}

// fence sends samples below end to the out-of-order head from now on. One that
// went into a range while it is written to a block would be dropped with it: the
// TSDB keeps half a window of distance for that, counted from its newest sample,
// which is not enough for a tenant that is late or silent. No appender is open
// while writing is held, and the next one sees the fence.
func (e *engine) fence(end int64) {
	e.writing <- struct{}{}
	defer func() { <-e.writing }()
	head := e.db.Head()
	if now, ok := head.AppendableMinValidTime(); ok && now < end {
		head.SetMinValidTime(end)
	}
}

// cutOutOfOrder writes the out-of-order head to blocks. They overlap the others,
// and carry the hint that lets the TSDB tell them apart. Under cutting.
//
// Meanwhile nothing out of order is appended. The TSDB (v0.316.0) first moves all
// out-of-order chunks to a file, through a buffer; the next sample of such a
// series begins a new chunk, and says so in the write-behind log; and a process
// killed before the blocks are written finds, at its next start, neither the
// buffered chunk nor, because of that note, the samples in the log.
// TestKilledProcessLosesNothingAcknowledged has seen it.
func (e *engine) cutOutOfOrder(ctx context.Context) error {
	if !e.windowed.Load() {
		return nil
	}
	done := make(chan struct{})
	e.setCutLate(done)
	defer e.setCutLate(nil)
	defer close(done) // first: a waiting append holds writing
	if err := e.db.CompactOOOHead(ctx); err != nil {
		return fmt.Errorf("cut out-of-order samples: %w", err)
	}
	return nil
}

func (e *engine) setCutLate(c chan struct{}) {
	e.writing <- struct{}{}
	e.cutLate = c
	<-e.writing
}

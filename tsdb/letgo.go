package tsdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
)

// LetGone is what LetGo found and did.
type LetGone struct {
	// Found is how many series of the head were gone.
	Found int
	// Series is how many of them left the head. The others took a sample
	// meanwhile, and wait for the normal cut.
	Series int
}

// LetGo writes those series of the head that are gone to blocks before their
// window's time, and drops them from memory: their slots are another node's. Where
// they are no more than least, they are left to the normal cut. gone gets the
// xxhash64 of a series' canonical labels, as a share carries it.
//
// That no sample of them comes any more is the caller's to know. Where one comes
// all the same, as after a move that was taken back, nothing is lost: a series that
// took a sample since it was looked at stays, and one that is gone is made anew.
//
// A tenant that is not open holds nothing in memory. ctx ends the search and the
// out-of-order cut; what follows is finished.
func (d *DB) LetGo(ctx context.Context, key Key, least int, gone func(hash uint64) bool) (LetGone, error) {
	t, err := d.find(key)
	if err != nil {
		return LetGone{}, fmt.Errorf("let go: %w", err)
	}
	e := t.peek()
	if e == nil {
		return LetGone{}, nil
	}
	defer t.release()
	began := time.Now()
	done, err := e.letGo(ctx, least, gone)
	d.met.letGoSeries.Add(float64(done.Series))
	run := done.Found > max(least, 0)
	if run {
		d.met.letGoRuns.Inc()
		d.met.letGoSeconds.Add(time.Since(began).Seconds())
	}
	if err != nil {
		d.met.letGoFailures.Inc()
		return done, fmt.Errorf("let go of series of %s: %w", key, err)
	}
	if run {
		d.cfg.Log.Info("moved series let go", "tenant", key.Tenant, "moved", done.Found, "series", done.Series,
			"left", e.db.Head().NumSeries(), "took", time.Since(began).Round(time.Millisecond))
	}
	return done, nil
}

// letGo in steps; what the process's end at each of them leaves behind:
//
//  1. the search: nothing.
//  2. the out-of-order cut: what it does in any cut (cut.go). Without it a series
//     with late samples would stay.
//  3. a block per window is written: one half written has another name, and is
//     removed at the next start; a whole one holds samples that the head has,
//     too, and a read counts them once. It carries the hint from-selected-series,
//     so that the next start discards nothing of the log for it.
//  4. the series are dropped from memory: the log still has them, and so does the
//     head after the next start.
//  5. tombstones in the log: whatever of them is there holds; the other series
//     are in the head again, and in the block. The next call, or the normal cut,
//     writes them to a second block: the same twice, and harmless.
//
// The TSDB (v0.316.0) drops a series only if it has not been appended to since
// step 3 began, and has nothing out of order.
func (e *engine) letGo(ctx context.Context, least int, gone func(hash uint64) bool) (LetGone, error) {
	// The head counts at once; the search looks at each of its series.
	if e.db.Head().NumSeries() <= uint64(max(least, 0)) {
		return LetGone{}, nil
	}
	e.cutting.Lock()
	defer e.cutting.Unlock()
	sel, err := e.selectSeries(ctx, gone)
	done := LetGone{Found: len(sel.refs)}
	if err != nil || done.Found <= max(least, 0) {
		return done, err
	}
	// It adds blocks, and gives the log back only at the next cut.
	if !roomy(e.dir, max(e.cfg.MinFree, 0)+2*blockSegment) {
		return done, errDiskFull
	}
	if err := e.cutOutOfOrder(ctx); err != nil {
		return done, err
	}
	err = e.compactSelected(sel)
	done.Series = e.missing(sel.refs)
	e.unsynced.Store(true)
	if err == nil {
		return done, nil
	}
	if done.Series > 0 || !strings.HasPrefix(err.Error(), saysBlockFailed) {
		// The log may hold half a record: see commit.
		e.writing <- struct{}{}
		e.torn = true
		<-e.writing
	}
	return done, err
}

// saysBlockFailed begins the TSDB's error where it could not write a block, and
// has not touched its log. TestFullDiskLetsNothingGo has it from the TSDB itself.
const saysBlockFailed = "persist head portion: "

// selection is series of the head.
type selection struct {
	refs []storage.SeriesRef
	// newest is the time at which the newest chunk of any of them begins: the last
	// block holds it.
	newest int64
}

// breath is how many series are looked at between two looks at the context.
const breath = 1 << 12

// selectSeries finds the series that are gone. Under cutting, so that the windows
// of their chunks stay.
func (e *engine) selectSeries(ctx context.Context, gone func(hash uint64) bool) (selection, error) {
	sel := selection{newest: math.MinInt64}
	ix, err := promtsdb.NewRangeHead(e.db.Head(), math.MinInt64, math.MaxInt64).Index()
	if err != nil {
		return sel, fmt.Errorf("look at the head: %w", err)
	}
	defer ix.Close()
	name, value := index.AllPostingsKey()
	p, err := ix.Postings(ctx, name, value)
	if err != nil {
		return sel, fmt.Errorf("look at the head: %w", err)
	}
	builder := labels.NewScratchBuilder(16)
	var metas []chunks.Meta
	for n := 0; p.Next(); n++ {
		if n%breath == 0 && ctx.Err() != nil {
			return sel, ctx.Err()
		}
		if err := ix.Series(p.At(), &builder, nil); err != nil || !gone(canonicalHash(builder.Labels())) {
			continue // collected meanwhile, or still ours
		}
		if err := ix.Series(p.At(), &builder, &metas); err != nil {
			continue
		}
		if len(metas) > 0 {
			sel.newest = max(sel.newest, metas[len(metas)-1].MinTime)
		}
		sel.refs = append(sel.refs, p.At())
	}
	return sel, p.Err()
}

// missing counts the references that the head does not know any more.
func (e *engine) missing(refs []storage.SeriesRef) int {
	ix, err := promtsdb.NewRangeHead(e.db.Head(), math.MinInt64, math.MaxInt64).Index()
	if err != nil {
		return 0
	}
	defer ix.Close()
	builder, n := labels.NewScratchBuilder(16), 0
	for _, ref := range refs {
		if errors.Is(ix.Series(ref, &builder, nil), storage.ErrNotFound) {
			n++
		}
	}
	return n
}

const (
	letGoLook = 20 * time.Millisecond // between two looks at the blocks
	// letGoGrace is how long the TSDB may take to drop the series before readers
	// are held for it: without readers it takes less.
	letGoGrace = 300 * time.Millisecond
	// The first shut is two of the looks that the TSDB takes for a moment without
	// readers; each further one is twice as long, up to the last.
	letGoShut     = time.Second
	letGoLastShut = 8 * time.Second
)

// compactSelected lets the TSDB write blocks and drop the series. Between the two
// it waits for a moment in which no reader of the head is open, looking twice a
// second, and turns no reader away meanwhile (v0.316.0): where dashboards are
// read, that moment never comes, and no window is cut until then. So readers wait
// at a turnstile for it, for a second first, and as long as that go in between.
// TestLetGoEndsUnderReaders has seen it.
func (e *engine) compactSelected(sel selection) error {
	old := map[string]bool{}
	for _, b := range e.db.Blocks() {
		old[b.Meta().ULID.String()] = true
	}
	done := make(chan error, 1)
	go func() { done <- e.db.CompactSelectedSeries(sel.refs) }()
	for !e.written(sel.newest, old) {
		if err, ended := within(done, letGoLook); ended {
			return err
		}
	}
	if err, ended := within(done, letGoGrace); ended {
		return err
	}
	defer e.readers.open()
	for span := letGoShut; ; span = min(2*span, letGoLastShut) {
		e.readers.shut()
		if err, ended := within(done, span); ended {
			return err
		}
		e.readers.open()
		e.cfg.Log.Debug("letting series go waits for readers", "tenant", e.key.Tenant, "span", span)
		if err, ended := within(done, span); ended {
			return err
		}
	}
}

// within waits for the end of what was begun, for so long at most.
func within(done <-chan error, d time.Duration) (err error, ended bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-done:
		return err, true
	case <-timer.C:
		return nil, false
	}
}

// written says whether the block of selected series around time at is there, and
// so all before it.
func (e *engine) written(at int64, old map[string]bool) bool {
	return slices.ContainsFunc(e.db.Blocks(), func(b *promtsdb.Block) bool {
		m := b.Meta()
		return m.Compaction.FromSelectedSeries() && m.MinTime <= at && at < m.MaxTime && !old[m.ULID.String()]
	})
}

// canonicalHash is the xxhash64 of the labels' canonical form.
func canonicalHash(ls labels.Labels) uint64 {
	if castable {
		return ls.Hash()
	}
	var raw []byte
	ls.Range(func(l labels.Label) { raw = appendPair(raw, l.Name, l.Value) })
	return xxhash.Sum64(raw)
}

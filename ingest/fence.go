package ingest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// fence keeps the promise behind an announced revision: when this node says
// that it is at revision R, no share that it admitted under an older one is
// still being stored. Shares enter under the view of the moment, whose
// revision they keep until they leave; new ones enter under the new revision
// meanwhile, so that steady load never delays an announcement. A share that
// hangs does.
//
//	view    40 ──────────▶ 41 ──────────▶ 42
//	shares  a─────────────────┐  b────┐      a entered at 40, b at 41
//	announced 40 ·············│ 41 ···│ 42   a's end lets 41 be told, b's 42
type fence struct {
	view atomic.Pointer[View]

	mu      sync.Mutex
	changed chan struct{} // closed when the view changes
	// eras are the revisions that shares may be in, oldest first; the last one
	// is the view's, and all before it hold at least one share.
	eras []*era

	// held are the views before recent changes of slots, oldest first.
	held []*held
	// keep is how long this node writes by a held view; 0: none is held.
	keep time.Duration
	tell func() // an announcement may be due; nil: nobody wants to know
}

// era is the shares that entered under one revision.
type era struct {
	revision uint64
	shares   int
}

func newFence() *fence { return &fence{changed: make(chan struct{})} }

// set makes v the view. A view never goes backwards: an older one is ignored.
func (f *fence) set(v *View) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.view.Load()
	if old != nil && v.Revision < old.Revision {
		return
	}
	f.hold(old, v)
	f.view.Store(v)
	if old == nil || v.Revision > old.Revision {
		f.eras = append(f.eras, &era{revision: v.Revision})
		f.shrink()
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// admit registers a share under the newest view, which it returns, nil where there
// is none yet; f.mu is held. The share is in that view's revision until it leaves.
// Looking at the view and registering are one step under the lock: no view can come
// in between.
func (f *fence) admit() (*View, *era) {
	if len(f.eras) == 0 {
		return nil, nil
	}
	e := f.eras[len(f.eras)-1]
	e.shares++
	return f.view.Load(), e
}

// leave says that the share has been stored or refused, whatever became of
// the one who sent it.
func (f *fence) leave(e *era) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.shares--
	f.shrink()
}

// shrink forgets the old eras in which no share is left. Only those at the
// front count: a younger one cannot be announced before them.
func (f *fence) shrink() {
	n := 0
	for n < len(f.eras)-1 && f.eras[n].shares == 0 {
		n++
	}
	f.eras = append(f.eras[:0], f.eras[n:]...)
}

// announced is the newest revision such that every share admitted under an
// older one has left; 0 before the first view.
func (f *fence) announced() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.eras) == 0 {
		return 0
	}
	return f.eras[0].revision
}

// next is the view, and a channel that is closed once there is another one.
func (f *fence) next() (*View, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view.Load(), f.changed
}

// await waits until ok likes a view, at most for d, and says whether one came.
func (f *fence) await(ctx context.Context, d time.Duration, ok func(*View) bool) bool {
	v, changed := f.next()
	if v != nil && ok(v) {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
		if v, changed = f.next(); ok(v) {
			return true
		}
	}
}

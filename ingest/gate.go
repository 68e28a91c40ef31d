package ingest

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// gate lets requests into some room, and shares the room between tenants.
//
// A tenant may have as much inside as is left free: one alone half of the room,
// two a third each. So there is always a part for one who comes next, however
// much the others want, and nobody has to be told how many tenants there are.
// Who must wait waits behind its own tenant's requests only; what leaves lets in
// the one whose tenant would then have the least inside. A large request is so
// passed by smaller ones of others, and has the room alone where it needs that.
//
// How many wait is bounded in the same way: a tenant may have as many waiting as
// there are places left, and who finds none is sent away at once.
type gate struct {
	mu      sync.Mutex
	room    int64
	inside  int64
	places  int // of those who wait
	waiting int
	tenants map[string]*line
	lines   lines  // that have somebody waiting, the next to go in first
	clock   uint64 // counts those let in
	sent    uint64 // how many were sent away
}

// line is one tenant at a gate.
type line struct {
	tenant string
	inside int64
	queue  []*visitor
	last   uint64 // when one of it was let in last, by the gate's clock
	at     int    // in gate.lines
}

// visitor is a request that waits.
type visitor struct {
	bytes int64
	in    chan struct{} // closed when it is let in
}

// gatePlaces is how many requests may wait at a gate: each is a goroutine and a
// connection whose body has not been read yet.
const gatePlaces = 4096

var (
	errFull  = errors.New("too much is waiting already")
	errNoTry = errors.New("no room in time")
)

func newGate(room int64) *gate {
	return &gate{room: room, places: gatePlaces, tenants: map[string]*line{}}
}

// enter lets n bytes of a tenant in, as soon as there is room, or says why not:
// too many wait, ctx has ended, or the wait is over. Who is let in has to leave.
// More bytes than there is room for are taken for all of it.
func (g *gate) enter(ctx context.Context, tenant string, n int64, wait time.Duration) error {
	n = g.size(n)
	g.mu.Lock()
	l := g.line(tenant)
	if len(l.queue) == 0 && l.inside+n <= g.room-g.inside {
		g.admit(l, n)
		g.mu.Unlock()
		return nil
	}
	if wait <= 0 || len(l.queue) >= g.places-g.waiting {
		g.sent++
		g.forget(l)
		g.mu.Unlock()
		return errFull
	}
	v := &visitor{bytes: n, in: make(chan struct{})}
	g.queue(l, v)
	g.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-v.in:
		return nil
	case <-ctx.Done():
	case <-timer.C:
	}
	if g.withdraw(l, v) {
		return errNoTry
	}
	return nil // let in at the last moment
}

// try lets n bytes in where there is room for them now, or says that there is none.
func (g *gate) try(tenant string, n int64) bool {
	return g.enter(context.Background(), tenant, n, 0) == nil
}

// add lets more bytes in with a request that is inside: the tenant's part does
// not bound it, or a request that could have the room alone would never get it.
func (g *gate) add(tenant string, n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.size(n) > g.room-g.inside || n > g.room {
		g.sent++
		return false
	}
	l := g.line(tenant)
	g.admit(l, g.size(n))
	g.settle(l)
	return true
}

// leave takes n bytes of a tenant out again, as many as went in.
func (g *gate) leave(tenant string, n int64) {
	n = g.size(n)
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.tenants[tenant]
	l.inside -= n
	g.inside -= n
	g.settle(l)
	g.open()
	g.forget(l)
}

// size is what a request of n bytes takes.
func (g *gate) size(n int64) int64 { return min(max(n, 1), g.room) }

// held is the bytes inside, and how many wait.
func (g *gate) held() (inside int64, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside, g.waiting
}

// refused is how many were sent away since the beginning.
func (g *gate) refused() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sent
}

// The rest wants g.mu.

func (g *gate) line(tenant string) *line {
	l := g.tenants[tenant]
	if l == nil {
		l = &line{tenant: tenant}
		g.tenants[tenant] = l
	}
	return l
}

func (g *gate) admit(l *line, n int64) {
	g.clock++
	l.last = g.clock
	l.inside += n
	g.inside += n
}

func (g *gate) queue(l *line, v *visitor) {
	l.queue = append(l.queue, v)
	g.waiting++
	if len(l.queue) == 1 {
		heap.Push(&g.lines, l)
	}
}

// open lets in who has room now: where the first has none, nobody has.
func (g *gate) open() {
	for len(g.lines) > 0 && g.lines[0].next() <= g.room-g.inside {
		g.call(g.lines[0])
	}
}

// call lets the first of a line in.
func (g *gate) call(l *line) {
	v := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	g.waiting--
	g.admit(l, v.bytes)
	close(v.in)
	g.shorter(l)
}

// shorter puts a line where it belongs now that its queue is another.
func (g *gate) shorter(l *line) {
	if len(l.queue) == 0 {
		heap.Remove(&g.lines, l.at)
	} else {
		heap.Fix(&g.lines, l.at)
	}
}

// withdraw takes back one that waits; false: it has been let in.
func (g *gate) withdraw(l *line, v *visitor) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := slices.Index(l.queue, v)
	if k < 0 {
		return false
	}
	l.queue = slices.Delete(l.queue, k, k+1)
	g.waiting--
	g.sent++
	g.shorter(l)
	g.open() // one behind it may be smaller
	g.forget(l)
	return true
}

// settle puts a line where it belongs now that it has more or less inside.
func (g *gate) settle(l *line) {
	if len(l.queue) > 0 {
		heap.Fix(&g.lines, l.at)
	}
}

// forget drops a line that has nobody inside and nobody waiting.
func (g *gate) forget(l *line) {
	if l.inside == 0 && len(l.queue) == 0 {
		delete(g.tenants, l.tenant)
	}
}

// next is what the line would have inside with its first.
func (l *line) next() int64 { return l.inside + l.queue[0].bytes }

// lines is a heap.Interface.
type lines []*line

func (s lines) Len() int { return len(s) }

// Less puts first who would have the least inside; of equals, who was let in
// longest ago.
func (s lines) Less(i, j int) bool {
	a, b := s[i].next(), s[j].next()
	return a < b || (a == b && s[i].last < s[j].last)
}

func (s lines) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].at, s[j].at = i, j
}

// Push and Pop are the heap's.
func (s *lines) Push(x any) {
	l := x.(*line)
	l.at = len(*s)
	*s = append(*s, l)
}

func (s *lines) Pop() any {
	last := len(*s) - 1
	l := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return l
}

package fencing

import (
	"slices"
	"sync"
	"time"
)

// post is a request to write with what came of it.
type post struct {
	node  string
	which int   // the series, -1 for all
	at    int64 // of its samples, Unix milliseconds
	// status is 0 where there was no answer.
	status       int
	says         string
	began, ended time.Time
}

func (p *post) acked() bool { return p.status/100 == 2 }

// outage is a time in which two nodes could not speak with each other, or, with
// no second one, a node did not run.
type outage struct {
	a, b       string
	frozen     bool      // a goes on afterwards with what it was given meanwhile
	begin, end time.Time // zero end: it goes on
}

// heard is how long after an outage all nodes reach each other again: they look
// for one that was away several times a second, and this machine is busy.
const heard = 1500 * time.Millisecond

// touches says whether the outage spoils something that was done in that time.
func (o *outage) touches(began, ended time.Time) bool {
	return o.begin.Before(ended) && (o.end.IsZero() || began.Before(o.end.Add(heard)))
}

func (o *outage) between(a, b string) bool {
	if o.b == "" {
		return o.a == a || o.a == b
	}
	return o.a == a && o.b == b || o.a == b && o.b == a
}

// unaware is a time in which a node could hear of no change.
type unaware struct {
	node       string
	revision   uint64 // what it knows, at least
	begin, end time.Time
}

// ledger is what was written, and what stood in the way.
type ledger struct {
	mu      sync.Mutex
	posts   []post
	outages []*outage
	unaware []*unaware
}

func (l *ledger) add(p post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts = append(l.posts, p)
}

// all is a copy of the requests that were answered so far.
func (l *ledger) all() []post {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.posts)
}

// severed notes that two nodes cannot speak with each other from now on; b may
// be "": a does not run. The func that it returns notes the end.
func (l *ledger) severed(a, b string) (mended func()) { return l.note(&outage{a: a, b: b}) }

// frozen notes that a node stands still from now on.
func (l *ledger) frozen(node string) (mended func()) { return l.note(&outage{a: node, frozen: true}) }

func (l *ledger) note(o *outage) (mended func()) {
	o.begin = time.Now()
	l.mu.Lock()
	l.outages = append(l.outages, o)
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		o.end = time.Now()
	}
}

// deaf notes that a node that knows a revision hears of no later one from now on.
func (l *ledger) deaf(node string, revision uint64) (mended func()) {
	u := &unaware{node: node, revision: revision, begin: time.Now()}
	l.mu.Lock()
	l.unaware = append(l.unaware, u)
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		u.end = time.Now()
	}
}

// reached counts the replicas that a node could reach all the while.
func (l *ledger) reached(node string, replicas []string, began, ended time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, r := range replicas {
		if !slices.ContainsFunc(l.outages, func(o *outage) bool {
			return o.between(node, r) && o.touches(began, ended)
		}) {
			n++
		}
	}
	return n
}

// unawareUntil is when the node heard of changes again that it could not hear
// of at a time; zero: it could, or it never did again.
func (l *ledger) unawareUntil(node string, at time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range l.unaware {
		if u.node == node && !at.Before(u.begin) && (u.end.IsZero() || at.Before(u.end)) {
			return u.end
		}
	}
	return time.Time{}
}

// spared says whether nothing happened to the node itself.
func (l *ledger) spared(node string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !slices.ContainsFunc(l.outages, func(o *outage) bool { return o.a == node || o.b == node }) &&
		!slices.ContainsFunc(l.unaware, func(u *unaware) bool { return u.node == node })
}

// sinceOf is the revision that a node knew when it went deaf.
func (l *ledger) sinceOf(node string, at time.Time) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range l.unaware {
		if u.node == node && !at.Before(u.begin) && (u.end.IsZero() || at.Before(u.end)) {
			return u.revision
		}
	}
	return 0
}

// thawed is when a node went on that was frozen at a time; zero: it was not.
func (l *ledger) thawed(node string, at time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.outages {
		if o.a == node && o.frozen && !at.Before(o.begin) && at.Before(o.end) {
			return o.end
		}
	}
	return time.Time{}
}

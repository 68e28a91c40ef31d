package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/tsdb"
)

// letGoConfig says when series whose slots moved away leave this node's memory
// before the normal cut. Zero values are for production.
type letGoConfig struct {
	// Least is how many series of a tenant must have moved; fewer wait for the
	// normal cut. Default 5000; negative: any.
	Least int
	// Every is how often it is looked whether something moved. Default 5s.
	Every time.Duration
	// Quiet is how long nothing more must have moved: slots move in many steps, and
	// a tenant's series are let go once. Default 30s.
	Quiet time.Duration
	// Longest is how long moves that go on and on are waited for. Default 10m.
	Longest time.Duration
}

func (c letGoConfig) withDefaults() letGoConfig {
	if c.Least == 0 {
		c.Least = 5000
	}
	if c.Every <= 0 {
		c.Every = 5 * time.Second
	}
	if c.Quiet <= 0 {
		c.Quiet = 30 * time.Second
	}
	if c.Longest <= 0 {
		c.Longest = 10 * time.Minute
	}
	return c
}

// letGo lets series go whose slots this node's store has passed: one tenant after
// the other, once for what moved. It looks at the control state and at what this
// node has announced, and only where something was passed since the last time at
// a tenant's series.
//
// After a start it looks at every tenant once: what moved before is not written
// down anywhere but in the state.
type letGo struct {
	cfg       letGoConfig
	store     [16]byte
	state     func() *cluster.State
	announced func() uint64
	replayed  func() bool
	data      *tsdb.DB
	log       *slog.Logger

	// Of the goroutine that runs it.
	last   *cluster.State
	told   uint64 // what was announced at the last look
	passed *cluster.Passed
	self   ring.Store
	rest   rest
}

func (n *node) newLetGo() *letGo {
	cfg := n.cfg.LetGo.withDefaults()
	return &letGo{
		cfg: cfg, store: n.folder.store, state: n.cluster.State, announced: n.ingest.Announced, replayed: n.ready.isReplayed,
		data: n.tsdb, log: n.log.With("room", "letgo"), rest: rest{quiet: cfg.Quiet, longest: cfg.Longest, waits: map[tsdb.Key]*wait{}},
	}
}

// Run looks until ctx ends.
func (l *letGo) Run(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			l.look(ctx, time.Now())
		}
	}
}

func (l *letGo) look(ctx context.Context, now time.Time) {
	if !l.replayed() {
		return
	}
	st, announced := l.state(), l.announced()
	if st != l.last || announced != l.told {
		l.last, l.told = st, announced
		l.notice(st, announced, now)
	}
	for _, key := range l.rest.due(now) {
		if ctx.Err() != nil {
			return
		}
		l.let(ctx, key, now)
	}
}

// notice compares what was passed with what was let go.
func (l *letGo) notice(st *cluster.State, announced uint64, now time.Time) {
	own := ring.Store(st.StoreByID(l.store[:]).GetNumber())
	if own != l.self {
		l.self, l.passed = own, nil
		l.rest.forget(nil)
	}
	m := st.Holder(own)
	if own == 0 || m == nil || m.GetState() == clusterpb.MemberState_REMOVING {
		l.rest.forget(nil) // a node that is removed cuts everything
		return
	}
	l.passed = st.PassedBy(own, announced, l.passed)
	keys := map[tsdb.Key]bool{}
	for _, key := range l.data.Keys() {
		keys[key] = true
		t := st.Tenant(key.Tenant)
		if t.GetIncarnation() != key.Incarnation {
			continue
		}
		if r, ok := l.passed.Of(t); ok {
			l.rest.heard(key, mark{r.Ring, r.News}, now)
		}
	}
	l.rest.forget(keys)
}

// let lets a tenant's series go.
func (l *letGo) let(ctx context.Context, key tsdb.Key, now time.Time) {
	t := l.last.Tenant(key.Tenant)
	if t.GetIncarnation() != key.Incarnation {
		return
	}
	r, ok := l.passed.Of(t)
	if !ok {
		return // its route has changed since
	}
	_, err := l.data.LetGo(ctx, key, l.cfg.Least, r.Gone(key.Tenant))
	switch {
	case err == nil:
		l.rest.done(key)
	case ctx.Err() == nil && !errors.Is(err, tsdb.ErrUnknownTenant):
		l.rest.failed(key, now)
		l.log.Warn("moved series stay in memory until the normal cut, or until it is tried again", "tenant", key.Tenant, "err", err, "next_try", l.rest.waits[key].retry)
	}
}

// mark is what was passed of a ring, as a number that grows.
type mark struct{ ring, news uint64 }

// rest knows of each tenant what it has let go, and waits until what it has to let
// go has come to rest.
type rest struct {
	quiet, longest time.Duration
	waits          map[tsdb.Key]*wait
}

// wait is one tenant's.
type wait struct {
	let, heard mark
	first      time.Time // when it was heard first of what was not let go
	latest     time.Time
	retry      time.Time // not before, after a failure
}

// letGoRetry is how long a failure is left alone: a disk that is full, mostly.
const letGoRetry = time.Minute

func (r *rest) heard(key tsdb.Key, m mark, now time.Time) {
	w := r.waits[key]
	if w == nil {
		w = &wait{}
		r.waits[key] = w
	}
	if w.heard == m {
		return
	}
	if w.heard == w.let {
		w.first = now
	}
	w.heard, w.latest = m, now
}

// due are the tenants whose series are to be let go now.
func (r *rest) due(now time.Time) (keys []tsdb.Key) {
	for key, w := range r.waits {
		if w.heard == w.let || now.Before(w.retry) {
			continue
		}
		if now.Sub(w.latest) >= r.quiet || now.Sub(w.first) >= r.longest {
			keys = append(keys, key)
		}
	}
	return keys
}

func (r *rest) done(key tsdb.Key) { r.waits[key].let = r.waits[key].heard }

func (r *rest) failed(key tsdb.Key, now time.Time) { r.waits[key].retry = now.Add(letGoRetry) }

// forget drops all but these tenants.
func (r *rest) forget(keep map[tsdb.Key]bool) {
	for key := range r.waits {
		if !keep[key] {
			delete(r.waits, key)
		}
	}
}

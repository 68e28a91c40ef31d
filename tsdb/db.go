package tsdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

var (
	// ErrUnknownTenant says that there is no such tenant here, or not in this incarnation.
	ErrUnknownTenant = errors.New("unknown tenant")
	// ErrNotReady says that the tenant is being opened, could not be, or the DB is closing.
	ErrNotReady = errors.New("tenant not ready")
)

// DB holds the samples of all tenants of this store: New keeps the config, Open
// replays, Run cuts and syncs, Close undoes Open.
type DB struct {
	cfg Config
	met *metrics

	mu      sync.RWMutex
	tenants map[string]*tenant // the current incarnation, by id
	leaving map[Key]*tenant    // not served any more, and not yet closed or removed
	open    bool
	closed  bool

	life  *life
	slots chan struct{} // limits how many tenants are opened at once

	workMu sync.Mutex
	ending bool // no new work; under workMu
	work   sync.WaitGroup
	ctx    context.Context // of the work; ends with Close
	stop   context.CancelFunc
}

// New makes a DB that knows no tenants yet.
func New(cfg Config) *DB {
	cfg = cfg.withDefaults()
	d := &DB{
		cfg:     cfg,
		tenants: map[string]*tenant{},
		leaving: map[Key]*tenant{},
		slots:   make(chan struct{}, cfg.OpenConcurrency),
		life:    newLife(cfg),
	}
	d.met = newMetrics(cfg.Reg, d)
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d
}

// find gives the tenant that key names now.
func (d *DB) find(key Key) (*tenant, error) {
	d.mu.RLock()
	t, closed := d.tenants[key.Tenant], d.closed
	d.mu.RUnlock()
	switch {
	case closed:
		return nil, fmt.Errorf("closed: %w", ErrNotReady)
	case t == nil || t.key != key:
		return nil, ErrUnknownTenant
	}
	return t, nil
}

// all gives the tenants, ordered by key.
func (d *DB) all() []*tenant {
	d.mu.RLock()
	ts := make([]*tenant, 0, len(d.tenants))
	for _, t := range d.tenants {
		ts = append(ts, t)
	}
	d.mu.RUnlock()
	slices.SortFunc(ts, func(a, b *tenant) int { return a.key.compare(b.key) })
	return ts
}

// Keys are the keys served, in order.
func (d *DB) Keys() []Key {
	ts := d.all()
	keys := make([]Key, len(ts))
	for i, t := range ts {
		keys[i] = t.key
	}
	return keys
}

// Append writes a share and says, in out, what became of each of its samples, in
// the share's order; len(out) is their number. The opening names this opening of
// the tenant's TSDB. Writes of one tenant are serialised. An error means that at
// least the samples marked Failed are not held; all others are as out says.
func (d *DB) Append(ctx context.Context, key Key, share Share, repeat bool, out []Outcome) (opening uint64, err error) {
	opening, _, err = d.Write(ctx, key, share, repeat, false, out)
	return opening, err
}

// Write is Append, and tells how many series were not in the head before: born.
// A share that another replica holds is taken beyond the tenant's quota.
func (d *DB) Write(ctx context.Context, key Key, share Share, repeat, held bool, out []Outcome) (opening uint64, born int, err error) {
	t, e, err := d.hold(ctx, key)
	if err != nil {
		return 0, 0, d.refuse(out, err)
	}
	defer t.handBack(e)
	// A share begun is finished: half of it stored and nobody told would be worse.
	err = e.append(context.WithoutCancel(ctx), share, repeat, held, out)
	d.met.count(out)
	if err != nil {
		err = fmt.Errorf("append to %s: %w", key, err)
	}
	return e.opening, e.born, err
}

// hold gives a key's engine to the one who may append to it now; handBack must
// follow. ctx ends only the wait for that.
func (d *DB) hold(ctx context.Context, key Key) (*tenant, *engine, error) {
	t, err := d.find(key)
	if err != nil {
		return nil, nil, err
	}
	e, err := t.acquire(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	select {
	case e.writing <- struct{}{}:
	default:
		select {
		case e.writing <- struct{}{}:
		case <-ctx.Done():
			t.release()
			return nil, nil, fmt.Errorf("wait for the tenant's other writes: %w", ctx.Err())
		}
	}
	if err := d.fitFor(t, e); err != nil {
		t.handBack(e)
		return nil, nil, err
	}
	return t, e, nil
}

// fitFor says whether an engine can take anything now. Under writing.
func (d *DB) fitFor(t *tenant, e *engine) error {
	if e.torn {
		t.reopen(e)
		return fmt.Errorf("log is being reopened after a failed write: %w", ErrNotReady)
	}
	if !roomy(e.dir, d.cfg.MinFree) {
		return errDiskFull
	}
	return e.followSettings()
}

// handBack undoes hold.
func (t *tenant) handBack(e *engine) {
	<-e.writing
	t.release()
}

var errDiskFull = errors.New("disk is full")

// refuse marks every sample Failed.
func (d *DB) refuse(out []Outcome, err error) error {
	for i := range out {
		out[i] = Failed
	}
	d.met.count(out)
	return fmt.Errorf("append: %w", err)
}

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	openRetry = time.Second     // between attempts to open a tenant that could not be
	readWait  = 5 * time.Second // how long a reader waits for a tenant being opened

	reopenRoom = 1 << 20 // bytes, for the last page of each log and new segments
)

// A tenant is one key's place: a directory, and an engine while one is open. It
// is opened at the first use, and closed when it is gone or the DB closes; an
// idle one could be closed in the same way (drain).
type tenant struct {
	d   *DB
	key Key
	dir string

	mu        sync.Mutex
	settings  Settings
	engine    *engine
	users     int // of the engine
	opening   bool
	reopening bool // of a torn engine, under way
	draining  bool // no new users; closed when the last one leaves
	gone      bool
	failed    error // of the last attempt to open
	retryAt   time.Time
	changed   chan struct{} // closed, and replaced, whenever the above changes
}

func (d *DB) newTenant(s Settings) *tenant {
	return &tenant{
		d: d, key: s.Key, settings: s,
		dir:     filepath.Join(d.cfg.Dir, s.Key.String()),
		changed: make(chan struct{}),
	}
}

// announce wakes those who wait for a change. Under mu.
func (t *tenant) announce() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// acquire gives the tenant's engine, opening it if need be; release must follow.
// Without create, a tenant without a directory gives nil: it holds nothing, and a
// question is no reason to make one.
func (t *tenant) acquire(ctx context.Context, create bool) (*engine, error) {
	for {
		t.mu.Lock()
		if t.gone {
			t.mu.Unlock()
			return nil, ErrUnknownTenant
		}
		if t.engine != nil && !t.draining {
			t.users++
			e := t.engine
			t.mu.Unlock()
			return e, nil
		}
		if !t.opening && !t.draining {
			if !create && !t.exists() {
				t.mu.Unlock()
				return nil, nil
			}
			if err := t.start(); err != nil {
				t.mu.Unlock()
				return nil, err
			}
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", t.key, errors.Join(ErrNotReady, ctx.Err()))
		}
	}
}

// peek gives the engine if it is open; release must follow unless it is nil.
func (t *tenant) peek() *engine {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.engine == nil || t.draining {
		return nil
	}
	t.users++
	return t.engine
}

func (t *tenant) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.users--
	if t.users == 0 && t.draining {
		t.announce()
	}
}

func (t *tenant) exists() bool {
	_, err := os.Stat(t.dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// start begins to open the engine. Under mu.
func (t *tenant) start() error {
	if t.failed != nil && time.Now().Before(t.retryAt) {
		return fmt.Errorf("%w: %w", ErrNotReady, t.failed)
	}
	if !t.d.spawn(t.openNow) {
		return fmt.Errorf("closed: %w", ErrNotReady)
	}
	t.opening = true
	return nil
}

// openNow opens the engine, in its own goroutine.
func (t *tenant) openNow() {
	t.d.slots <- struct{}{}
	defer func() { <-t.d.slots }()
	t.mu.Lock()
	s, gone := t.settings, t.gone
	t.mu.Unlock()
	var e *engine
	err := ErrUnknownTenant
	if !gone {
		e, err = t.d.openTenant(t.dir, s)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opening, t.engine, t.failed = false, e, err
	if err != nil {
		t.engine, t.retryAt = nil, time.Now().Add(openRetry)
		if !gone {
			t.d.met.openFailures.Inc()
			t.d.cfg.Log.Error("tenant could not be opened", "tenant", t.key.Tenant, "incarnation", t.key.Incarnation, "err", err)
		}
	} else if s != t.settings {
		now := t.settings // they changed meanwhile
		e.settings.Store(&now)
	}
	t.announce()
}

// drain closes the engine as soon as its last user leaves, or gives up with ctx.
// Nobody gets it meanwhile.
func (t *tenant) drain(ctx context.Context) error {
	t.mu.Lock()
	for t.opening || t.draining {
		if err := t.wait(ctx); err != nil {
			t.mu.Unlock()
			return err
		}
	}
	if t.engine == nil {
		t.mu.Unlock()
		return nil
	}
	t.draining = true
	defer func() {
		t.draining = false
		t.announce()
		t.mu.Unlock()
	}()
	for t.users > 0 {
		if err := t.wait(ctx); err != nil {
			return err
		}
	}
	e := t.engine
	t.mu.Unlock()
	err := e.close()
	t.mu.Lock()
	t.engine = nil
	return err
}

// wait leaves mu until something changes.
func (t *tenant) wait(ctx context.Context) error {
	changed := t.changed
	t.mu.Unlock()
	defer t.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the users of %s: %w", t.key, ctx.Err())
	}
}

// reopen replaces an engine whose log is torn, in the background. Reads go on
// with the old one until the disk has room for the new one's opening.
func (t *tenant) reopen(torn *engine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.engine != torn || t.reopening || t.opening || t.draining || t.gone || time.Now().Before(t.retryAt) {
		return
	}
	// Not while the disk is full: a log that cannot be flushed is not closed by the
	// TSDB either, and stays open for good.
	if !roomy(t.dir, max(t.d.cfg.MinFree, reopenRoom)) {
		return
	}
	t.reopening = t.d.spawn(func() {
		if err := t.drain(t.d.ctx); err != nil {
			t.d.cfg.Log.Warn("torn engine not closed cleanly", "tenant", t.key.Tenant, "err", err)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.reopening = false
		if t.engine == nil && !t.opening && !t.gone {
			t.retryAt = time.Time{}
			_ = t.start() // closing: then it is not needed
		}
	})
}

// adopt takes changed settings. It waits for no append and no cut.
func (t *tenant) adopt(s Settings) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settings = s
	if t.engine != nil {
		t.engine.settings.Store(&s)
	}
}

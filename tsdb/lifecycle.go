package tsdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	removingPrefix = ".removing-"     // a gone key's directory on its way out
	closePatience  = 30 * time.Second // how long Close waits for queriers that are still open
)

// Open declares what an unclean stop may have lost, and replays the directories
// of the tenants that SetTenants has named so far. Those it names later are
// opened then. Directories that no tenant has claimed are left alone.
func (d *DB) Open(ctx context.Context) error {
	if err := makeDir(d.cfg.Dir); err != nil {
		return fmt.Errorf("open tsdb: %w", err)
	}
	keys, err := d.sweep()
	if err != nil {
		return fmt.Errorf("open tsdb: %w", err)
	}
	if err := d.life.begin(keys, d.cfg.Now()); err != nil {
		return fmt.Errorf("open tsdb: %w", err)
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return fmt.Errorf("open tsdb: closed: %w", ErrNotReady)
	}
	d.open = true
	d.mu.Unlock()
	return d.replay(ctx)
}

// replay opens every tenant that has a directory. One that cannot be opened is
// logged, and tried again when it is needed: it must not keep the others down.
func (d *DB) replay(ctx context.Context) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	for _, t := range d.all() {
		if ctx.Err() != nil {
			return fmt.Errorf("open tsdb: %w", ctx.Err())
		}
		if !t.exists() {
			continue
		}
		wait.Go(func() {
			if e, err := t.acquire(ctx, false); err == nil && e != nil {
				t.release()
			}
		})
	}
	return nil
}

// sweep lists the keys that have a directory, and finishes removals that were
// interrupted.
func (d *DB) sweep() ([]Key, error) {
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	var keys []Key
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		if strings.HasPrefix(entry.Name(), removingPrefix) {
			if err := os.RemoveAll(filepath.Join(d.cfg.Dir, entry.Name())); err != nil {
				return nil, fmt.Errorf("finish a removal: %w", err)
			}
			continue
		}
		if k, ok := parseKey(entry.Name()); ok {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// OnDisk lists the keys that have a directory, whether they are served or not.
func (d *DB) OnDisk() ([]Key, error) {
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	var keys []Key
	for _, entry := range entries {
		if k, ok := parseKey(entry.Name()); ok && entry.IsDir() {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// openTenant opens one engine. A log that had to be repaired is a gap, declared
// before anybody can read past it.
func (d *DB) openTenant(dir string, s Settings) (*engine, error) {
	d.mu.RLock()
	open := d.open && !d.closed
	d.mu.RUnlock()
	if !open {
		return nil, fmt.Errorf("not open: %w", ErrNotReady)
	}
	// A repair writes a segment anew, and one that fails half-way loses the rest.
	if !roomy(d.cfg.Dir, d.cfg.MinFree/2) {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, errDiskFull)
	}
	began := time.Now()
	e, err := openEngine(&d.cfg, dir, s)
	if err != nil {
		return nil, err
	}
	if e.news.repaired.Load() {
		if err := d.life.declare(s.Key, Interval{Mint: e.repairedFrom(d.life.lastSync()), Maxt: d.cfg.Now().UnixMilli()}); err != nil {
			return nil, errors.Join(err, e.close())
		}
	}
	d.cfg.Log.Info("tenant opened", "tenant", s.Tenant, "incarnation", s.Incarnation,
		"series", e.db.Head().NumSeries(), "blocks", len(e.db.Blocks()), "took", time.Since(began))
	return e, nil
}

// SetTenants takes the settings of tenants new or changed, and the keys whose
// incarnation has ended. A key not yet named is neither opened nor served; a gone
// one is closed when its last reader leaves, and its directory removed.
func (d *DB) SetTenants(set []Settings, gone []Key) {
	for _, s := range set {
		d.setTenant(s)
	}
	for _, k := range gone {
		d.endTenant(k)
	}
}

func (d *DB) setTenant(s Settings) {
	if !s.valid() {
		d.cfg.Log.Error("tenant id is no file name: not served", "tenant", s.Tenant)
		return
	}
	d.mu.Lock()
	old := d.tenants[s.Tenant]
	late := old != nil && old.key.Incarnation > s.Incarnation || d.leaving[s.Key] != nil
	if d.closed || late {
		d.mu.Unlock()
		return
	}
	t := old
	if old == nil || old.key != s.Key {
		t = d.newTenant(s)
		d.tenants[s.Tenant] = t
		if old != nil {
			d.leaving[old.key] = old
		}
	}
	open := d.open
	d.mu.Unlock()
	if t == old {
		t.adopt(s)
		return
	}
	if old != nil {
		d.retire(old, false)
	}
	if open && t.exists() {
		t.mu.Lock()
		_ = t.start() // a failure is logged there, and tried again at the first use
		t.mu.Unlock()
	}
}

func (d *DB) endTenant(k Key) {
	if !k.valid() {
		return
	}
	d.mu.Lock()
	t := d.tenants[k.Tenant]
	switch {
	case t != nil && t.key == k:
		delete(d.tenants, k.Tenant)
	case d.leaving[k] != nil:
		t = d.leaving[k] // its readers are waited for before the directory goes
	default:
		t = d.newTenant(Settings{Key: k})
	}
	d.leaving[k] = t
	d.mu.Unlock()
	d.retire(t, true)
}

// retire ends a tenant that find no longer gives: no new users, then closed, and
// removed if its incarnation is over.
func (d *DB) retire(t *tenant, remove bool) {
	t.mu.Lock()
	t.gone = true
	t.announce()
	t.mu.Unlock()
	d.spawn(func() {
		err := t.drain(d.ctx)
		if err != nil {
			d.cfg.Log.Warn("tenant not closed cleanly", "tenant", t.key.Tenant, "err", err)
		}
		if d.ctx.Err() != nil {
			return // still in use; the next start finds the directory
		}
		if remove {
			err = d.remove(t)
		}
		d.mu.Lock()
		delete(d.leaving, t.key)
		d.mu.Unlock()
		switch {
		case remove && err != nil:
			d.cfg.Log.Error("tenant's directory not removed", "tenant", t.key.Tenant, "err", err)
		case remove:
			d.cfg.Log.Info("tenant removed", "tenant", t.key.Tenant, "incarnation", t.key.Incarnation)
		}
	})
}

// remove renames first: a directory half removed must not be opened again.
func (d *DB) remove(t *tenant) error {
	if t.exists() {
		aside := filepath.Join(d.cfg.Dir, removingPrefix+t.key.String())
		if err := os.Rename(t.dir, aside); err != nil {
			return fmt.Errorf("remove %s: %w", t.key, err)
		}
		if err := os.RemoveAll(aside); err != nil {
			return fmt.Errorf("remove %s: %w", t.key, err)
		}
	}
	return d.life.forget(t.key)
}

// spawn runs f beside the caller; Close waits for it. False once closing.
func (d *DB) spawn(f func()) bool {
	d.workMu.Lock()
	defer d.workMu.Unlock()
	if d.ending {
		return false
	}
	d.work.Go(f)
	return true
}

// Run syncs, cuts and retains until ctx ends.
func (d *DB) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { every(ctx, d.cfg.SyncEvery, d.syncAll) })
	loops.Go(func() { every(ctx, time.Minute, d.mapAll) })
	every(ctx, d.cutEvery(), func() {
		d.cutDue(ctx)
		d.retainAll(ctx)
	})
	return nil
}

func every(ctx context.Context, period time.Duration, f func()) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// Close ends all work, flushes, and closes. It waits half a minute for readers;
// a tenant that is still read then stays open, and the stop counts as unclean.
func (d *DB) Close() error {
	d.mu.Lock()
	wasOpen := d.open && !d.closed
	d.closed = true
	d.mu.Unlock()
	d.workMu.Lock()
	d.ending = true
	d.workMu.Unlock()
	patience, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	defer context.AfterFunc(patience, d.stop)()
	var errs []error
	for _, t := range d.all() {
		errs = append(errs, t.drain(patience))
	}
	d.work.Wait()
	d.stop()
	err := errors.Join(errs...)
	if wasOpen && err == nil {
		err = d.life.end(d.cfg.Now())
	}
	d.met.unregister()
	if err != nil {
		return fmt.Errorf("close tsdb: %w", err)
	}
	return nil
}

package tsdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// Expire removes blocks that have outlived their tenant. keep says how long a
// key's blocks stay, counted from their ends (zero: for ever); over, that the
// key's incarnation has ended.
func (a *Adopted) Expire(keep func(Key) (d time.Duration, over bool)) error {
	a.work.Lock()
	defer a.work.Unlock()
	var errs []error
	for _, id := range a.Stores() {
		errs = append(errs, a.expire(id, keep))
	}
	return errors.Join(errs...)
}

func (a *Adopted) expire(id StoreID, keep func(Key) (time.Duration, bool)) error {
	seal := a.Sealed(id)
	if seal == nil {
		return nil // still being given; the giver keeps to the retention itself
	}
	left, changed := seal.without(func(key Key, b SealedBlock) bool {
		d, over := keep(key)
		return over || d > 0 && b.Maxt <= a.cfg.Now().Add(-d).UnixMilli()
	})
	if !changed {
		return nil
	}
	// A crash here: nothing has happened.
	if err := writeSeal(a.storeDir(id), left); err != nil {
		return err
	}
	n, err := a.keep(id, left)
	a.cfg.Log.Info("adopted blocks removed: they have outlived their tenant's retention", "store", id.String(), "blocks", n)
	return err
}

// keep goes by a seal that is on the disk: blocks that it does not name go. A
// crash in it: Open does the same. Under work.
func (a *Adopted) keep(id StoreID, seal *Seal) (removed int, err error) {
	gone := map[string]*promtsdb.Block{}
	a.mu.Lock()
	s := a.stores[id]
	if s == nil {
		s = newAdoptedStore()
		a.stores[id] = s
	}
	s.seal = seal
	for key, blocks := range s.blocks {
		for block, b := range blocks {
			if !seal.names(key, block) {
				delete(blocks, block)
				gone[b.Dir()] = b
			}
		}
	}
	a.mu.Unlock()
	var errs []error
	for dir, b := range gone {
		errs = append(errs, b.Close(), removeDir(dir))
	}
	return len(gone), errors.Join(errs...)
}

// Drop removes all that is kept of a store, if over says so still (nil: it is).
// It is asked when nobody can seal the store meanwhile: one that was begun anew is
// answered for from its seal on.
func (a *Adopted) Drop(id StoreID, over func() bool) error {
	a.work.Lock()
	defer a.work.Unlock()
	if over != nil && !over() {
		return nil
	}
	a.mu.Lock()
	s := a.stores[id]
	delete(a.stores, id)
	a.mu.Unlock()
	if s == nil {
		return nil
	}
	if err := errors.Join(s.close(), removeDir(a.storeDir(id))); err != nil {
		return fmt.Errorf("drop store %s: %w", id, err)
	}
	a.cfg.Log.Info("adopted store dropped", "store", id.String())
	return nil
}

// removeDir renames first: a directory half removed must not be opened again.
func removeDir(dir string) error {
	err := os.Rename(dir, dir+goneSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", filepath.Base(dir), err)
	}
	return os.RemoveAll(dir + goneSuffix)
}

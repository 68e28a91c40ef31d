package tsdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// syncAll puts on the disk what the logs took since the last time. Only when all
// of them are there does the last sync move on: it is one for the whole store.
func (d *DB) syncAll() {
	now := d.cfg.Now()
	var errs []error
	for _, t := range d.all() {
		e := t.peek()
		if e == nil {
			continue
		}
		errs = append(errs, e.sync())
		t.release()
	}
	err := errors.Join(errs...)
	if err == nil {
		err = d.life.synced(now)
	}
	if err != nil {
		d.met.syncFailures.Inc()
		d.cfg.Log.Error("logs not synced", "err", err)
	}
}

// sync puts this engine's logs on the disk. The TSDB itself does so only when it
// begins a new segment, and does not say when that is done.
func (e *engine) sync() error {
	e.syncing.Lock()
	defer e.syncing.Unlock()
	if err := e.catalog.sync(); err != nil {
		return err
	}
	if !e.unsynced.Swap(false) {
		return nil
	}
	if err := syncLogs(e.dir, e.synced); err != nil {
		e.unsynced.Store(true)
		return err
	}
	return nil
}

// syncLogs syncs the segments of the logs in dir, from the one that was newest
// the last time, which synced remembers; and the directories that got new ones.
func syncLogs(dir string, synced map[string]int) error {
	for _, name := range []string{walName, wblName} {
		path := filepath.Join(dir, name)
		from := -1
		if n, ok := synced[name]; ok {
			from = n
		}
		last, err := syncSegments(path, from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sync logs: %w", err)
		}
		if last != from {
			if err := errors.Join(syncPath(path), syncPath(dir)); err != nil {
				return fmt.Errorf("sync logs: %w", err)
			}
		}
		synced[name] = last
	}
	return nil
}

// syncSegments syncs the segments numbered from and above, and gives the highest.
func syncSegments(dir string, from int) (last int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	last = from
	for _, entry := range entries {
		n, err := strconv.Atoi(entry.Name())
		if err != nil || n < from {
			continue
		}
		// A segment that was truncated away meanwhile is in a checkpoint or block.
		if err := syncPath(filepath.Join(dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		last = max(last, n)
	}
	return last, nil
}

// syncPath syncs one file or directory: a sync is the file's, not the handle's.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeDir makes one directory, for this user alone, and its name durable.
func makeDir(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = syncPath(filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// mapAll moves full chunks from memory to mapped files, where the disk has room
// for them: a full disk would be a panic.
func (d *DB) mapAll() {
	for _, t := range d.all() {
		e := t.peek()
		if e == nil {
			continue
		}
		e.mapChunks()
		t.release()
	}
}

// chunkBytes is more than the full chunks of a series take between two looks.
const chunkBytes = 1 << 10

func (e *engine) mapChunks() {
	if !e.unmapped.Load() {
		return
	}
	need := max(e.cfg.MinFree, 0) + chunkBytes*int64(e.db.Head().NumSeries())
	if !roomy(e.dir, need) {
		return
	}
	e.unmapped.Store(false)
	e.db.ForceHeadMMap() // named for tests, but what the TSDB's own loop calls
}

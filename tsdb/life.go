package tsdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// An Interval of time, in milliseconds since the epoch, both ends included.
type Interval struct {
	Mint int64 `json:"mint"`
	Maxt int64 `json:"maxt"`
}

const (
	runName  = "run.json"  // the last sync, the machine's boot, and whether the stop was clean
	gapsName = "gaps.json" // gaps by key
	maxGaps  = 32          // of one key; more are merged
)

// run is what a DB leaves for its next opening.
type run struct {
	BootID string `json:"boot_id"`
	Synced int64  `json:"synced"` // all logs were on the disk at this time, in ms
	Clean  bool   `json:"clean"`  // stopped in order, everything on the disk
}

// life keeps what outlives the process: when the logs were last known to be on
// the disk, and the gaps that unclean stops may have left. Logs are written but
// not synced at each commit, so that the end of a process loses nothing, and the
// end of a machine what came after the last sync.
type life struct {
	dir    string
	bootID string

	mu   sync.Mutex
	run  run
	gaps map[string][]Interval
}

func newLife(cfg Config) *life {
	return &life{dir: cfg.Dir, bootID: cfg.BootID, gaps: map[string][]Interval{}}
}

// begin reads what the last opening left. After an unclean stop on another boot,
// each key declares a gap from the last sync until now: durably, before the trace
// of the stop is overwritten.
func (l *life) begin(keys []Key, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := readJSON(filepath.Join(l.dir, gapsName), &l.gaps); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	last := run{Synced: math.MinInt64}
	err := readJSON(filepath.Join(l.dir, runName), &last)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch {
	case last.Clean:
		last.Synced = now.UnixMilli()
	case last.BootID != l.bootID:
		gap := Interval{Mint: max(last.Synced, 0), Maxt: now.UnixMilli()}
		for _, k := range keys {
			l.add(k, gap)
		}
		if len(keys) > 0 {
			if err := l.saveGaps(); err != nil {
				return err
			}
		}
		last.Synced = now.UnixMilli()
	default:
		// The process ended, the machine did not: the page cache has everything.
		for _, k := range keys {
			if err := syncLogs(filepath.Join(l.dir, k.String()), map[string]int{}); err != nil {
				return err
			}
		}
		last.Synced = now.UnixMilli()
	}
	return l.saveRun(run{BootID: l.bootID, Synced: last.Synced})
}

// synced notes that everything written before at is on the disk.
func (l *life) synced(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.saveRun(run{BootID: l.bootID, Synced: at.UnixMilli()})
}

// end notes a clean stop.
func (l *life) end(now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.saveRun(run{BootID: l.bootID, Synced: now.UnixMilli(), Clean: true})
}

func (l *life) lastSync() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.run.Synced
}

// declare adds a gap, durably.
func (l *life) declare(k Key, gap Interval) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(k, gap)
	return l.saveGaps()
}

// fill takes a gap away, durably: its samples were fetched from elsewhere, or
// have outlived their retention.
func (l *life) fill(k Key, filled Interval) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := subtract(l.gaps[k.String()], filled)
	if slices.Equal(left, l.gaps[k.String()]) {
		return nil
	}
	l.put(k, left)
	return l.saveGaps()
}

// forget drops all that is kept of a key.
func (l *life) forget(k Key) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.gaps[k.String()]) == 0 {
		return nil
	}
	l.put(k, nil)
	return l.saveGaps()
}

func (l *life) of(k Key) []Interval {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.gaps[k.String()])
}

func (l *life) add(k Key, gap Interval) { l.put(k, union(l.gaps[k.String()], gap)) }

func (l *life) put(k Key, gaps []Interval) {
	if len(gaps) == 0 {
		delete(l.gaps, k.String())
		return
	}
	l.gaps[k.String()] = gaps
}

func (l *life) saveRun(r run) error {
	if err := writeJSON(filepath.Join(l.dir, runName), r); err != nil {
		return err
	}
	l.run = r
	return nil
}

func (l *life) saveGaps() error { return writeJSON(filepath.Join(l.dir, gapsName), l.gaps) }

// union adds gap to disjoint, ascending gaps, and merges the nearest when there
// are too many: too wide is honest, too narrow is not.
func union(gaps []Interval, gap Interval) []Interval {
	all := append(slices.Clone(gaps), gap)
	slices.SortFunc(all, func(a, b Interval) int { return int(min(max(a.Mint-b.Mint, -1), 1)) })
	merged := all[:1]
	for _, g := range all[1:] {
		if last := &merged[len(merged)-1]; g.Mint <= last.Maxt {
			last.Maxt = max(last.Maxt, g.Maxt)
		} else {
			merged = append(merged, g)
		}
	}
	for len(merged) > maxGaps {
		nearest := 1
		for i := range merged[1:] {
			if merged[i+1].Mint-merged[i].Maxt < merged[nearest].Mint-merged[nearest-1].Maxt {
				nearest = i + 1
			}
		}
		merged[nearest-1].Maxt = merged[nearest].Maxt
		merged = slices.Delete(merged, nearest, nearest+1)
	}
	return merged
}

func subtract(gaps []Interval, cut Interval) []Interval {
	var left []Interval
	for _, g := range gaps {
		if g.Maxt < cut.Mint || g.Mint > cut.Maxt {
			left = append(left, g)
			continue
		}
		if g.Mint < cut.Mint {
			left = append(left, Interval{Mint: g.Mint, Maxt: cut.Mint - 1})
		}
		if g.Maxt > cut.Maxt {
			left = append(left, Interval{Mint: cut.Maxt + 1, Maxt: g.Maxt})
		}
	}
	return left
}

func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return nil
}

// writeJSON replaces the file: after it, and after a crash, there is the old or
// the new one, whole.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncPath(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

package tsdb

import (
	"math"
	"path/filepath"
)

// Status of a tenant, for those who must know whether an answer is complete.
type Status struct {
	// Replayed says that all that the directory holds can be read.
	Replayed bool
	// Gaps are the times in which acknowledged samples may have been lost.
	Gaps []Interval
	// Opening is random and this opening's own; 0 while not open.
	Opening uint64
	// MinTime is the time of the oldest sample held, in ms: math.MaxInt64 when
	// there is none, math.MinInt64 while that is not known.
	MinTime int64
}

// Status of a key. One that is not served is not replayed.
func (d *DB) Status(key Key) Status {
	t, err := d.find(key)
	if err != nil {
		return Status{MinTime: math.MinInt64}
	}
	s := Status{Gaps: d.life.of(key), MinTime: math.MinInt64}
	e := t.peek()
	if e == nil {
		if t.empty() {
			s.Replayed, s.MinTime = true, math.MaxInt64
		}
		return s
	}
	defer t.release()
	s.Replayed, s.Opening, s.MinTime = true, e.opening, e.minTime()
	return s
}

// empty reports whether there is nothing to replay: no directory, and nobody who
// is about to make one.
func (t *tenant) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.engine == nil && !t.opening && !t.exists()
}

func (e *engine) minTime() int64 {
	head := e.db.Head()
	oldest := int64(math.MaxInt64)
	if head.NumSeries() > 0 {
		oldest = min(head.MinTime(), head.MinOOOTime())
	}
	for _, b := range e.db.Blocks() {
		oldest = min(oldest, b.MinTime())
	}
	return oldest
}

// FillGap takes back a gap of key, durably: its samples have been fetched from
// the other replicas.
func (d *DB) FillGap(key Key, filled Interval) error {
	if _, err := d.find(key); err != nil {
		return err
	}
	return d.life.fill(key, filled)
}

// Path is the directory of key, whether it exists or not; its blocks are the
// subdirectories named by a ULID.
func (d *DB) Path(key Key) string { return filepath.Join(d.cfg.Dir, key.String()) }

// Series in the head of key: those with samples not yet cut. 0 while not open.
func (d *DB) Series(key Key) uint64 {
	t, err := d.find(key)
	if err != nil {
		return 0
	}
	return t.stats().Series
}

// Stats of the DB.
type Stats struct {
	Tenants []TenantStats // ordered by key
	Open    int           // tenants that are open
	Series  uint64        // in all heads
}

// TenantStats of one key. Times are in ms; MinTime > MaxTime in an empty head.
type TenantStats struct {
	Key
	Open             bool
	Series           uint64
	MinTime, MaxTime int64 // of the head
	Blocks           int
}

// Stats gathers what heartbeats and pages show.
func (d *DB) Stats() Stats {
	var s Stats
	for _, t := range d.all() {
		one := t.stats()
		s.Tenants = append(s.Tenants, one)
		s.Series += one.Series
		if one.Open {
			s.Open++
		}
	}
	return s
}

func (t *tenant) stats() TenantStats {
	s := TenantStats{Key: t.key, MinTime: math.MaxInt64, MaxTime: math.MinInt64}
	e := t.peek()
	if e == nil {
		return s
	}
	defer t.release()
	head := e.db.Head()
	s.Open, s.Series, s.Blocks = true, head.NumSeries(), len(e.db.Blocks())
	s.MinTime, s.MaxTime = head.MinTime(), head.MaxTime()
	return s
}

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

const (
	ringName = "exemplars.json"
	minRing  = 64
	// maxRing is what an unlimited tenant may have: 64 MiB, and the exemplars' labels.
	maxRing = 1 << 20
)

// An exemplarRing is how large the TSDB's ring of exemplars is. The TSDB makes it
// in full, 64 bytes an exemplar: of the tenant's limit that would be megabytes for
// a tenant that sends none. So it begins with nothing and doubles while it is
// full. How large it was is written down before it grows: the log is replayed
// into a ring of that size, and what does not fit is gone.
//
// It belongs to whoever holds the engine's writing.
type exemplarRing struct {
	size int64
	used int64 // at most so many places are taken
	// times are those of the newest exemplars of the series that got some lately. One
	// that is newer than these is taken for sure.
	times map[storage.SeriesRef]int64
}

// ringFile is what is written down.
type ringFile struct {
	Size int64 `json:"size"`
}

// exemplarLimit is how many the tenant may have on this node.
func (s Settings) exemplarLimit() int64 {
	if s.Exemplars <= 0 {
		return maxRing
	}
	return s.Exemplars
}

// readRing is the ring that the last opening had, as far as the limit allows. One
// that cannot be read is none: samples are worth more than exemplars.
func readRing(dir string, s Settings, log *slog.Logger) exemplarRing {
	var f ringFile
	if err := readJSON(filepath.Join(dir, ringName), &f); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("exemplars of the last run are forgotten", "tenant", s.Tenant, "err", err)
	}
	return exemplarRing{size: min(max(f.Size, 0), s.exemplarLimit()), times: map[storage.SeriesRef]int64{}}
}

// fit counts what the log brought, and gives back what was not needed of it.
func (r *exemplarRing) fit(e *engine) error {
	if r.size == 0 {
		return nil
	}
	q, err := e.db.ExemplarQuerier(context.Background())
	if err != nil {
		return fmt.Errorf("count exemplars: %w", err)
	}
	all, err := q.Select(math.MinInt64, math.MaxInt64, []*labels.Matcher{everySeries})
	if err != nil {
		return fmt.Errorf("count exemplars: %w", err)
	}
	r.used = 0
	for _, series := range all {
		r.used += int64(len(series.Exemplars))
	}
	if want := max(2*r.used, minRing); want < r.size/2 {
		return r.resize(e, want)
	}
	return nil
}

// makeRoom makes the ring larger where n more do not fit and the limit allows it.
func (r *exemplarRing) makeRoom(e *engine, n int64) error {
	limit := e.settings.Load().exemplarLimit()
	if r.used+n <= r.size || r.size >= limit {
		return nil
	}
	want := max(minRing, r.size)
	for want < r.used+n && want < limit {
		want *= 2
	}
	return r.resize(e, min(want, limit))
}

// follow makes the ring as small as a lower limit wants it.
func (r *exemplarRing) follow(e *engine) error {
	if limit := e.settings.Load().exemplarLimit(); r.size > limit {
		return r.resize(e, limit)
	}
	return nil
}

// resize keeps the newest. The new size is written down before there may be an
// exemplar that needs it.
func (r *exemplarRing) resize(e *engine, size int64) error {
	if err := writeJSON(filepath.Join(e.dir, ringName), ringFile{size}); err != nil {
		return fmt.Errorf("resize the ring of exemplars: %w", err)
	}
	window := int64(0)
	if e.windowed.Load() {
		window = e.window
	}
	if err := e.configure(window, size); err != nil {
		return fmt.Errorf("resize the ring of exemplars: %w", err)
	}
	r.size, r.used = size, min(r.used, size)
	return nil
}

// took counts n more.
func (r *exemplarRing) took(n int64) { r.used = min(r.used+n, r.size) }

// newer says whether exemplars from first to last are surely newer than all that
// the series has, and remembers them.
func (r *exemplarRing) newer(ref storage.SeriesRef, first, last int64) bool {
	before, known := r.times[ref]
	if !known && int64(len(r.times)) > r.size+minRing { // those of series that have none any more
		clear(r.times)
	}
	if !known || last > before {
		r.times[ref] = last
	}
	return known && first > before
}

// configure tells the TSDB how wide the out-of-order window is, in ms, and how
// large the ring of exemplars.
func (e *engine) configure(window, exemplars int64) error {
	return e.db.ApplyConfig(&config.Config{StorageConfig: config.StorageConfig{
		TSDBConfig:      &config.TSDBConfig{OutOfOrderTimeWindow: window},
		ExemplarsConfig: &config.ExemplarsConfig{MaxExemplars: exemplars},
	}})
}

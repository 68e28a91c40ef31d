package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Snapshots on schedule: each node keeps its own, as it has the state, so that
// any one disk that is left has them; the leader keeps them in the bucket, too.
const (
	scheduleEvery = 24 * time.Hour
	scheduleKeep  = 14
	// scheduleLook is how often it is looked whether one is due, and how long a
	// node runs before its first.
	scheduleLook = time.Minute
	// scheduleRetry is how long one that failed waits.
	scheduleRetry = 10 * time.Minute

	archiveSuffix = ".snapshot"
	archiveStamp  = "20060102T150405Z"
)

// Shelf keeps archives outside of this machine. A name is two words with a slash
// between them: the cluster's id, and the archive's own.
type Shelf interface {
	Put(ctx context.Context, name string, r io.Reader) error
	// List are the archives' own names.
	List(ctx context.Context, cluster string) ([]string, error)
	Delete(ctx context.Context, name string) error
}

// place is one of the two where archives are kept.
type place struct {
	name    string
	known   bool      // last was looked up
	last    time.Time // when the newest was taken; zero: there is none
	retryAt time.Time
	failed  int
}

// due says whether another is wanted. A clock that was set back by more than an
// hour makes the newest one's time worthless.
func (p *place) due(now time.Time) bool {
	age := now.Sub(p.last)
	return !now.Before(p.retryAt) && (age >= scheduleEvery || age < -time.Hour)
}

// schedule takes snapshots once a day.
type schedule struct {
	dir   string
	shelf Shelf // nil: none
	// write writes an archive of the state that this node has.
	write func(io.Writer) error
	// cluster is the id of the cluster, "" where there is none, and whether this
	// node leads it.
	cluster func() (id string, leads bool)
	log     *slog.Logger

	mu            sync.Mutex
	local, bucket place
}

func newSchedule(dir string, shelf Shelf, write func(io.Writer) error, cluster func() (string, bool), log *slog.Logger) *schedule {
	return &schedule{
		dir: dir, shelf: shelf, write: write, cluster: cluster, log: log,
		local: place{name: "local"}, bucket: place{name: "bucket"},
	}
}

// Run takes what is due until ctx ends. What was missed while the node was off is
// made up for.
func (s *schedule) Run(ctx context.Context) {
	tick := time.NewTicker(scheduleLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look(ctx, time.Now())
		}
	}
}

func (s *schedule) look(ctx context.Context, now time.Time) {
	id, leads := s.cluster()
	if id == "" {
		return
	}
	s.tend(&s.local, now, func() (time.Time, error) { return newestIn(s.listLocal()) }, func() error { return s.keepLocal(now) })
	if s.shelf == nil || !leads {
		s.mu.Lock()
		s.bucket.known = false // another leader may keep them meanwhile
		s.mu.Unlock()
		return
	}
	s.tend(&s.bucket, now,
		func() (time.Time, error) { return newestIn(s.shelf.List(ctx, id)) },
		func() error { return s.keepShelved(ctx, id, now) })
}

// tend takes a snapshot for a place where one is due.
func (s *schedule) tend(p *place, now time.Time, newest func() (time.Time, error), keep func() error) {
	s.mu.Lock()
	known, due := p.known, p.due(now)
	s.mu.Unlock()
	if known && !due {
		return
	}
	var err error
	var last time.Time
	if !known {
		last, err = newest()
		s.mu.Lock()
		if err == nil {
			p.known, p.last = true, last
		}
		due = p.due(now)
		s.mu.Unlock()
	}
	if !due {
		return
	}
	if err == nil {
		err = keep()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		p.failed++
		p.retryAt = now.Add(scheduleRetry)
		s.log.Error("snapshot on schedule", "place", p.name, "err", err, "next_try", p.retryAt)
		return
	}
	p.last, p.retryAt = now, time.Time{}
	s.log.Info("snapshot on schedule", "place", p.name)
}

// keepLocal writes one to this machine's disk and drops the oldest.
func (s *schedule) keepLocal(now time.Time) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of snapshots: %w", err)
	}
	if _, err := SaveArchive(filepath.Join(s.dir, archiveName(now)), s.write); err != nil {
		return err
	}
	names, err := s.listLocal()
	if err != nil {
		return err
	}
	for _, name := range surplusOf(names) {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			return fmt.Errorf("drop the oldest snapshot: %w", err)
		}
	}
	return nil
}

// keepShelved brings one to the bucket and drops the oldest. What is sent was
// written to the disk and read back before.
func (s *schedule) keepShelved(ctx context.Context, id string, now time.Time) error {
	file, err := os.CreateTemp(s.dir, ".bucket"+archiveSuffix+"-*")
	if err != nil {
		return fmt.Errorf("write a snapshot for the bucket: %w", err)
	}
	path := file.Name()
	defer os.Remove(path)
	if err := file.Close(); err != nil {
		return fmt.Errorf("write a snapshot for the bucket: %w", err)
	}
	if _, err := SaveArchive(path, s.write); err != nil {
		return err
	}
	if file, err = os.Open(path); err != nil {
		return fmt.Errorf("write a snapshot for the bucket: %w", err)
	}
	defer file.Close()
	if err := s.shelf.Put(ctx, id+"/"+archiveName(now), file); err != nil {
		return fmt.Errorf("bring a snapshot to the bucket: %w", err)
	}
	names, err := s.shelf.List(ctx, id)
	if err != nil {
		return fmt.Errorf("list the bucket's snapshots: %w", err)
	}
	for _, name := range surplusOf(names) {
		if err := s.shelf.Delete(ctx, id+"/"+name); err != nil {
			return fmt.Errorf("drop the bucket's oldest snapshot: %w", err)
		}
	}
	return nil
}

// listLocal lists the folder, and clears what a crash left half written.
func (s *schedule) listLocal() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), archiveSuffix+"-") {
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil {
				return nil, fmt.Errorf("clear a snapshot that was cut off: %w", err)
			}
			continue
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// Last is when the newest was taken here and in the bucket; zero: never, or not
// by this node.
func (s *schedule) Last() (local, bucket time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.local.last, s.bucket.last
}

// Failures counts those that failed.
func (s *schedule) Failures() (local, bucket int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.local.failed, s.bucket.failed
}

// collectors export what an operator alerts on.
func (s *schedule) collectors() []prometheus.Collector {
	var out []prometheus.Collector
	for _, p := range []*place{&s.local, &s.bucket} {
		labels := prometheus.Labels{"place": p.name}
		out = append(out,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "muster_snapshot_last_success_timestamp_seconds", ConstLabels: labels,
				Help: "When the newest snapshot on schedule was taken; 0: none, or not by this node.",
			}, func() float64 {
				s.mu.Lock()
				defer s.mu.Unlock()
				if p.last.IsZero() {
					return 0
				}
				return float64(p.last.Unix())
			}),
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "muster_snapshot_failures_total", ConstLabels: labels, Help: "Snapshots on schedule that failed.",
			}, func() float64 {
				s.mu.Lock()
				defer s.mu.Unlock()
				return float64(p.failed)
			}))
	}
	return out
}

func archiveName(at time.Time) string { return at.UTC().Format(archiveStamp) + archiveSuffix }

// archiveTime is when the archive of that name was taken; what somebody else has
// put there is none.
func archiveTime(name string) (time.Time, bool) {
	stamp, ok := strings.CutSuffix(name, archiveSuffix)
	if !ok {
		return time.Time{}, false
	}
	at, err := time.Parse(archiveStamp, stamp)
	return at, err == nil
}

func newestIn(names []string, err error) (time.Time, error) {
	var newest time.Time
	for _, name := range names {
		if at, ok := archiveTime(name); ok && at.After(newest) {
			newest = at
		}
	}
	return newest, err
}

// surplusOf are the oldest archives beyond those that are kept.
func surplusOf(names []string) []string {
	own := slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, ok := archiveTime(name); return !ok })
	slices.SortFunc(own, func(a, b string) int { return cmp.Compare(b, a) })
	return own[min(len(own), scheduleKeep):]
}

// LastSnapshot is when the newest snapshot on schedule was written to this node's
// disk, and when this node last brought one to the bucket; zero: never.
func (n *Node) LastSnapshot() (local, bucket time.Time) { return n.schedule.Last() }

// takesSnapshots is the node's schedule.
func (n *Node) takesSnapshots() *schedule {
	write := func(w io.Writer) error {
		_, err := n.WriteSnapshot(n.ctx, w, true)
		return err
	}
	leads := func() (string, bool) {
		leader, known := n.Leader()
		return n.State().Cluster().GetId(), known && leader == n.cfg.Name
	}
	return newSchedule(filepath.Join(n.cfg.Dir, "snapshots"), n.cfg.Shelf, write, leads, n.log)
}

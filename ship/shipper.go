package ship

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/thanos-io/objstore"
)

// Config of a Shipper.
type Config struct {
	Bucket objstore.Bucket
	Ledger *Ledger
	// Sources names the directories to ship from, anew at each scan. Not nil.
	Sources func() []Source
	// Confirm is asked once in a scan before the first block of a source is
	// shipped: whether it lives still, by what is known now. After an error its
	// blocks wait for the next scan. Nil: whatever Sources names lives.
	Confirm func(context.Context, Source) error
	// Every is the time from one scan to the next; see Every. Default 30s.
	Every time.Duration
	// Drain is how long the uploads in flight may go on once Run's context has
	// ended. Default 10s.
	Drain time.Duration
	Log   *slog.Logger
	Reg   prometheus.Registerer
	// Now is the clock of upload times. Default time.Now.
	Now func() time.Time
}

// Every is how often blocks of the given duration are looked for: a quarter of
// the duration, at most 30 seconds.
func Every(block time.Duration) time.Duration { return min(30*time.Second, block/4) }

const (
	// workers is how many tenants are shipped at a time: small blocks wait for
	// the bucket's answers, not for bandwidth.
	workers = 4

	// forgetAfter is when the ledger forgets a block of a tenant that is no
	// source any more. Its directory is gone, or will not be shipped again.
	forgetAfter = 90 * 24 * time.Hour
)

// Shipper carries the finished blocks of many tenants to one bucket.
type Shipper struct {
	cfg Config
	log *slog.Logger
	m   *metrics

	mu      sync.Mutex // one Sync at a time
	tenants map[string]bool
	pending atomic.Int64
}

// New returns a Shipper that has done nothing yet.
func New(cfg Config) *Shipper {
	if cfg.Every <= 0 {
		cfg.Every = 30 * time.Second
	}
	if cfg.Drain <= 0 {
		cfg.Drain = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Ledger != nil && cfg.Ledger.dropped > 0 {
		cfg.Log.Warn("ledger had unreadable lines; their blocks are verified again", "lines", cfg.Ledger.dropped)
	}
	return &Shipper{cfg: cfg, log: cfg.Log, m: newMetrics(cfg.Reg, cfg.Ledger), tenants: map[string]bool{}}
}

// Run scans and ships until ctx ends. Then no further block is begun, and those
// in flight have Config.Drain to arrive; what does not is resumed after a start.
func (s *Shipper) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		if n, err := s.Sync(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("shipping failed in part; it goes on at the next scan", "uploaded", n, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sync ships what there is to ship and returns the number of blocks uploaded.
// Its error joins all that failed; one failing block stops no other.
func (s *Shipper) Sync(ctx context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	began := time.Now()
	sources := s.cfg.Sources()
	results := make([]result, len(sources))
	var held error // why the first of the sources that wait does
	waiting := 0

	work, done := withGrace(ctx, s.cfg.Drain)
	defer done()
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(workers, len(sources)) {
		wg.Go(func() {
			for i := range next {
				results[i] = s.ship(ctx, work, sources[i])
			}
		})
	}
	for i := range sources {
		next <- i
	}
	close(next)
	wg.Wait()

	uploaded, pending := 0, 0
	var errs []error
	for _, r := range results {
		uploaded += r.uploaded
		pending += r.pending
		errs = append(errs, r.err)
		if r.held != nil {
			held = cmp.Or(held, r.held)
			waiting++
		}
	}
	if held != nil {
		errs = append(errs, fmt.Errorf("%d tenants' blocks wait: %w", waiting, held))
	}
	errs = append(errs, s.tidy(sources, results), ctx.Err())
	s.m.pending.Set(float64(pending))
	s.pending.Store(int64(pending))
	s.m.duration.Observe(time.Since(began).Seconds())
	err := errors.Join(errs...)
	if err == nil {
		s.m.lastSync.SetToCurrentTime()
	}
	return uploaded, err
}

// Pending is how many blocks were not in the bucket after the last scan.
func (s *Shipper) Pending() int { return int(s.pending.Load()) }

// result is what a scan of one source came to.
type result struct {
	uploaded, pending int
	present           map[ulid.ULID]bool // nil: the directory could not be read
	err               error
	held              error // by Config.Confirm
}

// ship ships one source: begins blocks until ctx ends, ends them under work.
func (s *Shipper) ship(ctx, work context.Context, src Source) (r result) {
	if ctx.Err() != nil {
		return r
	}
	s.m.syncs.WithLabelValues(src.Tenant).Inc()
	blocks, present, err := scan(src.Dir, func(id ulid.ULID) bool {
		return s.cfg.Ledger.Safe(src.Tenant, src.Incarnation, id)
	})
	r.present = present
	var errs []error
	if err != nil {
		s.m.corrupted.WithLabelValues(src.Tenant).Inc()
		errs = append(errs, err)
	}
	confirmed := false
	for _, b := range blocks {
		if b.meta.Compaction.Level > 1 {
			// The Compactor makes the higher levels, of what was shipped. The
			// ledger does not call such a block safe.
			s.m.skipped.WithLabelValues("compacted").Inc()
			continue
		}
		if !confirmed && r.held == nil {
			r.held = s.confirm(ctx, src)
			confirmed = r.held == nil
		}
		if ctx.Err() != nil || !confirmed {
			r.pending++
			continue
		}
		uploaded, err := s.carry(work, src, b)
		if uploaded {
			r.uploaded++
		}
		if err != nil {
			s.m.failures.WithLabelValues(src.Tenant).Inc()
			errs = append(errs, fmt.Errorf("ship block %s: %w", b.meta.ULID, err))
			r.pending++
		}
	}
	if err := errors.Join(errs...); err != nil {
		s.m.syncFailures.WithLabelValues(src.Tenant).Inc()
		r.err = fmt.Errorf("tenant %s: %w", src.Tenant, err)
	}
	return r
}

func (s *Shipper) confirm(ctx context.Context, src Source) error {
	if s.cfg.Confirm == nil {
		return nil
	}
	if err := s.cfg.Confirm(ctx, src); err != nil {
		return fmt.Errorf("%s.%d: %w", src.Tenant, src.Incarnation, err)
	}
	return nil
}

// carry takes one block through to safe.
func (s *Shipper) carry(ctx context.Context, src Source, b block) (uploaded bool, err error) {
	now := s.cfg.Now()
	if b.meta.Stats.NumSamples == 0 {
		s.m.skipped.WithLabelValues("empty").Inc()
		return false, s.record(src, b, time.Time{}) // nothing in it that could be lost
	}
	want, err := metaOf(b.dir, b.meta, src.Labels, now)
	if err != nil {
		return false, err
	}
	// An error here is not "no": the block waits for the next scan.
	exists, err := s.cfg.Bucket.Exists(ctx, path.Join(b.meta.ULID.String(), metaName))
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", metaName, err)
	}
	if !exists {
		n, err := upload(ctx, s.cfg.Bucket, b.dir, want)
		if err != nil {
			return false, err
		}
		uploaded = true
		s.m.uploads.WithLabelValues(src.Tenant).Inc()
		s.m.bytes.Add(float64(n))
	}
	// A crash from here to the end of record: the bucket has the block, the
	// ledger does not; the next scan comes here again without uploading.
	got, err := verify(ctx, s.cfg.Bucket, want)
	if err != nil {
		return uploaded, err
	}
	if err := s.record(src, b, got.Thanos.UploadTime); err != nil {
		return uploaded, err
	}
	// A crash after it: the block is safe, and is not looked at again.
	if !uploaded {
		s.m.found.Inc()
	}
	s.log.Info("block is in the bucket", "tenant", src.Tenant, "block", b.meta.ULID.String(), "uploaded", uploaded,
		"samples", b.meta.Stats.NumSamples, "mint", b.meta.MinTime, "maxt", b.meta.MaxTime)
	return uploaded, nil
}

func (s *Shipper) record(src Source, b block, uploaded time.Time) error {
	return s.cfg.Ledger.Record(Entry{
		Tenant: src.Tenant, Incarnation: src.Incarnation, Block: b.meta.ULID,
		Uploaded: uploaded, Verified: s.cfg.Now().UTC(),
	})
}

// tidy makes the ledger and the metrics forget blocks and tenants that are gone.
func (s *Shipper) tidy(sources []Source, results []result) error {
	type key struct {
		tenant      string
		incarnation uint64
	}
	scanned := make(map[key]map[ulid.ULID]bool, len(sources))
	tenants := make(map[string]bool, len(sources))
	for i, src := range sources {
		scanned[key{src.Tenant, src.Incarnation}] = results[i].present
		tenants[src.Tenant] = true
	}
	for tenant := range s.tenants {
		if !tenants[tenant] {
			s.m.forget(tenant)
		}
	}
	s.tenants = tenants
	old := s.cfg.Now().Add(-forgetAfter)
	return s.cfg.Ledger.Forget(func(e Entry) bool {
		present, isSource := scanned[key{e.Tenant, e.Incarnation}]
		if !isSource {
			return e.Verified.Before(old)
		}
		return present != nil && !present[e.Block]
	})
}

// withGrace returns a context that ends d after ctx does, or when done is called.
func withGrace(ctx context.Context, d time.Duration) (work context.Context, done func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-work.Done():
		}
	})
	return work, func() { stop(); cancel() }
}

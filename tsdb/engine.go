package tsdb

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"
)

// An engine is one opening of a tenant's Prometheus TSDB.
type engine struct {
	key     Key
	dir     string
	db      *promtsdb.DB
	cfg     *Config
	news    *engineNews
	opening uint64 // random; references and epochs of another opening mean nothing in this one

	settings atomic.Pointer[Settings]
	census   *census // of the head's series

	// writing is held by whoever appends: one at a time, because an appender sees
	// committed samples only, and two that race on a series lose one of the
	// samples in silence. A channel, so that a waiting caller can give up.
	writing  chan struct{}
	windowed atomic.Bool   // the out-of-order window is open; changed under writing
	window   int64         // how wide, in ms, by the settings that the TSDB was last told; under writing
	cutLate  chan struct{} // closed when the out-of-order cut that runs now ends; nil: none; under writing
	refs     refTable      // under writing
	// exemplars is the ring of them; under writing.
	exemplars exemplarRing
	catalog   *catalog // what the tenant's metric families are
	torn      bool     // a write to a log failed: nothing more is appended to it; under writing
	born      int      // series that the last share brought; under writing

	readers turnstile // shut while series are let go

	cutting  sync.Mutex
	cutRetry time.Time // not before, after a failure; under cutting
	boundary int64     // the newest window whose time to be cut had come at the last look; under cutting

	syncing  sync.Mutex
	synced   map[string]int // newest segment synced, by directory; under syncing
	unsynced atomic.Bool    // written to since the last sync
	unmapped atomic.Bool    // written to since full chunks were last mapped
}

// blockSegment is the size of a block's chunk files, in bytes. The TSDB allocates
// one in full before it writes a block; with its default of 512 MiB a disk that
// fills could not be cut any more.
const blockSegment = 64 << 20

const never = 100 * 365 * 24 * time.Hour

// engineOptions are Prometheus' TSDB sized for many tenants on one node, and
// stripped of everything it would do by itself: this room cuts, retains and maps
// on its own clock.
func engineOptions(cfg *Config) *promtsdb.Options {
	o := promtsdb.DefaultOptions()
	o.StripeSize = 512                     // 0.36 MiB an empty tenant instead of 4.2
	o.HeadChunksWriteBufferSize = 64 << 10 // allocated at the first full chunk; 4 MiB by default
	o.HeadChunksWriteQueueSize = 0
	o.WALCompression = compression.Snappy
	o.WALReplayConcurrency = 1 // per tenant, and several tenants are opened at once
	o.IsolationDisabled = true // chunk queriers ignore it, and appends pay for it
	o.NoLockfile = true        // the data directory has one lock
	o.MinBlockDuration = cfg.BlockDuration.Milliseconds()
	o.MaxBlockDuration = o.MinBlockDuration
	o.RetentionDuration = 0
	o.EnableOverlappingCompaction = false // merged blocks would race with the shipper
	o.MaxBlockChunkSegmentSize = blockSegment
	o.EnableExemplarStorage = true         // in a ring that grows, see exemplarRing
	o.FloatChunkEncoding = chunkenc.EncXOR // the only float encoding that Thanos reads
	// The interval also maps full chunks to disk, in a goroutine where a full disk
	// is a panic. Engines are mapped by our own loop, which looks at the disk first.
	o.BlockReloadInterval = never
	return o
}

// openEngine opens, or creates, the TSDB in dir, replaying its logs.
func openEngine(cfg *Config, dir string, s Settings) (*engine, error) {
	e := &engine{
		key: s.Key, dir: dir, cfg: cfg, news: &engineNews{},
		opening: randomOpening(), writing: make(chan struct{}, 1),
		boundary: math.MinInt64, synced: map[string]int{}, refs: newRefTable(),
	}
	e.settings.Store(&s)
	e.unsynced.Store(true)
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	logged, err := holdsOutOfOrder(dir)
	if err != nil {
		return nil, err
	}
	e.exemplars = readRing(dir, s, cfg.Log)
	if e.catalog, err = openCatalog(dir, cfg.Now, cfg.Log.With("tenant", s.Tenant)); err != nil {
		return nil, err
	}
	if err := e.openDB(logged); err != nil {
		return nil, err
	}
	// Out-of-order chunks without their log: the window cannot be opened later,
	// it would get no log, so it is opened now.
	if !logged && e.db.Head().MinOOOTime() != math.MaxInt64 {
		if err := e.db.Close(); err != nil {
			return nil, fmt.Errorf("close to open the window: %w", err)
		}
		if err := e.openDB(true); err != nil {
			return nil, err
		}
	}
	if err := e.exemplars.fit(e); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *engine) openDB(windowed bool) error {
	o := engineOptions(e.cfg)
	o.BlocksToDelete = e.blocksToDelete
	o.MaxExemplars = e.exemplars.size
	e.census = newCensus(e.cfg, e.key.Tenant) // a second opening counts anew
	o.SeriesLifecycleCallback = e.census
	if windowed {
		e.window = e.settings.Load().window()
		o.OutOfOrderTimeWindow = e.window
	}
	log := slog.New(listener{next: e.cfg.Log.Handler(), news: e.news}).With("tenant", e.key.Tenant)
	db, err := promtsdb.Open(e.dir, log, nil, o, nil)
	if err != nil {
		return fmt.Errorf("open engine: %w", err)
	}
	db.DisableCompactions()
	e.db = db
	e.windowed.Store(windowed)
	return nil
}

// holdsOutOfOrder reports whether dir has a write-behind log with records.
func holdsOutOfOrder(dir string) (bool, error) {
	entries, err := os.ReadDir(filepath.Join(dir, wblName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a write-behind log: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return false, fmt.Errorf("look at the write-behind log: %w", err)
		}
		if info.IsDir() || info.Size() > 0 {
			return true, nil
		}
	}
	return false, nil
}

// close flushes and closes. Nobody may use the engine any more, queriers
// included: what they read is unmapped.
func (e *engine) close() (err error) {
	// Closing maps full chunks, which panics when the disk is full. Nothing is
	// lost by it: the samples are in the log.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("close engine: %v", p)
		}
	}()
	if err := e.db.Close(); err != nil {
		return fmt.Errorf("close engine: %w", err)
	}
	return nil
}

// repairedFrom is the time from which a repaired log may lack samples: what
// came after the bad record is gone, and the record's own time is not known.
func (e *engine) repairedFrom(lastSync int64) int64 {
	from := max(0, e.blocksEnd())
	if head := e.db.Head().MaxTime(); head != math.MinInt64 {
		from = max(from, head)
	}
	return min(from, lastSync)
}

func randomOpening() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

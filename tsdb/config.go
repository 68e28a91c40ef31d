package tsdb

import (
	"log/slog"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// A Ledger knows what has left this disk.
type Ledger interface {
	// Safe reports whether the bucket is known to hold the block's samples.
	Safe(tenant string, incarnation uint64, block ulid.ULID) bool
}

// Config of a DB. Only Dir is required.
type Config struct {
	// Dir holds a directory per key, and this room's own state files.
	Dir string
	// BlockDuration is the width of a block's window. Default 2h.
	BlockDuration time.Duration
	// Ledger decides, where Ship is set, which blocks retention may delete.
	Ledger Ledger
	// Ship says that blocks go to a bucket: nothing is deleted before the Ledger
	// calls it safe. Without it retention alone deletes.
	Ship bool
	// SyncEvery is how often the logs written to since are synced. Default 10s.
	SyncEvery time.Duration
	// MinFree is the free space, in bytes, below which appends fail. Prometheus'
	// TSDB panics when it cannot write a full chunk, so the last of the disk is
	// kept for chunks, blocks and checkpoints. Default 256 MiB; negative: none.
	MinFree int64
	// OpenConcurrency is how many tenants are opened at once. Default 2.
	OpenConcurrency int
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Quota bounds a tenant's series. It is asked when a share brings a series that
	// would be new, and must be quick; nil: nothing does.
	Quota func(Key) Quota
	// Place makes the function that gives the ring key of a tenant's series, whose
	// lowest bits are its slot, by the xxhash64 of its canonical labels. Default:
	// that hash itself.
	Place func(tenant string) func(hash uint64) uint64
	// BootID tells one start of the machine from the next. Default: the kernel's.
	BootID string
	Log    *slog.Logger
	Reg    prometheus.Registerer
}

// Settings of one tenant, as the cluster has them.
type Settings struct {
	Key
	// Retention is how long a block stays on this disk, counted from its end;
	// with a bucket, at least until it is safe there. Zero keeps it for ever.
	Retention time.Duration
	// OutOfOrderWindow and FutureWindow are what the door lets through, relative
	// to now. The TSDB takes both, and ten minutes more: age is judged once, by
	// the coordinator, and no replica refuses for it.
	OutOfOrderWindow time.Duration
	FutureWindow     time.Duration
	// Exemplars is how many of them are kept here, the newest; 0: a million.
	Exemplars int64
}

const (
	minOutOfOrderWindow = 10 * time.Minute
	windowSlack         = 10 * time.Minute // clocks, queues and retries between the door and here
)

// window is how far behind its newest sample a tenant's TSDB takes samples, in
// milliseconds.
func (s Settings) window() int64 {
	return (max(s.OutOfOrderWindow, minOutOfOrderWindow) + max(s.FutureWindow, 0) + windowSlack).Milliseconds()
}

func (c Config) withDefaults() Config {
	if c.BlockDuration <= 0 {
		c.BlockDuration = 2 * time.Hour
	}
	if c.SyncEvery <= 0 {
		c.SyncEvery = 10 * time.Second
	}
	if c.MinFree == 0 {
		c.MinFree = 256 << 20
	}
	if c.OpenConcurrency <= 0 {
		c.OpenConcurrency = 2
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.BootID == "" {
		c.BootID = kernelBootID()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

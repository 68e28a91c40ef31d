package ingest

import (
	"cmp"
	"runtime"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Config of an Ingester. The zero value works.
type Config struct {
	// MaxRequestBytes bounds a body as it came. Default 32 MiB.
	MaxRequestBytes int64
	// MaxDecodedBytes bounds a body after decompression. Default 128 MiB.
	MaxDecodedBytes int64
	// InflightBytes bounds the decoded bytes of all requests that are being
	// served, and apart from them those of shares that members have sent.
	// Default 256 MiB; never less than MaxDecodedBytes.
	InflightBytes int64
	// AdmissionWait is how long a request waits for room among these. Default 1s.
	AdmissionWait time.Duration
	// BodyTimeout is how long a body may take to come. Default 1m.
	BodyTimeout time.Duration
	// MemoryBudget is what this process may use; 0: nothing is refused for want
	// of memory. Of the bounds in bytes, those of one request are at most a
	// sixteenth of it, InflightBytes an eighth, PeerBytes a 32nd, and all peers'
	// together a quarter.
	MemoryBudget int64
	// Held is how many bytes this process holds on to, after a garbage collection
	// if collect says so. Default what Go's runtime says.
	Held func(collect bool) int64
	// QuorumTimeout is how long a write waits for its quorum. Default 5s.
	QuorumTimeout time.Duration
	// PeerBytes bounds what is on its way to one peer or was missed by it, and as
	// much again what waits for that after its write was answered. Default 64 MiB.
	PeerBytes int64
	// PeerAge is how long a share is on its way, or waits, before it is given up. Default 60s.
	PeerAge time.Duration
	// SettleWait is how long this node goes on writing by the table before a
	// change of slots, so that the others have seen the new one when it is used;
	// see held. Default 150ms; negative: not at all.
	SettleWait time.Duration
	// Settled is called when a newer revision may be announced though nothing
	// else has happened; nil: nobody wants to know.
	Settled func()
	// CloseWait is how long Close waits for this node's own shares to begin; what
	// has begun is waited for without an end. Default 5s.
	CloseWait time.Duration
	// Lanes is the number of streams to each peer. Default one per core, at most 4.
	Lanes int
	// Tracer follows writes from the request to the storages; nil: none does.
	Tracer trace.Tracer
	// Now is this node's clock. Default time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	c.MaxRequestBytes = c.within(cmp.Or(c.MaxRequestBytes, 32<<20), 16)
	c.MaxDecodedBytes = c.within(cmp.Or(c.MaxDecodedBytes, 128<<20), 16)
	c.InflightBytes = max(c.within(cmp.Or(c.InflightBytes, 256<<20), 8), c.MaxDecodedBytes)
	c.AdmissionWait = cmp.Or(c.AdmissionWait, time.Second)
	c.BodyTimeout = cmp.Or(c.BodyTimeout, time.Minute)
	c.QuorumTimeout = cmp.Or(c.QuorumTimeout, 5*time.Second)
	c.PeerBytes = c.within(cmp.Or(c.PeerBytes, 64<<20), 32)
	c.PeerAge = cmp.Or(c.PeerAge, time.Minute)
	c.SettleWait = cmp.Or(c.SettleWait, 150*time.Millisecond)
	c.CloseWait = cmp.Or(c.CloseWait, 5*time.Second)
	c.Lanes = cmp.Or(c.Lanes, min(runtime.GOMAXPROCS(0), 4))
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// within is n bytes, or that part of the memory budget where it is less.
func (c Config) within(n, part int64) int64 {
	if c.MemoryBudget <= 0 {
		return n
	}
	return min(n, c.MemoryBudget/part)
}

package cluster

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Config is what a node is told by its flags; the rest is the cluster's.
type Config struct {
	// Dir is the data directory: raft/ and pki/ in it are the node's.
	Dir string
	// Name is the node's for as long as it is a member.
	Name string
	Zone string
	// Advertise is host:port of the member door, as the others reach it.
	Advertise func() string
	// Hint is where some member may be now, host:port; "" where nobody knows. It
	// helps where all addresses have changed.
	Hint string
	// HTTPAddress, WriteAddress and StoreAddress are told to people; host:port.
	// A nil one tells nothing.
	HTTPAddress, WriteAddress, StoreAddress func() string
	// StoreID was made with the data directory.
	StoreID [16]byte
	// Door is listening when Open is called; the node closes nothing of it.
	Door *door.Door
	// Local fills in what only the other rooms know. Nil: a node without data,
	// which announces what it has applied.
	Local Local
	// Clock is what this node takes for the time when it compares its clock with
	// the others'. Default time.Now.
	Clock   func() time.Time
	Log     *slog.Logger
	Reg     prometheus.Registerer
	Version string
	// Shelf keeps snapshots outside of this machine; nil: they are kept in
	// Dir/snapshots only.
	Shelf Shelf
	// Ballast is held back on Raft's disk, bytes. Default 64 MiB; negative: none.
	Ballast int64
	Timing  Timing
}

// Local is what the node tells of its own rooms.
type Local interface {
	// Report fills announced, series, samples, disk and readiness. It must
	// not block.
	Report(r *clusterpb.Report)
}

// Timing is how long things take and how often they are done. The zero value of
// each field is the production value.
type Timing struct {
	// Heartbeat and Election are Raft's: 2s, since heartbeats wait in line
	// behind the disk here; Lease is the leader's: 1s.
	Heartbeat, Election, Lease time.Duration
	// SnapshotInterval (30s), SnapshotThreshold (1024 entries) and TrailingLogs
	// (2048 entries) keep the log small.
	SnapshotInterval  time.Duration
	SnapshotThreshold uint64
	TrailingLogs      uint64
	// Report is how often a node tells the leader how it is. 1s.
	Report time.Duration
	// Round is how often the leader looks for work without being told of any. 1s.
	Round time.Duration
	// Fresh is how long a node counts as live after it was heard. 3s.
	Fresh time.Duration
	// Wait is how long a change waits for the live nodes to apply it. 5s.
	Wait time.Duration
	// Stable is how long a node was heard without a break before it gets a vote. 10s.
	Stable time.Duration
	// Spare is how long a voter is silent before another gets a vote in its
	// place. 1m.
	Spare time.Duration
	// Expire is how often the leader forgets what is over. 1h.
	Expire time.Duration
	// Batch is how often the leader moves slots of a ring, as many at a time as
	// the receivers' budgets of new series allow: what a batch brings a receiver
	// is made at once, and should be little. 500ms.
	Batch time.Duration
	// Check is how often the leader has all nodes compare their states. 5m.
	Check time.Duration
	// Upgrade is how long all members have spoken a newer cluster version before
	// the cluster does. 1m.
	Upgrade time.Duration
	// Patience is how long a leader may refuse every change for a transfer in
	// progress, and Raft's main loop be silent, before something is done or said
	// about it. 10s.
	Patience time.Duration
	// Certificate is how long a member's certificate lasts. 30 days.
	Certificate time.Duration
	// Late is how long after its end a member's certificate still gets it
	// another one: a node that was away for so long comes back by itself. 30 days.
	Late time.Duration
	// Hold is how long there was no leader before a change or a read that needs
	// one is refused at once, where too few voters are heard to elect one. 10s.
	Hold time.Duration
	// Ask bounds a change or a read that came without a deadline. 15s.
	Ask time.Duration
}

func (t Timing) withDefaults() Timing {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Heartbeat, 2 * time.Second},
		{&t.Election, 2 * time.Second},
		{&t.Lease, time.Second},
		{&t.SnapshotInterval, 30 * time.Second},
		{&t.Report, time.Second},
		{&t.Round, time.Second},
		{&t.Fresh, 3 * time.Second},
		{&t.Wait, 5 * time.Second},
		{&t.Stable, 10 * time.Second},
		{&t.Spare, time.Minute},
		{&t.Expire, time.Hour},
		{&t.Batch, 500 * time.Millisecond},
		{&t.Check, 5 * time.Minute},
		{&t.Upgrade, time.Minute},
		{&t.Patience, 10 * time.Second},
		{&t.Certificate, 30 * 24 * time.Hour},
		{&t.Late, 30 * 24 * time.Hour},
		{&t.Hold, 10 * time.Second},
		{&t.Ask, 15 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if t.SnapshotThreshold == 0 {
		t.SnapshotThreshold = 1024
	}
	if t.TrailingLogs == 0 {
		t.TrailingLogs = 2048
	}
	return t
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Reg == nil {
		c.Reg = prometheus.NewRegistry()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Ballast == 0 {
		c.Ballast = ballastBytes
	}
	c.Timing = c.Timing.withDefaults()
	return c
}

// called is what f says, or nothing where there is no f.
func called(f func() string) string {
	if f == nil {
		return ""
	}
	return f()
}

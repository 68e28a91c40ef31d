package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// A full disk must not meet Raft unprepared: it panics where it cannot keep its
// term, and elections churn where it cannot keep its log.
const (
	// ballastBytes is held back in a file of its own, and given up when the disk
	// is full: term, vote and the log's end still find room then.
	ballastBytes = 64 << 20
	// A leader with less than tightBytes hands over to a voter with more; a
	// ballast that was given up is made again with more.
	tightBytes = 256 << 20
	// With less than fullBytes a leader refuses changes: what others write may
	// still go on for a while.
	fullBytes = 64 << 20
	// With less than lowBytes the ballast is given up, and the node is not ready.
	lowBytes = 16 << 20
	// handOverEvery is how often a leader whose disk is tight tries again.
	handOverEvery = 30 * time.Second
)

// disk is the room that is left for Raft's directory.
type disk struct {
	dir  string
	size int64 // of the ballast; 0: none
	// The marks, bytes.
	tight, full, low int64
	// free is how many bytes anybody may still write.
	free func(dir string) (int64, error)

	mu sync.Mutex
	// flight is when a tight leader last tried to hand over.
	flight spell
}

func newDisk(dir string, ballast int64) *disk {
	return &disk{dir: dir, size: max(ballast, 0), tight: tightBytes, full: fullBytes, low: lowBytes, free: freeBytes}
}

func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // types differ between systems
}

func (d *disk) path() string { return filepath.Join(d.dir, "ballast") }

// Left is the room that is left, as if the ballast were in its place; a disk
// that cannot be asked has enough.
func (d *disk) Left() int64 {
	free, err := d.free(d.dir)
	if err != nil {
		return d.tight
	}
	return free - d.missing()
}

// missing is the part of the ballast that is not on the disk.
func (d *disk) missing() int64 {
	st, err := os.Stat(d.path())
	if err != nil {
		return d.size
	}
	return max(d.size-st.Size(), 0)
}

// Full says whether changes have to wait for room.
func (d *disk) Full() bool { return d.Left() < d.full }

// Low says whether there is hardly room left for what must be kept.
func (d *disk) Low() bool { return d.Left() < d.low }

// shortage says how much is left and how much is wanted.
func (d *disk) shortage() string {
	return fmt.Sprintf("the disk of %s is nearly full: %s left, %s wanted", d.dir, mebibytes(d.Left()), mebibytes(d.full))
}

func mebibytes(n int64) string {
	return fmt.Sprintf("%.1f MiB", float64(max(n, 0))/(1<<20))
}

// Tend gives the ballast up where the disk is full, and takes it back where
// there is room again.
func (d *disk) Tend() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.Left()
	switch missing := d.missing(); {
	case d.size == 0:
		return nil
	case missing == 0 && left < d.low:
		if err := os.Remove(d.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("give the ballast up: %w", err)
		}
		return fmt.Errorf("%s: the ballast of %s is given up; make room there", d.shortage(), mebibytes(d.size))
	case missing > 0 && left >= d.tight:
		return d.take()
	}
	return nil
}

// take makes the ballast, of real blocks.
func (d *disk) take() error {
	f, err := os.OpenFile(d.path(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make the ballast: %w", err)
	}
	err = allocate(f, d.size)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("make the ballast: %w", err), os.Remove(d.path()))
	}
	return nil
}

// noRoom refuses a change on a leader whose disk is full.
func (n *Node) noRoom() *clusterpb.Refusal {
	if !n.disk.Full() {
		return nil
	}
	return full("", "%s leads, and %s; make room there, or hand over to a node with room: muster cluster transfer-leader", n.cfg.Name, n.disk.shortage())
}

// keepRoom tends the ballast, on every node.
func (n *Node) keepRoom(ctx context.Context) {
	tick := time.NewTicker(n.cfg.Timing.Report)
	defer tick.Stop()
	for {
		if err := n.disk.Tend(); err != nil {
			n.log.Error("raft's disk", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// fleeFullDisk hands leadership over while it still can.
func (n *Node) fleeFullDisk(ctx context.Context, e *engine) error {
	if n.disk.Left() >= n.disk.tight || e.raft.State() != raft.Leader || !n.disk.flight.MayTry(time.Now()) {
		return nil
	}
	n.log.Warn("this node leads and its disk is nearly full: it hands over", "left", mebibytes(n.disk.Left()))
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Wait)
	defer cancel()
	return n.transfer(ctx, handOver{room: n.disk.tight})
}

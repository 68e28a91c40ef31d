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
	// A leader with less than tightBytes hands over to a voter with more.
	tightBytes = 256 << 20
	// With less than fullBytes a leader refuses changes.
	fullBytes = 64 << 20
	// handOverEvery is how often a leader whose disk is tight tries again.
	handOverEvery = 30 * time.Second
)

// disk is the room that is left for Raft's directory.
type disk struct {
	dir  string
	size int64 // of the ballast; 0: none
	// free is how many bytes anybody may still write.
	free func(dir string) (int64, error)

	mu    sync.Mutex
	tried time.Time // when a tight leader last tried to hand over
}

func newDisk(dir string, ballast int64) *disk {
	return &disk{dir: dir, size: max(ballast, 0), free: freeBytes}
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
		return tightBytes
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
func (d *disk) Full() bool { return d.Left() < fullBytes }

// Tend gives the ballast up where the disk is full, and takes it back where
// there is room again.
func (d *disk) Tend() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.Left()
	switch missing := d.missing(); {
	case d.size == 0:
		return nil
	case missing == 0 && left < fullBytes:
		if err := os.Remove(d.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("give the ballast up: %w", err)
		}
		return fmt.Errorf("the disk of %s is nearly full, %d MiB left: the ballast is given up", d.dir, left>>20)
	case missing > 0 && left >= tightBytes:
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

// MayTry says whether a tight leader should try to hand over now.
func (d *disk) MayTry(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.tried) < handOverEvery {
		return false
	}
	d.tried = now
	return true
}

// noRoom refuses a change on a leader whose disk is full.
func (n *Node) noRoom() *clusterpb.Refusal {
	if !n.disk.Full() {
		return nil
	}
	return full("", "the disk of %s, which leads, is nearly full: %d MiB left for the control state, want %d; make room there", n.cfg.Name, max(n.disk.Left(), 0)>>20, int64(fullBytes)>>20)
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
	if n.disk.Left() >= tightBytes || e.raft.State() != raft.Leader || !n.disk.MayTry(time.Now()) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Wait)
	defer cancel()
	return n.transfer(ctx, handOver{room: tightBytes})
}

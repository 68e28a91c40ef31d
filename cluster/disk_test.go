package cluster

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func TestTheBallastIsGivenUpOnAFullDiskAndTakenBack(t *testing.T) {
	room := int64(1 << 30)
	d := newDisk(t.TempDir(), 1<<20)
	d.free = func(string) (int64, error) { return room - (d.size - d.missing()), nil }
	has := func() bool { _, err := os.Stat(d.path()); return err == nil }
	if err := d.Tend(); err != nil || !has() || d.Full() {
		t.Fatalf("with room: %v, ballast %t, full %t", err, has(), d.Full())
	}
	if st, err := os.Stat(d.path()); err != nil || st.Size() != d.size || st.Mode().Perm() != 0o600 {
		t.Errorf("ballast %v, %v", st, err)
	}
	room = 1<<20 + lowBytes - 1
	if !d.Full() {
		t.Error("the disk is not full")
	}
	if err := d.Tend(); err == nil || has() || !d.Full() {
		t.Errorf("full: %v, ballast %t, full %t", err, has(), d.Full())
	}
	room = 1<<20 + tightBytes - 1
	if err := d.Tend(); err != nil || has() {
		t.Errorf("a little room: %v, ballast %t", err, has())
	}
	room = 1<<20 + tightBytes
	if err := d.Tend(); err != nil || !has() {
		t.Errorf("room again: %v, ballast %t", err, has())
	}
	d.free = func(string) (int64, error) { return 0, errors.New("no answer") }
	if d.Full() {
		t.Error("a disk that cannot be asked is full")
	}
}

func TestALeaderWhoseDiskIsFullHandsOver(t *testing.T) {
	b := newBed(t)
	var left [3]atomic.Int64
	for i := range left {
		left[i].Store(1 << 30)
	}
	b.adjust = func(n *Node, i int) {
		n.disk.free = func(string) (int64, error) { return left[i].Load(), nil }
	}
	b.cluster(3, InitRequest{})
	b.voters(3)
	old := b.leader()
	at := 0
	for i, n := range b.nodes {
		if n == old {
			at = i
		}
	}
	left[at].Store(tightBytes - 1)
	b.eventually("another leads", func() string {
		if l := b.leader(); l != old {
			return ""
		}
		return old.name + " leads still"
	})
	old.propose(putTenant("goes-on"))

	// Nobody has room: changes are refused, and nothing breaks.
	for i := range left {
		left[i].Store(fullBytes - 1)
	}
	b.eventually("changes are refused", func() string {
		answer, err := old.node.Propose(old.ctx(), putTenant("too-much"))
		if err != nil {
			return err.Error()
		}
		if answer.GetRefusal().GetKind() != clusterpb.Refusal_LIMIT {
			return "it was made"
		}
		return ""
	})
	for i := range left {
		left[i].Store(1 << 30)
	}
	old.propose(putTenant("room-again"))
	if s := new(spell); !s.MayTry(time.Now()) || s.MayTry(time.Now()) {
		t.Error("handing over is tried once in a while")
	}
}

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// smallDisk mounts a file system of that size for a directory. Only root can.
func smallDisk(t *testing.T, dir string, size int64) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		t.Skipf("a small disk wants the rights to mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
}

// fillDisk writes into the directory until less than so many bytes are left.
func fillDisk(t *testing.T, dir string, left int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); ; {
		free, err := freeBytes(dir)
		if err != nil {
			t.Fatal(err)
		}
		if free < max(left, 4096) {
			return
		}
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

const mib = 1 << 20

// smallMarks are marks for a disk of 40 MiB.
func smallMarks(n *Node) {
	n.disk.size, n.disk.tight, n.disk.full, n.disk.low = 2*mib, 8*mib, 4*mib, mib
}

func TestAFullDiskLosesNothing(t *testing.T) {
	b := newBed(t)
	dir := filepath.Join(t.TempDir(), "small")
	smallDisk(t, dir, 40*mib)
	b.adjust = func(n *Node, _ int) { smallMarks(n) }
	// The only node: there is nobody to hand over to.
	n := &bedNode{bed: b, name: "n1", dir: filepath.Join(dir, "n1"), timing: b.timing, address: fmt.Sprintf("127.41.%d.1:0", b.net), store: storeID(7)}
	b.nodes = append(b.nodes, n)
	n.start()
	n.init(InitRequest{Slots: 64})
	ballast := func() bool { st, err := os.Stat(n.node.disk.path()); return err == nil && st.Size() == 2*mib }
	b.eventually("the ballast is made", func() string {
		if ballast() {
			return ""
		}
		return "there is none"
	})
	var made []string
	try := func(id string) *clusterpb.Refusal {
		answer, err := n.node.Propose(n.ctx(), putTenant(id))
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if answer.GetRefusal() == nil {
			made = append(made, id)
		}
		return answer.GetRefusal()
	}
	try("before")

	// Below the mark changes are refused, with names and numbers.
	fillDisk(t, dir, 3*mib)
	if r := try("refused"); r == nil || !strings.Contains(r.GetMessage(), "n1 leads") || !strings.Contains(r.GetMessage(), "4.0 MiB wanted") {
		t.Errorf("on a nearly full disk: %v", r)
	}
	if !ballast() || len(n.node.Ailments()) != 0 {
		t.Errorf("the ballast is given up too early: %v", n.node.Ailments())
	}
	// Full: the ballast goes, which Raft may write into.
	fillDisk(t, dir, 0)
	b.eventually("the ballast is given up", func() string {
		if !ballast() && len(n.node.Ailments()) == 1 {
			return ""
		}
		return fmt.Sprint(n.node.Ailments())
	})
	if try("refused") == nil {
		t.Error("a change is made on a full disk")
	}
	n.restart() // terms and votes are written at a start
	b.leader()
	// Somebody eats up the ballast's room, too: entries cannot be stored then.
	fillDisk(t, dir, 0)
	e := n.node.engine.Load()
	text, err := EncodeCommand(putTenant("in-vain-" + strings.Repeat("x", 60)))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := e.raft.Apply(slices.Concat(text, make([]byte, mib)), time.Second).Error(); err != nil {
			break // it could not be kept
		}
	}
	n.restart()
	for _, id := range made {
		if n.node.State().Tenant(id) == nil {
			t.Errorf("%s is lost", id)
		}
	}

	// Room again: it goes on by itself.
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	b.eventually("changes are made again, and the ballast too", func() string {
		if r := try("after"); r != nil {
			return r.GetMessage()
		}
		if !ballast() {
			return "no ballast"
		}
		return strings.Join(n.node.Ailments(), "; ")
	})
	n.restart()
	for _, id := range made {
		if n.node.State().Tenant(id) == nil {
			t.Errorf("%s is lost", id)
		}
	}
}

// TestAFullDiskOfOneNodeStopsNobody: of three voters the leader's disk fills up
// to the last byte at once; another leads, and when there is room again it is as
// before.
func TestAFullDiskOfOneNodeStopsNobody(t *testing.T) {
	b := newBed(t)
	dir := filepath.Join(t.TempDir(), "small")
	smallDisk(t, dir, 40*mib)
	b.adjust = func(n *Node, i int) {
		if i == 0 {
			smallMarks(n)
		}
	}
	n := &bedNode{bed: b, name: "n1", dir: filepath.Join(dir, "n1"), timing: b.timing, address: fmt.Sprintf("127.41.%d.1:0", b.net), store: storeID(7)}
	b.nodes = append(b.nodes, n)
	n.start()
	tokens := n.init(InitRequest{Slots: 64, JoinTokens: 2}).JoinTokens
	for i := range 2 {
		b.add(fmt.Sprintf("n%d", i+2)).join(tokens[i], n)
	}
	b.voters(3)
	b.agree()
	if e := b.leader().node.engine.Load(); b.leader() != n {
		if err := e.raft.LeadershipTransferToServer(n.node.engine.Load().local, raft.ServerAddress("n1")).Error(); err != nil {
			t.Log(err)
		}
	}
	fillDisk(t, dir, 0)
	fillDisk(t, dir, 0)
	b.eventually("another leads", func() string {
		if b.leader() != n {
			return ""
		}
		return "n1 leads"
	})
	for i := range 50 { // more than its log has room for
		b.nodes[1].propose(putTenant(fmt.Sprintf("t%d", i)))
	}
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	b.agree()
	if n.node.State().Tenant("t49") == nil {
		t.Error("it lacks what the others made meanwhile")
	}
}

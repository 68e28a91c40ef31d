package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// rawDisk is a node's raft directory with the FSM on it, driven by hand, so that a
// crash can be put between any two lines.
type rawDisk struct {
	t     *testing.T
	dir   string
	store *raftStore
	fsm   *fsm
	next  uint64
}

func openDisk(t *testing.T, dir string) *rawDisk {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	store, err := openRaftStore(dir, raftLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	st, err := store.Rebuild(versions{1, 1}, versions{1, 1}.stepper())
	if err != nil {
		t.Fatal(err)
	}
	d := &rawDisk{t: t, dir: dir, store: store, fsm: newFSM(ctx, slog.New(slog.DiscardHandler), func() {})}
	d.fsm.Begin(st, store)
	last, err := store.logs.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	d.next = last + 1
	return d
}

// log stores commands as Raft does before they are committed.
func (d *rawDisk) log(cmds ...*clusterpb.Command) []*raft.Log {
	d.t.Helper()
	var entries []*raft.Log
	for _, cmd := range cmds {
		cmd.TimeMs = 1
		text, err := EncodeCommand(cmd)
		if err != nil {
			d.t.Fatal(err)
		}
		entries = append(entries, &raft.Log{Index: d.next, Term: 1, Type: raft.LogCommand, Data: text})
		d.next++
	}
	if err := d.store.logs.StoreLogs(entries); err != nil {
		d.t.Fatal(err)
	}
	return entries
}

// snapshot does what Raft does with the FSM's snapshot at the last entry.
func (d *rawDisk) snapshot() {
	d.t.Helper()
	snap, err := d.fsm.Snapshot()
	if err != nil {
		d.t.Fatal(err)
	}
	sink, err := d.store.snaps.Create(raft.SnapshotVersionMax, d.next-1, 1, raft.Configuration{}, 0, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := snap.Persist(sink); err != nil {
		d.t.Fatal(err)
	}
}

// crashed is what the next start makes of the directory as it is now.
func (d *rawDisk) crashed() *State {
	d.t.Helper()
	store, err := openRaftStore(copyDir(d.t, d.dir), raftLogger(nil))
	if err != nil {
		d.t.Fatal(err)
	}
	defer store.Close()
	st, err := store.Rebuild(versions{1, 1}, versions{1, 1}.stepper())
	if err != nil {
		d.t.Fatal(err)
	}
	return st
}

func (d *rawDisk) wants(what string, got, want *State) {
	d.t.Helper()
	if got.Revision() != want.Revision() || got.Hash() != want.Hash() {
		d.t.Errorf("%s: the next start is at %d (%x), want %d (%x)", what, got.Revision(), got.Hash(), want.Revision(), want.Hash())
	}
}

func initCommand() *clusterpb.Command {
	return &clusterpb.Command{Change: &clusterpb.Command_Init{Init: &clusterpb.InitCluster{
		Name: "prod", Id: "00112233445566778899aabbccddeeff", Slots: 64,
		Member:  &clusterpb.Member{Name: "n1", Address: "127.0.0.1:1", KeyHash: bytes.Repeat([]byte{1}, 32)},
		StoreId: bytes.Repeat([]byte{2}, 16),
	}}}
}

func TestACrashAtEachLineLosesNothingThatWasServed(t *testing.T) {
	d := openDisk(t, t.TempDir())
	d.fsm.ApplyBatch(d.log(initCommand(), putTenant("a")))
	before := d.fsm.State()

	entries := d.log(putTenant("b"), putTenant("c"))
	d.wants("logged, not yet committed", d.crashed(), before)

	var during []*State
	d.fsm.Watch(func(c Change) {
		if c.New.Revision() > before.Revision() {
			during = append(during, d.crashed())
		}
	})
	d.fsm.ApplyBatch(entries)
	after := d.fsm.State()
	if len(during) != 2 {
		t.Fatalf("%d changes were published, want 2", len(during))
	}
	for _, st := range during {
		d.wants("recorded, while being published", st, after)
	}
	d.wants("published", d.crashed(), after)

	d.snapshot()
	d.wants("snapshot written", d.crashed(), after)
	if err := d.store.logs.DeleteRange(1, d.next-1); err != nil {
		t.Fatal(err)
	}
	d.wants("log compacted", d.crashed(), after)

	d.fsm.ApplyBatch(d.log(putTenant("d")))
	d.wants("one entry after the snapshot", d.crashed(), d.fsm.State())
	// A Barrier moves Raft's index, not the revision.
	if err := d.store.logs.StoreLog(&raft.Log{Index: d.next, Term: 1, Type: raft.LogBarrier}); err != nil {
		t.Fatal(err)
	}
	d.next++
	d.fsm.ApplyBatch(d.log(putTenant("e")))
	d.wants("entries around a barrier", d.crashed(), d.fsm.State())
}

func TestATornRecordIsTheOneBefore(t *testing.T) {
	d := openDisk(t, t.TempDir())
	d.fsm.ApplyBatch(d.log(initCommand()))
	before := d.fsm.State()
	d.fsm.ApplyBatch(d.log(putTenant("a")))
	after := d.fsm.State()
	path := filepath.Join(d.dir, "revision")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for place := range 2 {
		torn := bytes.Clone(whole)
		torn[place*recordPlace] ^= 0xff
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		switch st := d.crashed(); st.Revision() {
		case before.Revision():
			d.wants("torn", st, before)
		case after.Revision():
			d.wants("torn", st, after)
		default:
			t.Errorf("place %d torn: at %d, want %d or %d", place, st.Revision(), before.Revision(), after.Revision())
		}
	}
}

func TestNothingIsServedThatIsNotRecorded(t *testing.T) {
	d := openDisk(t, t.TempDir())
	d.fsm.ApplyBatch(d.log(initCommand()))
	before := d.fsm.State()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.fsm.ctx = ctx // the node closes, and its disk is gone
	if err := d.store.record.Close(); err != nil {
		t.Fatal(err)
	}
	for _, answer := range d.fsm.ApplyBatch(d.log(putTenant("a"))) {
		if _, failed := answer.(error); !failed {
			t.Errorf("an entry that was not recorded is answered with %v", answer)
		}
	}
	if d.fsm.State() != before || d.fsm.Applied() != before.Revision() {
		t.Errorf("served at %d, recorded %d", d.fsm.State().Revision(), before.Revision())
	}
}

func TestAReplayDoesNotGoBackwards(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	all := d.log(initCommand(), putTenant("a"))
	d.fsm.ApplyBatch(all)
	d.snapshot()
	more := d.log(putTenant("b"), putTenant("c"))
	d.fsm.ApplyBatch(more)
	served := d.fsm.State()
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}

	again := openDisk(t, dir)
	var heard []uint64
	again.fsm.Watch(func(c Change) { heard = append(heard, c.New.Revision()) })
	d.wants("restart", again.fsm.State(), served)
	// Raft restores its snapshot and hands over the log once more.
	list, err := again.store.snaps.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("snapshots %v, %v", list, err)
	}
	_, r, err := again.store.snaps.Open(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.fsm.Restore(r); err != nil {
		t.Fatal(err)
	}
	if again.fsm.State().Revision() != served.Revision() {
		t.Errorf("a restored snapshot took the state back to %d", again.fsm.State().Revision())
	}
	again.fsm.ApplyBatch(more[:1])
	again.fsm.ApplyBatch(more[1:])
	if again.fsm.replay != again.fsm.State() {
		t.Error("the replay has not met the published state")
	}
	again.fsm.ApplyBatch(again.log(putTenant("d")))
	if got, want := fmt.Sprint(heard), fmt.Sprint([]uint64{served.Revision(), served.Revision() + 1}); got != want {
		t.Errorf("watchers heard of %s, want %s", got, want)
	}
}

func TestABrokenSnapshotChangesNothing(t *testing.T) {
	d := openDisk(t, t.TempDir())
	d.fsm.ApplyBatch(d.log(initCommand(), putTenant("a")))
	before := d.fsm.State()
	var text bytes.Buffer
	if _, err := before.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 1, text.Len() / 2, text.Len() - 1} {
		if err := d.fsm.Restore(io.NopCloser(bytes.NewReader(text.Bytes()[:cut]))); err == nil {
			t.Errorf("%d of %d bytes of a snapshot are restored", cut, text.Len())
		}
		if d.fsm.State() != before || d.fsm.replay != before {
			t.Fatal("a broken snapshot has changed the state")
		}
	}
}

func TestADirectoryIsOpenedOnce(t *testing.T) {
	d := openDisk(t, t.TempDir())
	if _, err := openRaftStore(d.dir, raftLogger(nil)); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v, want ErrInUse", err)
	}
	info, err := os.Stat(d.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the raft directory is %v, %v; want 0700", info.Mode(), err)
	}
}

func TestAnInitThatWasCutOffCanBeRepeated(t *testing.T) {
	b := newBed(t)
	n := b.add("n1")
	ca, _, cmd, err := n.node.prepareInit(InitRequest{Slots: 64})
	if err != nil {
		t.Fatal(err)
	}
	saveCA := func() {
		if err := errors.Join(n.node.pki.SaveBundle(ca.Bundle()), n.node.pki.SaveCAKey(ca.Key())); err != nil {
			t.Fatal(err)
		}
	}
	form := func(f func(*engine)) {
		saveCA()
		e, err := n.node.startEngine()
		if err != nil {
			t.Fatal(err)
		}
		f(e)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		after string
		made  func()
	}{
		{"the CA", saveCA},
		{"an empty log", func() { form(func(*engine) {}) }},
		{"the bootstrap", func() {
			form(func(e *engine) {
				if err := e.bootstrap("n1"); err != nil {
					t.Fatal(err)
				}
			})
		}},
	} {
		t.Log("cut off after", c.after)
		c.made()
		n.restart()
		if n.node.State().Cluster() != nil || n.node.credentials() != nil {
			t.Fatalf("cut off after %s: there is a cluster", c.after)
		}
	}
	// Committed, but without a certificate: the next start completes it.
	form(func(e *engine) {
		if err := errors.Join(e.bootstrap("n1"), n.node.awaitLead(n.ctx(), e), n.node.commitInit(n.ctx(), e, cmd)); err != nil {
			t.Fatal(err)
		}
	})
	n.restart()
	if n.node.State().Cluster().GetId() != cmd.GetInit().GetId() || n.node.credentials() == nil {
		t.Fatal("a committed init is not completed")
	}
	if _, err := n.node.Init(n.ctx(), InitRequest{}); !errors.Is(err, ErrExists) {
		t.Errorf("init after the completion: %v, want ErrExists", err)
	}
	n.propose(putTenant("a"))
}

func TestControlStateWithoutACertificateIsRefused(t *testing.T) {
	b := newBed(t)
	n := b.add("n1")
	n.init(InitRequest{Slots: 64})
	n.stop()
	if err := os.RemoveAll(filepath.Join(n.dir, "pki")); err != nil {
		t.Fatal(err)
	}
	if err := n.tryStart(); err == nil {
		t.Error("a node without its pki folder starts")
	}
}

func TestANodeThatMissedMuchIsSentASnapshot(t *testing.T) {
	b := newBed(t)
	b.timing.SnapshotThreshold, b.timing.TrailingLogs, b.timing.SnapshotInterval = 8, 4, 50*time.Millisecond
	nodes := b.cluster(3, InitRequest{})
	b.voters(3)
	b.settled()
	late := nodes[2]
	late.stop()
	for i := range 40 {
		nodes[i%2].propose(putTenant(fmt.Sprintf("t%d", i)))
	}
	b.eventually("the log is compacted", func() string {
		if first, err := b.leader().node.engine.Load().store.logs.FirstIndex(); err != nil || first < 30 {
			return fmt.Sprintf("it begins at %d (%v)", first, err)
		}
		return ""
	})
	late.start()
	b.agree()
	for _, n := range nodes {
		n.stop()
	}
	for _, n := range nodes {
		n.start()
		if n.node.State().Tenant("t39") == nil {
			t.Errorf("%s has not its state from the snapshot and the log", n.name)
		}
	}
	b.agree()
	nodes[2].propose(putTenant("after"))
}

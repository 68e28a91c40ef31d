package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// fsm stands between Raft's log and the state that this node serves by.
//
// What a crash at each line leaves behind:
//
//	Raft commits entry 41              the log has it, the record says 40: the
//	                                   next start serves 40 and hears of 41 from
//	                                   the leader. Nobody was served by 41.
//	fsm computes the state at 41       the same
//	record.Write(41), torn             one place of the record is old and whole: 40
//	record.Write(41), done             the next start rebuilds 41 by itself. It was
//	                                   committed, so it is true, if not yet seen here.
//	state pointer and watchers at 41   whoever was served by 41 finds it again
//	snapshot at 41                     written from a recorded state only; renamed
//	                                   into place when it is whole and synced
//	log compacted below the snapshot   the snapshot covers it
//	snapshot from the leader at 90     whole on disk before Restore sees it: the next
//	                                   start serves 90, whatever the record says
//
// After a start Raft hands over once more what the state was rebuilt from: its
// newest snapshot, then the log. This replay runs beside the published state
// and takes over when it is newer; at equal revisions both must have one hash.
//
// An entry that this software is too old for halts it: that entry and all after
// it wait in the log for newer software, and no snapshot is taken over them. A
// state that differs from the majority's is replaced (see heal): until the log
// has been fetched anew, nodes that ask are told by the old one.
type fsm struct {
	// ctx ends when the node closes: only then does a record that cannot be
	// written stop holding up the log.
	ctx    context.Context
	log    *slog.Logger
	record *record
	// floor is the least revision that may be published.
	floor uint64
	// speaks are the cluster versions that this software can apply, and step
	// applies an entry of the log; an error halts.
	speaks versions
	step   stepper

	// replay is Raft's own view; only Raft's FSM goroutine touches it.
	replay *State
	// configuration is the newest committed one.
	configuration atomic.Pointer[raft.Configuration]

	published atomic.Pointer[State]
	// applied is the revision that every watcher has heard of.
	applied atomic.Uint64
	notify  func()

	// checked is what the last CheckState has found here.
	checked atomic.Pointer[checked]
	// halted is why nothing more is applied; doubted, why the published state is
	// about to be replaced. nil: neither.
	halted, doubted atomic.Pointer[string]

	// watching serialises publishing and registering.
	watching sync.Mutex
	watchers []func(Change)

	// moved is closed and replaced when applied moves.
	moving sync.Mutex
	moved  chan struct{}
}

// checked is the hash of the state at the revision of a CheckState.
type checked struct{ revision, hash uint64 }

// Change is what a watcher hears: the state before and after, and what of it
// may differ.
type Change struct {
	Old, New *State
	Keys     Keys
}

// everything is what may differ after a restore.
var everything = Keys{AllTenants: true, Rings: true, Members: true, Settings: true, Tokens: true}

var (
	_ raft.BatchingFSM        = (*fsm)(nil)
	_ raft.ConfigurationStore = (*fsm)(nil)
)

func newFSM(ctx context.Context, log *slog.Logger, notify func()) *fsm {
	f := &fsm{ctx: ctx, log: log, notify: notify, replay: EmptyState(), moved: make(chan struct{}), speaks: versions{oldestVersion, newestVersion}}
	f.step = f.speaks.stepper()
	f.published.Store(EmptyState())
	return f
}

// State is the newest state that may be served by; never nil.
func (f *fsm) State() *State { return f.published.Load() }

// Applied is the newest revision that all watchers have heard of.
func (f *fsm) Applied() uint64 { return f.applied.Load() }

// Watch calls w for each change from now on, and at once for what there is.
func (f *fsm) Watch(w func(Change)) {
	f.watching.Lock()
	defer f.watching.Unlock()
	f.watchers = append(f.watchers, w)
	if st := f.State(); st.Revision() > 0 {
		w(Change{Old: EmptyState(), New: st, Keys: everything})
	}
}

// Begin publishes the state that was rebuilt from disk, before Raft runs; one
// below the floor it does not.
func (f *fsm) Begin(st *State, store *raftStore) {
	f.record, f.floor = store.record, store.floor
	f.replay = EmptyState()
	if st.Revision() == 0 || st.Revision() < f.floor {
		return
	}
	f.publish(Change{Old: f.State(), New: st, Keys: everything})
}

// BeginAnew drops what Raft's log said so far. The published state stays until
// the log, fetched anew, has reached its revision: then it is replaced, even at
// the same one.
func (f *fsm) BeginAnew(store *raftStore, why string) {
	f.record, f.floor = store.record, store.floor
	f.replay = EmptyState()
	f.checked.Store(nil)
	f.halted.Store(nil)
	f.doubted.Store(&why)
}

// Halted is why nothing more is applied; "": it is.
func (f *fsm) Halted() string { return textOf(f.halted.Load()) }

// Doubted is why the published state is about to be replaced; "": it is not.
func (f *fsm) Doubted() string { return textOf(f.doubted.Load()) }

func textOf(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// halt stops applying. Raft goes on storing the log.
func (f *fsm) halt(at uint64, err error) error {
	err = fmt.Errorf("log entry %d: %w", at, err)
	text := err.Error()
	if f.halted.Swap(&text) == nil {
		f.log.Error("nothing more is applied on this node", "revision", f.State().Revision(), "err", err)
	}
	f.notify()
	return err
}

// Apply is not called by Raft, which prefers ApplyBatch.
func (f *fsm) Apply(entry *raft.Log) any { return f.ApplyBatch([]*raft.Log{entry})[0] }

// ApplyBatch applies entries in their order, records the last revision once,
// and publishes each change.
func (f *fsm) ApplyBatch(entries []*raft.Log) []any {
	answers := make([]any, len(entries))
	changes := make([]Change, 0, len(entries))
	for i, entry := range entries {
		switch entry.Type {
		case raft.LogCommand:
			change, result, err := f.carryOut(entry)
			if err != nil {
				answers[i] = err
				continue
			}
			changes = append(changes, change)
			answers[i] = result
		case raft.LogConfiguration:
			f.StoreConfiguration(entry.Index, raft.DecodeConfiguration(entry.Data))
		}
	}
	if err := f.advance(changes); err != nil {
		for i := range answers {
			answers[i] = err
		}
	}
	return answers
}

// carryOut is the next step of the replay.
func (f *fsm) carryOut(entry *raft.Log) (Change, Result, error) {
	if why := f.Halted(); why != "" {
		return Change{}, Result{}, errors.New("halted at " + why)
	}
	next, result, err := f.step(f.replay, entry)
	if err != nil {
		return Change{}, Result{}, f.halt(entry.Index, err)
	}
	next = f.prove(next)
	if result.Check {
		f.checked.Store(&checked{next.Revision(), next.Hash()})
	}
	change := Change{f.replay, next, result.Changed}
	f.replay = next
	return change, result, nil
}

// advance publishes what is newer than the published state.
func (f *fsm) advance(changes []Change) error {
	anew, least := f.Doubted() != "", max(f.State().Revision(), f.floor)
	for len(changes) > 0 && (changes[0].New.Revision() < least || !anew && changes[0].New.Revision() == f.State().Revision()) {
		changes = changes[1:]
	}
	if len(changes) == 0 {
		return nil
	}
	if anew || changes[0].Old.Revision() != f.State().Revision() {
		changes[0] = Change{Old: f.State(), New: changes[0].New, Keys: everything}
	}
	if err := f.recordRevision(changes[len(changes)-1].New.Revision()); err != nil {
		return err
	}
	for _, c := range changes {
		f.publish(c)
	}
	if anew {
		f.doubted.Store(nil)
		f.log.Info("the control state was fetched anew", "revision", f.State().Revision())
	}
	return nil
}

// prove compares a replayed state with the published one of the same revision,
// and takes that where they are equal: then both have their memory in common.
func (f *fsm) prove(replayed *State) *State {
	st := f.State()
	switch {
	case replayed.Revision() != st.Revision(), f.Doubted() != "":
		return replayed
	case replayed.Hash() == st.Hash():
		return st
	}
	f.log.Error("the log gives another state than the one rebuilt at the start",
		"revision", st.Revision(), "rebuilt", st.Hash(), "replayed", replayed.Hash())
	return replayed
}

// recordRevision does not give up while the node lives: a node that cannot
// record stays behind, which its peers see, and serves by what it has.
func (f *fsm) recordRevision(rev uint64) error {
	const pause = time.Second
	for {
		err := f.record.Write(rev)
		if err == nil {
			return nil
		}
		f.log.Error("cannot record the revision; this node stays behind", "revision", rev, "err", err)
		select {
		case <-f.ctx.Done():
			return fmt.Errorf("closing: %w", err)
		case <-time.After(pause):
		}
	}
}

func (f *fsm) publish(c Change) {
	f.watching.Lock()
	f.published.Store(c.New)
	for _, w := range f.watchers {
		w(c)
	}
	f.applied.Store(c.New.Revision())
	f.watching.Unlock()
	f.moving.Lock()
	close(f.moved)
	f.moved = make(chan struct{})
	f.moving.Unlock()
	f.notify()
}

// WaitApplied waits until all watchers have heard of rev.
func (f *fsm) WaitApplied(ctx context.Context, rev uint64) error {
	for {
		f.moving.Lock()
		moved := f.moved
		f.moving.Unlock()
		if f.Applied() >= rev {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d, at %d: %w", rev, f.Applied(), ctx.Err())
		}
	}
}

// StoreConfiguration keeps the newest committed configuration at hand.
func (f *fsm) StoreConfiguration(_ uint64, c raft.Configuration) {
	f.configuration.Store(&c)
	f.notify()
}

// Configuration is the newest committed configuration that was heard of.
func (f *fsm) Configuration() raft.Configuration {
	if c := f.configuration.Load(); c != nil {
		return *c
	}
	return raft.Configuration{}
}

// Restore decodes a snapshot completely before it takes its place. An older
// state than the published one is only replayed from.
func (f *fsm) Restore(r io.ReadCloser) error {
	st, err := ReadState(r)
	if err != nil {
		return fmt.Errorf("restore a snapshot: %w", err)
	}
	if err := f.speaks.check(st); err != nil {
		return f.halt(st.Revision(), err)
	}
	f.halted.Store(nil)
	if err := f.advance([]Change{{Old: f.State(), New: st, Keys: everything}}); err != nil {
		return err
	}
	f.replay = f.prove(st)
	return nil
}

// Snapshot takes a pointer; the writing is Persist's. What was not applied must
// stay in the log.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if why := f.Halted(); why != "" {
		return nil, errors.New("no snapshot: halted at " + why)
	}
	return snapshotOf{f.replay}, nil
}

type snapshotOf struct{ state *State }

func (s snapshotOf) Persist(sink raft.SnapshotSink) error {
	if _, err := s.state.WriteTo(sink); err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("write a snapshot: %w", err)
	}
	return sink.Close()
}

func (snapshotOf) Release() {}

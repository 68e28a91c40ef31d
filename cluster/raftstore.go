package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// ErrInUse means that another process has the data directory open.
var ErrInUse = errors.New("data dir in use")

const (
	openTimeout       = 2 * time.Second // bbolt waits for ever by default
	retainedSnapshots = 3
)

// raftStore is what Raft keeps on disk, in a directory of its own:
//
//	raft.db    log, term and vote
//	snapshots/ the newest three
//	revision   the record of what this node has served by
//	floor      below which it publishes nothing
type raftStore struct {
	dir    string
	logs   *raftboltdb.BoltStore
	snaps  *raft.FileSnapshotStore
	record *record
	floor  uint64
}

// openRaftStore opens the directory, 0700, or makes it.
func openRaftStore(dir string, log hclog.Logger) (*raftStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the raft directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory
		return nil, fmt.Errorf("close the raft directory to others: %w", err)
	}
	s := &raftStore{dir: dir}
	var err error
	if s.logs, err = openLogs(filepath.Join(dir, "raft.db")); err != nil {
		return nil, err
	}
	if s.snaps, err = raft.NewFileSnapshotStoreWithLogger(dir, retainedSnapshots, log); err != nil {
		return nil, errors.Join(fmt.Errorf("open the raft snapshots: %w", err), s.Close())
	}
	if s.record, err = openRecord(filepath.Join(dir, "revision")); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.floor, err = readFloor(dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func openLogs(path string) (*raftboltdb.BoltStore, error) {
	logs, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout: openTimeout,
			// The free list would be written whole at each commit.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: true,
	})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w by another process", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open the raft log %s: %w", path, err)
	}
	return logs, nil
}

// Used says whether Raft has ever run here.
func (s *raftStore) Used() (bool, error) {
	used, err := raft.HasExistingState(s.logs, s.logs, s.snaps)
	if err != nil {
		return false, fmt.Errorf("look for raft state: %w", err)
	}
	return used, nil
}

// Rebuild makes the state that this node served by before it stopped: the
// newest snapshot, and the log up to the recorded revision. What lies beyond
// the record waits for a leader, who knows whether it was committed.
func (s *raftStore) Rebuild(speaks versions, step stepper) (*State, error) {
	st, index, err := s.newestSnapshot()
	if err == nil {
		err = speaks.check(st)
	}
	if err != nil {
		return nil, err
	}
	for i := index + 1; i <= s.record.Revision(); i++ {
		var entry raft.Log
		if err := s.logs.GetLog(i, &entry); err != nil {
			return nil, fmt.Errorf("rebuild the state up to revision %d: read log entry %d: %w", s.record.Revision(), i, err)
		}
		if entry.Type == raft.LogCommand {
			if st, _, err = step(st, &entry); err != nil {
				return nil, fmt.Errorf("log entry %d: %w", i, err)
			}
		}
	}
	return st, nil
}

// newestSnapshot is the newest snapshot that can be read whole, and the log
// index that it covers. Raft tries them in the same order when it starts.
func (s *raftStore) newestSnapshot() (*State, uint64, error) {
	list, err := s.snaps.List()
	if err != nil {
		return nil, 0, fmt.Errorf("list snapshots: %w", err)
	}
	var failed []error
	for _, meta := range list {
		st, err := s.readSnapshot(meta.ID)
		if err == nil {
			return st, meta.Index, nil
		}
		failed = append(failed, fmt.Errorf("read snapshot %s: %w", meta.ID, err))
	}
	if len(failed) > 0 {
		return nil, 0, errors.Join(failed...)
	}
	return EmptyState(), 0, nil
}

func (s *raftStore) readSnapshot(id string) (*State, error) {
	_, r, err := s.snaps.Open(id)
	if err != nil {
		return nil, err
	}
	st, err := ReadState(r)
	return st, errors.Join(err, r.Close())
}

// Close may be called on a store that was opened in part.
func (s *raftStore) Close() error {
	var errs []error
	if s.logs != nil {
		errs = append(errs, s.logs.Close())
	}
	if s.record != nil {
		errs = append(errs, s.record.Close())
	}
	return errors.Join(errs...)
}

// stepper applies an entry of the log; what it is too old for is an error.
type stepper func(*State, *raft.Log) (*State, Result, error)

// stepper applies entries of the versions that are spoken.
func (v versions) stepper() stepper {
	return func(st *State, entry *raft.Log) (*State, Result, error) { return applyEntry(st, entry, v) }
}

// applyEntry applies a log entry. One that cannot be read is no command: every
// node finds the same fault in it, and refuses it. One of a newer version than is
// spoken here is not: it is an error, and st stays as it is.
func applyEntry(st *State, entry *raft.Log, speaks versions) (*State, Result, error) {
	cmd, err := ParseCommand(entry.Data)
	if err != nil {
		cmd = nil
	}
	if err := speaks.understands(cmd); err != nil {
		return st, Result{}, err
	}
	next, result := st.Apply(entry.Index, cmd)
	return next, result, nil
}

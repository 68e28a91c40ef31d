package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// currentTerm is Raft's key of the newest term that it has seen.
var currentTerm = []byte("CurrentTerm")

// Last is the newest entry of the log, its index and its term; that of the newest
// snapshot, where the log is empty.
func (s *raftStore) Last() (index, term uint64, err error) {
	if index, err = s.logs.LastIndex(); err != nil {
		return 0, 0, fmt.Errorf("read the end of the log: %w", err)
	}
	list, err := s.snaps.List()
	if err != nil {
		return 0, 0, fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) > 0 && list[0].Index >= index {
		return list[0].Index, list[0].Term, nil
	}
	if index == 0 {
		return 0, 0, nil
	}
	var entry raft.Log
	if err := s.logs.GetLog(index, &entry); err != nil {
		return 0, 0, fmt.Errorf("read log entry %d: %w", index, err)
	}
	return index, entry.Term, nil
}

// Written is when a leader wrote the entry, Unix milliseconds; 0 where the log
// does not have it any more, or does not say.
func (s *raftStore) Written(index uint64) (int64, error) {
	var entry raft.Log
	switch err := s.logs.GetLog(index, &entry); {
	case errors.Is(err, raft.ErrLogNotFound), err == nil && entry.AppendedAt.IsZero():
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read log entry %d: %w", index, err)
	}
	return entry.AppendedAt.UnixMilli(), nil
}

// Everything is the state after the whole log: what the log holds beyond the
// record was committed by those who are lost, or nobody was told that it was
// not. No change that somebody was told of is given up this way.
func (s *raftStore) Everything(speaks versions, step stepper) (*State, error) {
	st, index, err := s.newestSnapshot()
	if err == nil {
		err = speaks.check(st)
	}
	if err != nil {
		return nil, err
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("read the end of the log: %w", err)
	}
	for i := index + 1; i <= last; i++ {
		var entry raft.Log
		if err := s.logs.GetLog(i, &entry); err != nil {
			return nil, fmt.Errorf("read log entry %d: %w", i, err)
		}
		if entry.Type != raft.LogCommand {
			continue
		}
		if st, _, err = step(st, &entry); err != nil {
			return nil, fmt.Errorf("log entry %d: %w", i, err)
		}
	}
	return st, nil
}

// Rewrite makes the state, whose revision becomes the index, all there is, and
// local the only server. It is done when the snapshot has its name, at once: the
// next start knows the new configuration, and what is left of the log lies below
// it.
func (s *raftStore) Rewrite(st *State, local raft.Server) error {
	term, err := s.logs.GetUint64(currentTerm)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return fmt.Errorf("read the term: %w", err)
	}
	if term == 0 {
		term = 1
		if err := s.logs.SetUint64(currentTerm, term); err != nil {
			return fmt.Errorf("write the term: %w", err)
		}
	}
	conf := raft.Configuration{Servers: []raft.Server{local}}
	_, names := raft.NewInmemTransport("")
	defer names.Close()
	sink, err := s.snaps.Create(1, st.Revision(), term, conf, st.Revision(), names)
	if err != nil {
		return fmt.Errorf("write the control state: %w", err)
	}
	if err := (snapshotOf{st}).Persist(sink); err != nil {
		return err
	}
	first, err := s.logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("read the beginning of the log: %w", err)
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read the end of the log: %w", err)
	}
	if first == 0 || last < first {
		return nil
	}
	if err := s.logs.DeleteRange(first, last); err != nil {
		return fmt.Errorf("drop the log: %w", err)
	}
	return nil
}

// copyControlState copies the raft directory, which nobody has open, beside
// itself. The ballast stays where it is.
func copyControlState(ctx context.Context, from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return fmt.Errorf("keep the control state: %w", err)
	}
	err := filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil || path == from || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		name := strings.TrimPrefix(path, from)
		switch {
		case name == "/ballast":
			return nil
		case entry.IsDir():
			return os.Mkdir(to+name, 0o700) //nolint:gosec // the directory is the node's own, 0700
		}
		return copyFile(path, to+name)
	})
	if err == nil {
		err = errors.Join(syncDir(to), syncDir(filepath.Dir(to)))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep the control state in %s: %w", to, err), os.RemoveAll(to))
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Sync(), out.Close())
}

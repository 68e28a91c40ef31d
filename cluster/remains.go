package cluster

import (
	"encoding/binary"
	"fmt"
	"path/filepath"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/raft"
)

// Remains are what a node that does not run has left in its data directory: its
// log, its snapshots, and how far it has served. Nothing is written.
type Remains struct{ store *raftStore }

// OpenRemains opens a data directory. A node that runs there holds it: the
// error wraps ErrInUse then.
func OpenRemains(dataDir string) (*Remains, error) {
	store, err := openRaftStore(filepath.Join(dataDir, "raft"), raftLogger(nil))
	if err != nil {
		return nil, err
	}
	return &Remains{store}, nil
}

// Close lets the directory go.
func (r *Remains) Close() error { return r.store.Close() }

// Revision is the newest that the node may have served by.
func (r *Remains) Revision() uint64 { return r.store.record.Revision() }

// StateAt is the state at a revision, from the newest snapshot whose state is
// not beyond it and the log.
func (r *Remains) StateAt(revision uint64) (*State, error) {
	list, err := r.store.snaps.List()
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	st, index := EmptyState(), uint64(0)
	for _, meta := range list { // the newest first
		older, err := r.store.readSnapshot(meta.ID)
		if err != nil {
			return nil, fmt.Errorf("read snapshot %s: %w", meta.ID, err)
		}
		// Its index may lie beyond: what follows a revision need not be commands.
		if older.Revision() <= revision {
			st, index = older, meta.Index
			break
		}
	}
	for i := index + 1; i <= revision; i++ {
		var entry raft.Log
		if err := r.store.logs.GetLog(i, &entry); err != nil {
			return nil, fmt.Errorf("read log entry %d: %w", i, err)
		}
		if entry.Type == raft.LogCommand {
			if st, _, err = applyEntry(st, &entry, versions{oldestVersion, newestVersion}); err != nil {
				return nil, fmt.Errorf("log entry %d: %w", i, err)
			}
		}
	}
	return st, nil
}

// Entries are the first and the last index of the log; both 0: it is empty. The
// last ones may never have been committed.
func (r *Remains) Entries() (first, last uint64, err error) {
	if first, err = r.store.logs.FirstIndex(); err != nil {
		return 0, 0, fmt.Errorf("first log entry: %w", err)
	}
	if last, err = r.store.logs.LastIndex(); err != nil {
		return 0, 0, fmt.Errorf("last log entry: %w", err)
	}
	return first, last, nil
}

// Entry is a log entry's term, and a sum of what it is and says.
func (r *Remains) Entry(index uint64) (term, sum uint64, err error) {
	var entry raft.Log
	if err := r.store.logs.GetLog(index, &entry); err != nil {
		return 0, 0, fmt.Errorf("read log entry %d: %w", index, err)
	}
	var head [9]byte
	binary.LittleEndian.PutUint64(head[:], entry.Term)
	head[8] = byte(entry.Type)
	return entry.Term, xxhash.Sum64(append(head[:], entry.Data...)), nil
}

// Servers are the names of Raft's servers, by the newest configuration, and
// whether each has a vote.
func (r *Remains) Servers() (map[string]bool, error) {
	first, last, err := r.Entries()
	if err != nil {
		return nil, err
	}
	for i := last; i >= max(first, 1); i-- {
		var entry raft.Log
		if err := r.store.logs.GetLog(i, &entry); err != nil {
			return nil, fmt.Errorf("read log entry %d: %w", i, err)
		}
		if entry.Type == raft.LogConfiguration {
			return votes(raft.DecodeConfiguration(entry.Data)), nil
		}
	}
	list, err := r.store.snaps.List()
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	return votes(list[0].Configuration), nil
}

func votes(c raft.Configuration) map[string]bool {
	out := map[string]bool{}
	for _, s := range c.Servers {
		out[nodeOf(s.ID)] = s.Suffrage == raft.Voter
	}
	return out
}

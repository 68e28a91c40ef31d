package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// asideDir is where control state that was found wrong is kept, the last one.
func asideDir(raftDir string) string { return filepath.Join(raftDir, "diverged") }

// setAside moves log, snapshots and record away. The record goes first and the
// snapshots last: a crash in between leaves a node that starts, with less.
func setAside(raftDir string) error {
	to := asideDir(raftDir)
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("drop what was set aside before: %w", err)
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return fmt.Errorf("set the control state aside: %w", err)
	}
	for _, name := range []string{"revision", "raft.db", "snapshots"} {
		err := os.Rename(filepath.Join(raftDir, name), filepath.Join(to, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set the control state aside: %w", err)
		}
		if err := syncDir(raftDir); err != nil {
			return fmt.Errorf("set the control state aside: %w", err)
		}
	}
	return nil
}

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// keptBaks is how many raft directories that were given up a node keeps: each is
// some snapshots large, and held keys once.
const keptBaks = 3

// bakNames are what they are called; a folder of another name is somebody's own.
var bakNames = regexp.MustCompile(`^raft\.bak-\d{8}T\d{6}Z$`)

// bakName is what the raft directory is called that is kept.
func bakName(now time.Time) string { return "raft.bak-" + now.UTC().Format("20060102T150405Z") }

// dropOldBaks removes all but the newest of them.
func dropOldBaks(dir string) error {
	entries, err := os.ReadDir(dir) // by name, and so by age
	if err != nil {
		return fmt.Errorf("look for control state that was kept: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && bakNames.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names[:max(len(names)-keptBaks, 0)] {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// tidyBaks drops what is kept no longer; that it cannot fails nothing.
func (n *Node) tidyBaks() {
	if err := dropOldBaks(n.cfg.Dir); err != nil {
		n.log.Warn("old control state cannot be dropped: delete it", "dir", filepath.Join(n.cfg.Dir, "raft.bak-*"), "err", err)
	}
}

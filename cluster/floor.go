package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
)

// The floor is a revision below which a node publishes nothing. A node that has
// announced a revision stores no share any more that was placed by an older one;
// if it published older states again, after it gave up its log, a late sender
// could begin a write with it in an epoch that is closed. So the floor is made
// durable before a log is given up, in a record of its own that stays behind:
//
//	floor written        the old log is still there and goes up to it
//	log set aside        the next start has the floor, and publishes nothing until
//	                     the log, fetched anew, has reached it
//	joined again         the floor is the revision of the joining, which is newer
//	                     than all that this node knew; it is written before the
//	                     certificate, without which the node is no member
//
// Once the published state is above it, the floor says nothing.
const floorFile = "floor"

// keepFloor makes a floor durable. A smaller one than there is changes nothing.
func (n *Node) keepFloor(revision uint64) error {
	r, err := openRecord(n.raftPath(floorFile))
	if err != nil {
		return err
	}
	return errors.Join(r.Write(revision), r.Close())
}

// readFloor is the floor of a raft directory; 0: none.
func readFloor(dir string) (uint64, error) {
	r, err := openRecord(filepath.Join(dir, floorFile))
	if err != nil {
		return 0, fmt.Errorf("read the floor: %w", err)
	}
	return r.Revision(), r.Close()
}

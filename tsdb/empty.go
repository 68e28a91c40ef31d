package tsdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"
)

// ErrNotEmpty says that samples kept coming while a tenant was emptied.
var ErrNotEmpty = errors.New("samples keep coming")

// emptyRounds is how often Empty cuts before it gives up. The first cut takes
// all; the second shows that it did.
const emptyRounds = 5

// Empty cuts until a cut finds nothing: in order and out of order, to the last
// millisecond, the future included. Its caller has seen to it that nobody
// appends any more; where somebody does, it is ErrNotEmpty. Then it lists the
// key's blocks. A key without a directory has none.
//
// It gives way to all else on the machine: a whole head at once is seconds of work,
// and the writes of those who stay, of nodes on the same machine too, go first.
//
// A crash at any line of it leaves what a crash in any cut does: the block is
// whole or not there, and what was not yet truncated away is in the logs. The
// next call finds it, and may write out-of-order samples to a second block,
// which is the same twice and harmless.
func (d *DB) Empty(ctx context.Context, key Key) ([]Block, error) {
	last, err := d.blockSet(key)
	if err != nil {
		return nil, err
	}
	for range emptyRounds {
		if err := aside(func() error { return d.Cut(ctx, key) }); err != nil {
			return nil, err
		}
		now, err := d.blockSet(key)
		if err != nil {
			return nil, err
		}
		if !grown(last, now) {
			blocks, err := BlocksIn(d.Path(key))
			if err != nil {
				return nil, fmt.Errorf("empty %s: %w", key, err)
			}
			return blocks, nil
		}
		last = now
	}
	return nil, fmt.Errorf("empty %s: %w", key, ErrNotEmpty)
}

// blockSet are the blocks of the tenant that are on the disk.
func (d *DB) blockSet(key Key) (map[ulid.ULID]bool, error) {
	blocks, err := BlocksIn(d.Path(key))
	if err != nil {
		return nil, fmt.Errorf("empty %s: %w", key, err)
	}
	set := make(map[ulid.ULID]bool, len(blocks))
	for _, b := range blocks {
		set[b.ULID] = true
	}
	return set, nil
}

// grown says whether now has a block that old has not: retention may have taken
// some away.
func grown(old, now map[ulid.ULID]bool) bool {
	for id := range now {
		if !old[id] {
			return true
		}
	}
	return false
}

package ship

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// Source is one tenant's directory of this node.
type Source struct {
	Tenant      string
	Incarnation uint64
	// Dir holds the tenant's blocks, each a directory named by its ULID. Other
	// entries (write-ahead log, head chunks, unfinished blocks) are passed over.
	Dir string
	// Labels are the external labels that its blocks carry in the bucket. They
	// must not be empty.
	Labels labels.Labels
}

// block is a finished block directory.
type block struct {
	dir  string
	meta promtsdb.BlockMeta
}

// scan lists the finished blocks of a directory that are not safe yet, oldest
// first. Blocks that cannot be read are in the error; the others are listed all
// the same. present has every ULID that has a directory, safe or not.
func scan(dir string, safe func(ulid.ULID) bool) (blocks []block, present map[ulid.ULID]bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil // the tenant has not been opened here yet
	}
	if err != nil {
		return nil, nil, fmt.Errorf("scan: %w", err)
	}
	present = map[ulid.ULID]bool{}
	var errs []error
	for _, e := range entries {
		// `<ULID>.tmp-for-creation` and the like do not parse: the TSDB renames
		// a block to its bare ULID when all of it is on disk.
		id, notBlock := ulid.ParseStrict(e.Name())
		if notBlock != nil || !e.IsDir() {
			continue
		}
		present[id] = true
		if safe(id) {
			continue
		}
		b := block{dir: filepath.Join(dir, e.Name())}
		if b.meta, err = readLocal(b.dir); err != nil {
			if !errors.Is(err, os.ErrNotExist) { // no meta.json: being deleted, or not ours
				errs = append(errs, fmt.Errorf("block %s: %w", id, err))
			}
			continue
		}
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks, func(a, b block) int {
		return cmp.Or(cmp.Compare(a.meta.MinTime, b.meta.MinTime), a.meta.ULID.Compare(b.meta.ULID))
	})
	return blocks, present, errors.Join(errs...)
}

package custody

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/tsdb"
)

// part is what there is of one tenant.
type part struct {
	key    tsdb.Key
	blocks []tsdb.Block
	gaps   []tsdb.Interval
}

// alive says whether the tenant is one of the state's, in this incarnation.
func alive(st *cluster.State, key tsdb.Key) bool {
	t := st.Tenant(key.Tenant)
	return t != nil && t.GetIncarnation() == key.Incarnation
}

// cutAll puts all that this node has into blocks. A tenant whose life is over is
// left out: its directory is on its way out.
func (l *Leaver) cutAll(ctx context.Context, st *cluster.State) ([]part, error) {
	keys, err := l.cfg.Data.OnDisk()
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(k tsdb.Key) bool { return !alive(st, k) })
	var parts []part
	for i, key := range keys {
		l.say("cutting heads", "tenant %s, %d of %d", key.Tenant, i+1, len(keys))
		p := part{key: key}
		if l.cut[key] {
			p.blocks, err = tsdb.BlocksIn(l.cfg.Data.Path(key))
		} else {
			p.blocks, err = l.cfg.Data.Empty(ctx, key)
		}
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", key.Tenant, err)
		}
		l.cut[key] = true
		p.gaps = l.cfg.Data.Status(key).Gaps
		parts = append(parts, p)
	}
	return parts, nil
}

// ship has every block in the bucket, verified; false where there is no bucket.
func (l *Leaver) ship(ctx context.Context, parts []part) (bool, error) {
	if l.cfg.Bucket == nil {
		return false, nil
	}
	l.say("shipping", "%d blocks to the bucket", count(parts))
	failed := l.cfg.Bucket.Ship(ctx)
	open, first := 0, ""
	for _, p := range parts {
		// Looked at anew: retention may have removed one that was safe.
		blocks, err := tsdb.BlocksIn(l.cfg.Data.Path(p.key))
		if err != nil {
			return false, fmt.Errorf("tenant %s: %w", p.key.Tenant, err)
		}
		for _, b := range blocks {
			if l.cfg.Bucket.Safe(p.key, b.ULID) {
				continue
			}
			if open++; first == "" {
				first = fmt.Sprintf("block %s of tenant %s", b.ULID, p.key.Tenant)
			}
		}
	}
	switch {
	case open > 0 && failed != nil:
		return false, fmt.Errorf("%d blocks are not in the bucket, %s among them: %w", open, first, failed)
	case open > 0:
		return false, fmt.Errorf("%d blocks are not in the bucket, %s among them", open, first)
	}
	return true, nil
}

func count(parts []part) (n int) {
	for _, p := range parts {
		n += len(p.blocks)
	}
	return n
}

// inRetention leaves out the blocks that no query of the members asks for.
func inRetention(st *cluster.State, parts []part, now time.Time) []part {
	var out []part
	for _, p := range parts {
		keep, over := keepOf(st, p.key)
		if over {
			continue
		}
		end := now.Add(-keep).UnixMilli()
		p.blocks = slices.DeleteFunc(slices.Clone(p.blocks), func(b tsdb.Block) bool {
			return keep > 0 && b.MaxTime <= end
		})
		out = append(out, p)
	}
	return out
}

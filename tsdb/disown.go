package tsdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/storage"
)

// Disown hears of series that the replicas together have refused as too many,
// though this store may have taken them: they are not counted from now on. The
// next sample of one is taken where there is room for a new series, as it would be
// of one that is not here, and the series counted again. What is held of them is
// held. A start forgets of whom it has heard, and counts all.
func (d *DB) Disown(ctx context.Context, key Key, share Share) error {
	t, err := d.find(key)
	if err != nil {
		return fmt.Errorf("disown: %w", err)
	}
	e := t.peek()
	if e == nil {
		return nil
	}
	defer t.release()
	select {
	case e.writing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("disown: wait for the tenant's writes: %w", ctx.Err())
	}
	defer func() { <-e.writing }()
	app := e.db.AppenderV2(ctx)
	refs, ok := app.(storage.GetRef)
	for share.Reset(); ok && share.Next(); {
		if ref, _ := refs.GetRef(viewLabels(share.Labels()), share.Hash()); ref != 0 {
			e.census.disown(ref, e.census.place(share.Hash()))
		}
	}
	if err := app.Rollback(); err != nil {
		return errors.Join(errors.New("disown"), err)
	}
	return nil
}

// disown takes a series out of the count.
func (c *census) disown(ref storage.SeriesRef, key uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.strange[ref]; known {
		return
	}
	if c.strange == nil {
		c.strange = map[storage.SeriesRef]uint64{}
	}
	c.strange[ref] = key
	c.strangers.Store(int64(len(c.strange)))
	c.add(key, -1)
}

// strangeTo says whether a series was disowned.
func (c *census) strangeTo(ref storage.SeriesRef) bool {
	if c.strangers.Load() == 0 { // mostly: it is asked for each series of a share
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.strange[ref]
	return known
}

// own forgets that a series was disowned. Under mu.
func (c *census) own(ref storage.SeriesRef) (key uint64, known bool) {
	if key, known = c.strange[ref]; known {
		delete(c.strange, ref)
		c.strangers.Store(int64(len(c.strange)))
	}
	return key, known
}

// adopt counts a series again that was disowned.
func (c *census) adopt(ref storage.SeriesRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key, known := c.own(ref); known {
		c.add(key, 1)
	}
}

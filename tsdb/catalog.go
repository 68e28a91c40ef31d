package tsdb

import (
	"log/slog"
	"slices"
	"sync"
	"time"
)

// A catalog is what a tenant's metric families are. All of it is in memory, and in
// a log of its own beside the TSDB's, which keeps metadata only with series and
// cannot be asked for it.
type catalog struct {
	now func() time.Time
	log *slog.Logger

	mu       sync.Mutex
	families map[string][]description
	count    int
	bytes    int
	file     catalogFile
	// behind says that the file lacks something, or has a broken end: the next one
	// to put something writes it anew.
	behind bool
	dirty  bool // written to since the last sync
}

// openCatalog reads the log. One with a broken end is read up to there.
func openCatalog(dir string, now func() time.Time, log *slog.Logger) (*catalog, error) {
	c := &catalog{now: now, log: log, families: map[string][]description{}, file: catalogFileIn(dir)}
	whole, err := c.file.read(func(d description) { c.take(d) })
	if err != nil {
		return nil, err
	}
	if !whole {
		c.behind = true
		log.Warn("the log of metadata has a broken end: what came after it is forgotten until it is sent again", "entries", c.count)
	}
	c.shed()
	return c, nil
}

// take brings a description into memory, and says whether that is worth a line in
// the log.
func (c *catalog) take(d description) bool {
	list := c.families[d.Family]
	if k := slices.IndexFunc(list, func(o description) bool { return o.Metadata == d.Metadata }); k >= 0 {
		old := list[k].seen
		if d.seen-old < describedAgain.Milliseconds() {
			return false
		}
		list[k].seen = d.seen
		return true
	}
	if len(list) >= maxVariants {
		oldest := 0
		for k := range list {
			if list[k].seen < list[oldest].seen {
				oldest = k
			}
		}
		c.drop(list[oldest])
		list = c.families[d.Family]
	}
	c.families[d.Family] = append(list, d)
	c.count++
	c.bytes += d.cost()
	return true
}

func (c *catalog) drop(d description) {
	list := slices.DeleteFunc(c.families[d.Family], func(o description) bool { return o.Metadata == d.Metadata })
	c.count--
	c.bytes -= d.cost()
	if len(list) == 0 {
		delete(c.families, d.Family)
		return
	}
	c.families[d.Family] = list
}

// shed gives up what was not heard of for longest where there is too much, an
// eighth more than needed so that it is seldom done.
func (c *catalog) shed() {
	if c.count <= maxDescriptions && c.bytes <= maxCatalogBytes {
		return
	}
	for _, d := range gather(c.families) {
		if c.count <= maxDescriptions*7/8 && c.bytes <= maxCatalogBytes*7/8 {
			return
		}
		c.drop(d)
	}
}

// put keeps descriptions: in the log first, unless they are known. An error means
// that they may be lost with the process. They are in memory then, and the next
// one to put something writes them with it.
func (c *catalog) put(all []Metadata) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now().UnixMilli()
	var lines []byte
	for _, m := range all {
		if d := (description{m, now}); c.take(d) {
			lines = appendDescription(lines, d)
		}
	}
	c.shed()
	if len(lines) == 0 && !c.behind {
		return nil
	}
	c.dirty = true
	if c.behind || c.file.bloated(len(lines), c.bytes) {
		c.behind = true
		if err := c.file.rewrite(gather(c.families)); err != nil {
			return err
		}
		c.behind = false
		return nil
	}
	if err := c.file.append(lines); err != nil {
		c.behind = true // half a line may be there
		return err
	}
	return nil
}

func (c *catalog) list() []Metadata {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Metadata, 0, c.count)
	for _, list := range c.families {
		newest := int64(0)
		for _, d := range list {
			newest = max(newest, d.seen)
		}
		for _, d := range list {
			if newest-d.seen < variantOutlasted.Milliseconds() {
				out = append(out, d.Metadata)
			}
		}
	}
	slices.SortFunc(out, compareMetadata)
	return out
}

// sync puts on the disk what the log took since the last time.
func (c *catalog) sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		return nil
	}
	if err := c.file.sync(); err != nil {
		return err
	}
	c.dirty = false
	return nil
}

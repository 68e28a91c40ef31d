package tsdb

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Metadata says what a metric family is. Type is one of Prometheus' words for it:
// counter, gauge, histogram, gaugehistogram, summary, info, stateset, unknown.
type Metadata struct {
	Family, Type, Help, Unit string
}

// cost is about the bytes that it takes in memory.
func (m Metadata) cost() int { return len(m.Family) + len(m.Help) + len(m.Unit) + 128 }

// AppendMetadata keeps what is said of metric families. It is written to the log
// before it returns; of more than a tenant may have, those go that were not heard
// of for longest.
func (d *DB) AppendMetadata(ctx context.Context, key Key, all []Metadata) error {
	t, err := d.find(key)
	if err != nil {
		return fmt.Errorf("append metadata to %s: %w", key, err)
	}
	e, err := t.acquire(ctx, true)
	if err != nil {
		return fmt.Errorf("append metadata to %s: %w", key, err)
	}
	defer t.release()
	if !roomy(e.dir, d.cfg.MinFree) {
		return fmt.Errorf("append metadata to %s: %w", key, errDiskFull)
	}
	if err := e.catalog.put(all); err != nil {
		return fmt.Errorf("append metadata to %s: %w", key, err)
	}
	return nil
}

// Metadata is what is known of the tenant's metric families, sorted: of one that
// its senders describe in several ways, each that was heard within a day of the
// newest. Errors are those of ChunkQuerier.
func (d *DB) Metadata(ctx context.Context, key Key) ([]Metadata, error) {
	t, e, err := d.look(ctx, key)
	if err != nil || e == nil {
		return nil, err
	}
	defer t.release()
	return e.catalog.list(), nil
}

const (
	maxDescriptions  = 20_000         // of a tenant
	maxCatalogBytes  = 16 << 20       // that they take
	maxVariants      = 8              // of a family
	describedAgain   = 6 * time.Hour  // after which it is worth a line in the log
	variantOutlasted = 24 * time.Hour // by a newer one of its family
)

// description is what was said of a family, and when it was last heard.
type description struct {
	Metadata
	seen int64 // ms
}

// gather puts descriptions in the order in which they may be given up.
func gather(families map[string][]description) []description {
	var all []description
	for _, list := range families {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b description) int {
		return cmp.Or(cmp.Compare(a.seen, b.seen), compareMetadata(a.Metadata, b.Metadata))
	})
	return all
}

func compareMetadata(a, b Metadata) int {
	return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Help, b.Help), cmp.Compare(a.Unit, b.Unit))
}

package tsdb

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
)

const sealName = "seal.json"

// A Seal says what belongs to another store whose blocks are kept here: with it
// on the disk they are all here, and this node answers for that store.
type Seal struct {
	// Custody is the revision at which this node was named the custodian.
	Custody uint64         `json:"custody"`
	Tenants []SealedTenant `json:"tenants"`
}

// SealedTenant is what the store had of one key.
type SealedTenant struct {
	Tenant      string        `json:"tenant"`
	Incarnation uint64        `json:"incarnation"`
	Blocks      []SealedBlock `json:"blocks"`
	// Gaps are times in which the store may have lost acknowledged samples.
	Gaps []Interval `json:"gaps,omitempty"`
}

// SealedBlock names a block with its times, Unix milliseconds; Maxt is exclusive.
type SealedBlock struct {
	ULID ulid.ULID `json:"ulid"`
	Mint int64     `json:"mint"`
	Maxt int64     `json:"maxt"`
}

func (t SealedTenant) key() Key { return Key{Tenant: t.Tenant, Incarnation: t.Incarnation} }

func (s *Seal) of(key Key) SealedTenant {
	if s != nil {
		for _, t := range s.Tenants {
			if t.key() == key {
				return t
			}
		}
	}
	return SealedTenant{}
}

func (s *Seal) names(key Key, id ulid.ULID) bool {
	return slices.ContainsFunc(s.of(key).Blocks, func(b SealedBlock) bool { return b.ULID == id })
}

// without is the seal without the blocks that are over, and without the tenants
// of which nothing is left to say.
func (s *Seal) without(over func(Key, SealedBlock) bool) (*Seal, bool) {
	out := &Seal{Custody: s.Custody}
	changed := false
	for _, t := range s.Tenants {
		left := SealedTenant{Tenant: t.Tenant, Incarnation: t.Incarnation, Gaps: t.Gaps}
		for _, b := range t.Blocks {
			if over(t.key(), b) {
				changed = true
				continue
			}
			left.Blocks = append(left.Blocks, b)
		}
		if len(left.Blocks) > 0 || len(left.Gaps) > 0 {
			out.Tenants = append(out.Tenants, left)
		}
	}
	return out, changed
}

// readSeal gives nil where there is none.
func readSeal(dir string) (*Seal, error) {
	s := &Seal{}
	err := readJSON(filepath.Join(dir, sealName), s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func writeSeal(dir string, s *Seal) error { return writeJSON(filepath.Join(dir, sealName), s) }

// Seal notes, durably, that the seal's blocks are all there is of a store. The
// blocks that are not here are named instead; blocks that it does not name go.
func (a *Adopted) Seal(store StoreID, seal Seal) (missing []ulid.ULID, err error) {
	a.work.Lock()
	defer a.work.Unlock()
	a.mu.RLock()
	s, closed := a.stores[store], a.closed
	a.mu.RUnlock()
	if closed {
		return nil, fmt.Errorf("seal: %w", ErrNotReady)
	}
	if s == nil {
		s = newAdoptedStore()
	}
	for i, t := range seal.Tenants {
		if !t.key().valid() {
			return nil, fmt.Errorf("%w: tenant %q", ErrOffer, t.Tenant)
		}
		for k, block := range t.Blocks {
			b := s.blocks[t.key()][block.ULID]
			if b == nil {
				missing = append(missing, block.ULID)
				continue
			}
			seal.Tenants[i].Blocks[k].Mint, seal.Tenants[i].Blocks[k].Maxt = b.Meta().MinTime, b.Meta().MaxTime
		}
	}
	if len(missing) > 0 {
		return missing, nil
	}
	// A crash before the seal is on the disk: nobody answers for the store, and
	// the giver seals again. A crash after it: it may seal again, the same.
	if err := errors.Join(makeDir(a.cfg.Dir), makeDir(a.storeDir(store)), writeSeal(a.storeDir(store), &seal)); err != nil {
		return nil, fmt.Errorf("seal store %s: %w", store, err)
	}
	if _, err := a.keep(store, &seal); err != nil {
		a.cfg.Log.Warn("a block that its store does not name any more was not removed", "store", store.String(), "err", err)
	}
	return nil, nil
}

package tsdb

import (
	"errors"
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

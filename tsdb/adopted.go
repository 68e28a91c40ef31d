package tsdb

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// A StoreID names the data of another node's directory.
type StoreID [16]byte

// String is also the name of its directory here.
func (s StoreID) String() string { return hex.EncodeToString(s[:]) }

func parseStoreID(name string) (s StoreID, ok bool) {
	b, err := hex.DecodeString(name)
	if err != nil || len(b) != len(s) {
		return s, false
	}
	copy(s[:], b)
	return s, s.String() == name
}

// Adopted keeps blocks of stores whose nodes have left, unchanged and never
// written to, in <Dir>/<store>/<tenant>.<incarnation>/<ulid>/. They are no part
// of any tenant's TSDB: a foreign block there would make the next start discard
// the log below its end.
//
//	<ulid>.part   being given. A crash: the giver goes on where it ended, and
//	              what a crash of the machine spoiled shows in the checksums.
//	<ulid>        whole: every file is on the disk, was read back and agrees with
//	              the giver's checksum, and the index opens. Not answered for yet.
//	seal.json     names all of the store's blocks. Now they are served, and this
//	              node answers for the store. It is written when they are all here.
//	<ulid>.gone   not wanted any more. A crash: the next Open goes on removing it.
//
// A block that is over leaves the seal first, so that one without its entry is
// removed at the next Open, and one with its entry that cannot be read is a gap.
type Adopted struct {
	cfg Config
	own []prometheus.Collector

	work sync.Mutex // one change of what is kept at a time

	mu     sync.RWMutex
	stores map[StoreID]*adoptedStore
	taking map[string]bool // directories of blocks that somebody gives now
	closed bool
}

type adoptedStore struct {
	seal   *Seal // nil: not all is here
	blocks map[Key]map[ulid.ULID]*promtsdb.Block
}

func newAdoptedStore() *adoptedStore {
	return &adoptedStore{blocks: map[Key]map[ulid.ULID]*promtsdb.Block{}}
}

const (
	partSuffix = ".part"
	goneSuffix = ".gone"
)

// NewAdopted makes an Adopted over cfg.Dir; of cfg it uses Dir, MinFree, Now, Log
// and Reg.
func NewAdopted(cfg Config) *Adopted {
	a := &Adopted{cfg: cfg.withDefaults(), stores: map[StoreID]*adoptedStore{}, taking: map[string]bool{}}
	a.own = a.gauges()
	if cfg.Reg != nil {
		cfg.Reg.MustRegister(a.own...)
	}
	return a
}

// Open finds what is kept. A block that cannot be read is logged, and is a gap
// from then on where the seal names it; it keeps no other one down.
func (a *Adopted) Open() error {
	if err := makeDir(a.cfg.Dir); err != nil {
		return fmt.Errorf("open adopted blocks: %w", err)
	}
	entries, err := os.ReadDir(a.cfg.Dir)
	if err != nil {
		return fmt.Errorf("open adopted blocks: %w", err)
	}
	a.work.Lock()
	defer a.work.Unlock()
	for _, entry := range entries {
		id, ok := parseStoreID(strings.TrimSuffix(entry.Name(), goneSuffix))
		if !ok || !entry.IsDir() {
			continue
		}
		if strings.HasSuffix(entry.Name(), goneSuffix) {
			err = os.RemoveAll(filepath.Join(a.cfg.Dir, entry.Name()))
		} else {
			err = a.openStore(id)
		}
		if err != nil {
			return fmt.Errorf("open adopted store %s: %w", id, err)
		}
	}
	return nil
}

func (a *Adopted) openStore(id StoreID) error {
	dir := a.storeDir(id)
	seal, err := readSeal(dir)
	if err != nil {
		return err
	}
	s := newAdoptedStore()
	s.seal = seal
	tenants, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		key, ok := parseKey(tenant.Name())
		if !ok || !tenant.IsDir() {
			continue
		}
		blocks, err := os.ReadDir(filepath.Join(dir, tenant.Name()))
		if err != nil {
			return err
		}
		for _, b := range blocks {
			if err := a.openOne(s, key, filepath.Join(dir, tenant.Name(), b.Name())); err != nil {
				return err
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stores[id] = s
	return nil
}

// openOne opens a block, or removes what is left of one. Where it cannot be
// opened and nobody answers for it yet, it goes: its giver still has it.
func (a *Adopted) openOne(s *adoptedStore, key Key, dir string) error {
	name := filepath.Base(dir)
	id, notBlock := ulid.ParseStrict(name)
	switch {
	case strings.HasSuffix(name, partSuffix) && s.seal == nil:
		return nil
	case strings.HasSuffix(name, partSuffix), strings.HasSuffix(name, goneSuffix):
		return os.RemoveAll(dir)
	case notBlock != nil:
		return nil //nolint:nilerr // a file of somebody else's is left alone
	case s.seal != nil && !s.seal.names(key, id):
		return removeDir(dir)
	}
	b, err := promtsdb.OpenBlock(a.quiet(), dir, nil, nil)
	if err == nil {
		s.put(key, id, b)
		return nil
	}
	a.cfg.Log.Error("adopted block cannot be read", "tenant", key.Tenant, "block", name, "err", err)
	if s.seal == nil {
		return removeDir(dir)
	}
	return nil
}

// quiet keeps the TSDB's chatter out of the log.
func (a *Adopted) quiet() *slog.Logger {
	return slog.New(listener{next: a.cfg.Log.Handler(), news: &engineNews{}})
}

func (s *adoptedStore) put(key Key, id ulid.ULID, b *promtsdb.Block) {
	if s.blocks[key] == nil {
		s.blocks[key] = map[ulid.ULID]*promtsdb.Block{}
	}
	s.blocks[key][id] = b
}

func (a *Adopted) storeDir(id StoreID) string { return filepath.Join(a.cfg.Dir, id.String()) }

// Close ends it, when its readers have ended.
func (a *Adopted) Close() error {
	a.work.Lock()
	defer a.work.Unlock()
	a.mu.Lock()
	stores := a.stores
	first := !a.closed
	a.stores, a.closed = map[StoreID]*adoptedStore{}, true
	a.mu.Unlock()
	if first && a.cfg.Reg != nil {
		for _, c := range a.own {
			a.cfg.Reg.Unregister(c)
		}
	}
	var errs []error
	for _, s := range stores {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

func (s *adoptedStore) close() error {
	var errs []error
	for _, blocks := range s.blocks {
		for _, b := range blocks {
			errs = append(errs, b.Close())
		}
	}
	return errors.Join(errs...)
}

// Stores are those of which something is here.
func (a *Adopted) Stores() []StoreID {
	a.mu.RLock()
	defer a.mu.RUnlock()
	out := make([]StoreID, 0, len(a.stores))
	for id := range a.stores {
		out = append(out, id)
	}
	slices.SortFunc(out, func(x, y StoreID) int { return cmp.Compare(x.String(), y.String()) })
	return out
}

// Sealed gives the seal of a store; nil: not all of it is here.
func (a *Adopted) Sealed(id StoreID) *Seal {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if s := a.stores[id]; s != nil {
		return s.seal
	}
	return nil
}

// Keys are the tenants of which a store has blocks here.
func (a *Adopted) Keys(id StoreID) []Key {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var out []Key
	if s := a.stores[id]; s != nil {
		for key, blocks := range s.blocks {
			if len(blocks) > 0 {
				out = append(out, key)
			}
		}
	}
	slices.SortFunc(out, Key.compare)
	return out
}

// Path is the directory of a store's key.
func (a *Adopted) Path(id StoreID, key Key) string {
	return filepath.Join(a.storeDir(id), key.String())
}

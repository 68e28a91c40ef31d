package ship

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

func openLedger(t *testing.T, dir string) *Ledger {
	t.Helper()
	l, err := OpenLedger(dir)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

func entry(tenant string, i int) Entry {
	now := time.UnixMilli(1_800_000_000_000).UTC()
	return Entry{Tenant: tenant, Incarnation: 3, Block: ulid.MustNew(uint64(i), nil), Uploaded: now, Verified: now}
}

func TestLedgerRemembers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	l := openLedger(t, dir)
	e := entry("a", 1)
	must(t, l.Record(e))
	must(t, l.Record(e)) // twice says no more than once
	must(t, l.Close())
	must(t, l.Close())
	if err := l.Record(entry("a", 2)); err == nil {
		t.Error("a closed ledger records")
	}
	l = openLedger(t, dir)
	if !l.Safe("a", 3, e.Block) || l.Len() != 1 {
		t.Fatal("forgotten")
	}
	if l.Safe("a", 4, e.Block) || l.Safe("b", 3, e.Block) || l.Safe("a", 3, ulid.MustNew(9, nil)) {
		t.Error("another incarnation, tenant or block is safe")
	}
	for p, perm := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, ledgerFile): 0o600} {
		st, err := os.Stat(p)
		must(t, err)
		if st.Mode().Perm() != perm {
			t.Errorf("%s: %v", p, st.Mode())
		}
	}
}

// TestLedgerTornAtEveryByte cuts the file at each length: what is left are the
// blocks whose lines are whole, and new ones can be recorded.
func TestLedgerTornAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, dir)
	for i := range 2 {
		must(t, l.Record(entry("a", i)))
	}
	must(t, l.Close())
	whole, err := os.ReadFile(filepath.Join(dir, ledgerFile))
	must(t, err)
	for n := range len(whole) + 1 {
		must(t, os.WriteFile(filepath.Join(dir, ledgerFile), whole[:n], 0o600))
		l := openLedger(t, dir)
		want := bytes.Count(whole[:n], []byte{'\n'})
		if l.Len() != want {
			t.Fatalf("cut at %d: %d blocks, want %d", n, l.Len(), want)
		}
		must(t, l.Record(entry("b", 7)))
		must(t, l.Close())
		l = openLedger(t, dir)
		if l.Len() != want+1 || l.dropped != 0 {
			t.Fatalf("cut at %d, recorded: %d blocks, %d unreadable", n, l.Len(), l.dropped)
		}
		must(t, l.Close())
	}
}

// TestLedgerSpoiledByte flips each byte: a block is known by its own line only.
func TestLedgerSpoiledByte(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, dir)
	for i := range 2 {
		must(t, l.Record(entry("a", i)))
	}
	must(t, l.Close())
	whole, err := os.ReadFile(filepath.Join(dir, ledgerFile))
	must(t, err)
	for n := range whole {
		bad := bytes.Clone(whole)
		bad[n] ^= 0x11
		must(t, os.WriteFile(filepath.Join(dir, ledgerFile), bad, 0o600))
		l := openLedger(t, dir)
		for _, e := range l.entries {
			if e != entry("a", 0) && e != entry("a", 1) {
				t.Fatalf("byte %d spoiled: the ledger believes %+v", n, e)
			}
		}
		if l.Len() == 2 {
			t.Fatalf("byte %d spoiled: not noticed", n)
		}
		must(t, l.Close())
	}
}

func TestLedgerForgetsAndShrinks(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, dir)
	l.lines = 2 * compactLines // as if most of its lines were about blocks long gone
	for i := range 4 {
		must(t, l.Record(entry("a", i)))
	}
	must(t, l.Forget(func(e Entry) bool { return e.Block.Time() > 0 }))
	if l.Len() != 1 || l.lines != 1 {
		t.Fatalf("%d blocks, %d lines", l.Len(), l.lines)
	}
	must(t, l.Record(entry("a", 9))) // the new file takes appends
	must(t, l.Close())
	l = openLedger(t, dir)
	if !l.Safe("a", 3, entry("a", 0).Block) || !l.Safe("a", 3, entry("a", 9).Block) || l.Len() != 2 {
		t.Error("not what was left")
	}
}

func TestShipperForgetsDeletedBlocks(t *testing.T) {
	b := newBed(t, "a", "b")
	kept, gone := writeBlock(t, b.sources[0].Dir, 0, 2), writeBlock(t, b.sources[0].Dir, 2*hour, 2)
	other := writeBlock(t, b.sources[1].Dir, 0, 2)
	b.sync(t)
	must(t, os.RemoveAll(filepath.Join(b.sources[0].Dir, gone.String())))
	all := b.sources
	b.sources = all[:1] // b is closed for now
	b.sync(t)
	b.sources = all
	if !b.safe(0, kept) || b.safe(0, gone) || !b.safe(1, other) {
		t.Error("forgot the wrong one")
	}
	if n := b.sync(t); n != 0 {
		t.Errorf("shipped %d blocks again", n)
	}
}

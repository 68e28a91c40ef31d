package tsdb

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

var leaver = StoreID{1, 2, 3}

// emptied is a DB with samples in order, out of order and of the future, all of
// it in blocks.
func emptied(t *testing.T, c *clock) (*DB, []Block) {
	t.Helper()
	db := openDB(t, withClock(c, 2*time.Hour))
	at := start.UnixMilli()
	mustStore(t, db, series{metric("a"), []sample{{at, 1}, {at + 5, 2}}}, series{metric("b"), []sample{{at, 7}}})
	mustStore(t, db, series{metric("a"), []sample{{at - 5000, 3}}})
	mustStore(t, db, series{metric("b"), []sample{{at + 3*time.Hour.Milliseconds(), 8}}})
	blocks, err := db.Empty(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	return db, blocks
}

func wholeOf(at int64) map[string][]sample {
	return map[string][]sample{
		"a": {{at - 5000, 3}, {at, 1}, {at + 5, 2}},
		"b": {{at, 7}, {at + 3*time.Hour.Milliseconds(), 8}},
	}
}

func TestEmptyLeavesNothingInTheHead(t *testing.T) {
	db, blocks := emptied(t, newClock(start))
	total := uint64(0)
	for _, b := range blocks {
		total += b.Samples
	}
	if n := engineOf(t, db).db.Head().NumSeries(); total != 5 || n != 0 {
		t.Fatalf("%d samples in blocks, want 5; %d series in the head", total, n)
	}
	again, err := db.Empty(t.Context(), acme)
	if err != nil || len(again) != len(blocks) {
		t.Fatalf("emptied again: %d blocks, then %d (%v)", len(blocks), len(again), err)
	}
	// What comes after all is found by the next one.
	mustStore(t, db, series{metric("a"), []sample{{start.Add(3*time.Hour - time.Minute).UnixMilli(), 4}}})
	late, err := db.Empty(t.Context(), acme)
	if err != nil || len(late) != len(blocks)+1 {
		t.Fatalf("a late sample: %d blocks, want %d (%v)", len(late), len(blocks)+1, err)
	}
	if none, err := db.Empty(t.Context(), Key{Tenant: "nobody", Incarnation: 1}); !errors.Is(err, ErrUnknownTenant) {
		t.Fatalf("a tenant that is not here: %v, %v", none, err)
	}
}

func openAdopted(t *testing.T, dir string, c *clock) *Adopted {
	t.Helper()
	a := NewAdopted(Config{Dir: dir, MinFree: -1, Now: c.now})
	if err := a.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

var errCut = errors.New("cut off")

// give carries a block into a; spoil may change a piece, or end it all.
func give(a *Adopted, b Block, spoil func(file int, piece []byte) error) error {
	files, err := b.Files()
	if err != nil {
		return err
	}
	for i, f := range files {
		if files[i].Checksum, err = b.Checksum(f); err != nil {
			return err
		}
	}
	taking, have, whole, err := a.Take(leaver, acme, b.ULID, files)
	if err != nil || whole {
		return err
	}
	defer taking.Close()
	for i, f := range files {
		if err := giveFile(taking, b, i, f, have[i], spoil); err != nil {
			return err
		}
	}
	return taking.Finish()
}

func giveFile(taking *Taking, b Block, i int, f File, from int64, spoil func(int, []byte) error) error {
	data, err := os.ReadFile(filepath.Join(b.Dir, filepath.FromSlash(f.Path)))
	if err != nil {
		return err
	}
	for at := from; at < f.Size || f.Size == 0 && at == 0; at += 100 {
		piece := data[at:min(at+100, f.Size)]
		if err := spoil(i, piece); err != nil {
			return err
		}
		if err := taking.Write(i, at, piece); err != nil || f.Size == 0 {
			return err
		}
	}
	return nil
}

func unspoiled(int, []byte) error { return nil }

func sealOf(blocks []Block) Seal {
	t := SealedTenant{Tenant: acme.Tenant, Incarnation: acme.Incarnation}
	for _, b := range blocks {
		t.Blocks = append(t.Blocks, SealedBlock{ULID: b.ULID})
	}
	return Seal{Custody: 5, Tenants: []SealedTenant{t}}
}

func heldFor(t *testing.T, a *Adopted) map[string][]sample {
	t.Helper()
	q, err := a.ChunkQuerier(leaver, acme, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	return samplesOf(t, q)
}

func samplesOf(t *testing.T, q storage.ChunkQuerier) map[string][]sample {
	t.Helper()
	out := map[string][]sample{}
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		name := set.At().Labels().Get("__name__")
		for it := set.At().Iterator(nil); it.Next(); {
			for c := it.At().Chunk.Iterator(nil); c.Next() != chunkenc.ValNone; {
				at, v := c.At()
				out[name] = append(out[name], sample{at, v})
			}
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return out
}

func equalSamples(a, b map[string][]sample) bool {
	if len(a) != len(b) {
		return false
	}
	for name, want := range a {
		got := b[name]
		if len(got) != len(want) {
			return false
		}
		for i := range want {
			if got[i] != want[i] {
				return false
			}
		}
	}
	return true
}

// TestABlockIsTakenWholeOrNotAtAll ends the giving at every file, with the
// custodian's process; only when all is given and sealed does anybody see it.
func TestABlockIsTakenWholeOrNotAtAll(t *testing.T) {
	c := newClock(start)
	_, blocks := emptied(t, c)
	dir := filepath.Join(t.TempDir(), "adopted")
	for _, b := range blocks {
		files, err := b.Files()
		if err != nil {
			t.Fatal(err)
		}
		for stop := range files {
			a := openAdopted(t, dir, c)
			err := give(a, b, func(file int, _ []byte) error {
				if file == stop {
					return errCut
				}
				return nil
			})
			if !errors.Is(err, errCut) {
				t.Fatalf("cut at %s: %v", files[stop].Path, err)
			}
			if missing, err := a.Seal(leaver, sealOf(blocks)); err != nil || len(missing) == 0 {
				t.Fatalf("sealed without %v: %v", b.ULID, err)
			}
			if got := heldFor(t, a); len(got) != 0 || a.Status(leaver, acme).Replayed {
				t.Fatalf("cut at %s, and it shows %v", files[stop].Path, got)
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
		}
		a := openAdopted(t, dir, c)
		sent := 0
		if err := give(a, b, func(_ int, p []byte) error { sent += len(p); return nil }); err != nil {
			t.Fatal(err)
		}
		if last := files[len(files)-1]; int64(sent) != last.Size {
			t.Errorf("%d bytes were sent again, want the last file's %d", sent, last.Size)
		}
		if err := give(a, b, func(int, []byte) error { return errCut }); err != nil {
			t.Fatalf("a whole block was asked for again: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a := openAdopted(t, dir, c)
	for range 2 {
		if missing, err := a.Seal(leaver, sealOf(blocks)); err != nil || len(missing) > 0 {
			t.Fatalf("missing %v: %v", missing, err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = openAdopted(t, dir, c)
	if got, want := heldFor(t, a), wholeOf(start.UnixMilli()); !equalSamples(want, got) {
		t.Fatalf("holds %v, want %v", got, want)
	}
	if st := a.Status(leaver, acme); !st.Replayed || len(st.Gaps) > 0 || a.Sealed(leaver).Custody != 5 {
		t.Fatalf("%+v", st)
	}
}

func TestASpoiledPieceIsRefusedAndGivenAgain(t *testing.T) {
	c := newClock(start)
	_, blocks := emptied(t, c)
	a := openAdopted(t, t.TempDir(), c)
	for i := range 2 { // the chunks, the index
		spoiled := false
		err := give(a, blocks[i], func(file int, p []byte) error {
			if file == i && !spoiled {
				spoiled = true
				p[len(p)/2] ^= 1
			}
			return nil
		})
		if !errors.Is(err, ErrSpoiled) {
			t.Fatalf("a spoiled file %d: %v", i, err)
		}
	}
	if len(a.Keys(leaver)) != 0 {
		t.Fatal("a spoiled block is in its place")
	}
	for _, b := range blocks {
		if err := give(a, b, unspoiled); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(a.Keys(leaver)); got != 1 {
		t.Fatalf("blocks of %d tenants", got)
	}
}

func TestAnOfferNamesABlockAndNothingElse(t *testing.T) {
	a := openAdopted(t, t.TempDir(), newClock(start))
	good := []File{{Path: "index"}, {Path: "meta.json"}}
	for name, files := range map[string][]File{
		"a path that leads out": append(good, File{Path: "../../x"}),
		"a path in chunks":      append(good, File{Path: "chunks/../x"}),
		"a file twice":          append(good, File{Path: "index"}),
		"no index":              {{Path: "meta.json"}},
		"a negative size":       append(good, File{Path: "tombstones", Size: -1}),
		"a size beyond all":     append(good, File{Path: "tombstones", Size: 1 << 62}),
	} {
		if _, _, _, err := a.Take(leaver, acme, ulid.Make(), files); !errors.Is(err, ErrOffer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, _, err := a.Take(leaver, Key{Tenant: "../x", Incarnation: 1}, ulid.Make(), good); !errors.Is(err, ErrOffer) {
		t.Errorf("a tenant that leads out: %v", err)
	}
	id := ulid.Make()
	taking, _, _, err := a.Take(leaver, acme, id, good)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := a.Take(leaver, acme, id, good); !errors.Is(err, ErrTaking) {
		t.Errorf("given twice at once: %v", err)
	}
	if err := taking.Write(0, 0, []byte("more")); !errors.Is(err, ErrOffer) {
		t.Errorf("more than was offered: %v", err)
	}
	if err := taking.Close(); err != nil {
		t.Fatal(err)
	}
}

func sealed(t *testing.T, c *clock, dir string) (*Adopted, []Block) {
	t.Helper()
	_, blocks := emptied(t, c)
	a := openAdopted(t, dir, c)
	for _, b := range blocks {
		if err := give(a, b, unspoiled); err != nil {
			t.Fatal(err)
		}
	}
	if missing, err := a.Seal(leaver, sealOf(blocks)); err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	return a, blocks
}

func TestAdoptedBlocksExpire(t *testing.T) {
	c := newClock(start)
	dir := t.TempDir()
	a, blocks := sealed(t, c, dir)
	keep := func(d time.Duration, over bool) func(Key) (time.Duration, bool) {
		return func(Key) (time.Duration, bool) { return d, over }
	}
	onDisk := func() int {
		left, err := BlocksIn(a.Path(leaver, acme))
		if err != nil {
			t.Fatal(err)
		}
		return len(left)
	}
	c.advance(50 * time.Hour)
	if err := a.Expire(keep(0, false)); err != nil || onDisk() != len(blocks) {
		t.Fatalf("for ever: %d left (%v)", onDisk(), err)
	}
	// The last window is the future's, three hours later.
	if err := a.Expire(keep(48*time.Hour, false)); err != nil || onDisk() != 1 {
		t.Fatalf("after two days: %d left (%v)", onDisk(), err)
	}
	if st := a.Status(leaver, acme); !st.Replayed || len(st.Gaps) > 0 {
		t.Fatalf("what has expired is no gap: %+v", st)
	}
	if got := heldFor(t, a); len(got["a"]) != 0 || len(got["b"]) != 1 {
		t.Fatalf("%v", got)
	}
	if err := a.Expire(keep(0, true)); err != nil || onDisk() != 0 {
		t.Fatalf("a deleted tenant: %d left (%v)", onDisk(), err)
	}
	if st := a.Status(leaver, acme); !st.Replayed || len(st.Gaps) > 0 {
		t.Fatalf("%+v", st)
	}
}

func TestAnAdoptedBlockThatIsSpoiledIsAGap(t *testing.T) {
	c := newClock(start)
	dir := t.TempDir()
	a, blocks := sealed(t, c, dir)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(a.Path(leaver, acme), blocks[0].ULID.String(), "index")
	if err := os.Truncate(index, 10); err != nil {
		t.Fatal(err)
	}
	// What a crash left of a removal, of a giving that is over, and of a block
	// that the seal does not name.
	for _, name := range []string{ulid.Make().String() + goneSuffix, ulid.Make().String() + partSuffix, ulid.Make().String()} {
		if err := os.Mkdir(filepath.Join(a.Path(leaver, acme), name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	a = openAdopted(t, dir, c)
	st := a.Status(leaver, acme)
	if !st.Replayed || len(st.Gaps) != 1 || st.Gaps[0].Mint != blocks[0].MinTime {
		t.Fatalf("%+v, want a gap from %d", st, blocks[0].MinTime)
	}
	left, err := os.ReadDir(a.Path(leaver, acme))
	if err != nil || len(left) != len(blocks) {
		t.Fatalf("%v: %v", left, err)
	}
	if err := a.Drop(leaver, nil); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 || len(a.Stores()) != 0 {
		t.Fatalf("after a drop: %v, %v", left, err)
	}
}

// TestAReaderKeepsABlock: what is read is not removed under the reader.
func TestAReaderKeepsABlock(t *testing.T) {
	c := newClock(start)
	a, _ := sealed(t, c, t.TempDir())
	q, err := a.ChunkQuerier(leaver, acme, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	dropped := make(chan error, 1)
	go func() { dropped <- a.Drop(leaver, nil) }()
	eventually(t, "the store is not listed", func() bool { return len(a.Stores()) == 0 })
	if got := samplesOf(t, q); !equalSamples(wholeOf(start.UnixMilli()), got) {
		t.Fatalf("read %v", got)
	}
	select {
	case err := <-dropped:
		t.Fatalf("dropped under a reader: %v", err)
	default:
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-dropped; err != nil {
		t.Fatal(err)
	}
}

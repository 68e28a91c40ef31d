package tsdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

var (
	// ErrTaking says that somebody gives this block already.
	ErrTaking = errors.New("this block is being given already")
	// ErrSpoiled says that what came is not what was offered; it was thrown away.
	ErrSpoiled = errors.New("block arrived spoiled")
	// ErrOffer says that the offer is none of a block.
	ErrOffer = errors.New("no block is like that")
)

// maxBlockFiles bounds an offer: chunk files have 64 MiB here.
const maxBlockFiles = 1 << 16

// maxBlockFile bounds one file of an offer, in bytes: all of them together fit
// into an int64.
const maxBlockFile = 1 << 46

// A Taking is one block while it comes in. Close ends it; what has come stays
// for the next one.
type Taking struct {
	a     *Adopted
	store StoreID
	key   Key
	id    ulid.ULID
	files []File
	dir   string // where it will be
	open  *os.File
	at    int   // the file that is open
	size  int64 // of what is written of it
}

// Take begins to take a block, or goes on. have is how many bytes of each file
// are here already; whole, that the block is. In that case there is no Taking.
func (a *Adopted) Take(store StoreID, key Key, id ulid.ULID, files []File) (t *Taking, have []int64, whole bool, err error) {
	if err := checkOffer(key, files); err != nil {
		return nil, nil, false, err
	}
	dir := filepath.Join(a.Path(store, key), id.String())
	a.mu.Lock()
	defer a.mu.Unlock()
	switch s := a.stores[store]; {
	case a.closed:
		return nil, nil, false, fmt.Errorf("take block %s: %w", id, ErrNotReady)
	case s != nil && s.blocks[key][id] != nil:
		return nil, nil, true, nil
	case a.taking[dir]:
		return nil, nil, false, ErrTaking
	case s == nil:
		a.stores[store] = newAdoptedStore()
	}
	t = &Taking{a: a, store: store, key: key, id: id, files: files, dir: dir, at: -1}
	if have, err = t.begin(); err != nil {
		return nil, nil, false, fmt.Errorf("take block %s: %w", id, err)
	}
	a.taking[dir] = true
	return t, have, false, nil
}

func checkOffer(key Key, files []File) error {
	if !key.valid() || len(files) > maxBlockFiles {
		return fmt.Errorf("%w: tenant %q, %d files", ErrOffer, key.Tenant, len(files))
	}
	seen := map[string]bool{}
	for _, f := range files {
		if !blockFile.MatchString(f.Path) || seen[f.Path] || f.Size < 0 || f.Size > maxBlockFile {
			return fmt.Errorf("%w: file %q of %d bytes", ErrOffer, f.Path, f.Size)
		}
		seen[f.Path] = true
	}
	if !seen[blockMeta] || !seen["index"] {
		return fmt.Errorf("%w: it has no index or no %s", ErrOffer, blockMeta)
	}
	return nil
}

// begin makes the directory and looks at what it has. A crash here leaves a
// directory that the next begin finds.
func (t *Taking) begin() ([]int64, error) {
	if err := os.MkdirAll(filepath.Join(t.part(), "chunks"), 0o700); err != nil {
		return nil, err
	}
	have := make([]int64, len(t.files))
	missing := t.a.cfg.MinFree
	for i, f := range t.files {
		info, err := os.Stat(t.path(i))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			have[i] = info.Size()
		}
		if have[i] > f.Size {
			if err := os.Remove(t.path(i)); err != nil {
				return nil, err
			}
			have[i] = 0
		}
		missing += f.Size - have[i]
	}
	if !roomy(t.part(), missing) {
		return nil, fmt.Errorf("%w: %d bytes are to come", errDiskFull, missing)
	}
	return have, nil
}

func (t *Taking) part() string { return t.dir + partSuffix }

func (t *Taking) path(i int) string {
	return filepath.Join(t.part(), filepath.FromSlash(t.files[i].Path))
}

// Write adds a piece to a file, at its end. A crash leaves a part of the piece,
// which counts as sent where the file is long enough, and is checked at the end.
func (t *Taking) Write(file int, offset int64, piece []byte) error {
	if file < 0 || file >= len(t.files) || offset+int64(len(piece)) > t.files[file].Size {
		return fmt.Errorf("%w: piece of file %d at %d, %d bytes", ErrOffer, file, offset, len(piece))
	}
	if t.at != file {
		if err := t.next(file); err != nil {
			return err
		}
	}
	if offset != t.size {
		return fmt.Errorf("%w: %s goes on at %d, not at %d", ErrOffer, t.files[file].Path, t.size, offset)
	}
	n, err := t.open.Write(piece)
	t.size += int64(n)
	if err != nil {
		return fmt.Errorf("write %s: %w", t.files[file].Path, err)
	}
	return nil
}

// next closes the open file, on the disk, and opens another one.
func (t *Taking) next(file int) error {
	if err := t.leave(); err != nil {
		return err
	}
	if file < 0 {
		return nil
	}
	if !roomy(t.part(), t.a.cfg.MinFree) {
		return errDiskFull
	}
	f, err := os.OpenFile(t.path(file), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	t.open, t.at, t.size = f, file, info.Size()
	return nil
}

func (t *Taking) leave() error {
	if t.open == nil {
		return nil
	}
	err := errors.Join(t.open.Sync(), t.open.Close())
	t.open, t.at = nil, -1
	return err
}

// Finish checks every file against the offer, has all of it on the disk, and
// puts the block in its place. What is not as it was offered is thrown away
// (ErrSpoiled): the giver sends it again.
//
// A crash before the rename: all is here, and the next Take comes to Finish at
// once. A crash after it: the block is whole, and the next Take says so.
func (t *Taking) Finish() error {
	if err := t.next(-1); err != nil {
		return err
	}
	t.a.work.Lock()
	defer t.a.work.Unlock()
	if err := t.check(); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Join(t.part(), "chunks"), t.part()} {
		if err := syncPath(dir); err != nil {
			return err
		}
	}
	if err := os.Rename(t.part(), t.dir); err != nil {
		return err
	}
	for dir := filepath.Dir(t.dir); len(dir) >= len(t.a.cfg.Dir); dir = filepath.Dir(dir) {
		if err := syncPath(dir); err != nil {
			return err
		}
	}
	b, err := promtsdb.OpenBlock(t.a.quiet(), t.dir, nil, nil)
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrSpoiled, err), removeDir(t.dir))
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	s := t.a.stores[t.store]
	if s == nil {
		return errors.Join(fmt.Errorf("take block %s: it is not wanted any more: %w", t.id, ErrNotReady), b.Close(), os.RemoveAll(t.dir))
	}
	s.put(t.key, t.id, b)
	return nil
}

// check reads everything back.
func (t *Taking) check() error {
	for i, f := range t.files {
		sum, err := checksumOf(t.path(i), f.Size)
		switch {
		case err == nil && sum == f.Checksum:
			// The bytes may have come by an earlier Taking, whose end synced nothing.
			if err := syncPath(t.path(i)); err != nil {
				return err
			}
			continue
		case err == nil:
			err = errors.New("checksum differs")
		}
		if rm := os.Remove(t.path(i)); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
		return fmt.Errorf("%w: %s: %w", ErrSpoiled, f.Path, err)
	}
	got, err := readBlock(t.part(), t.id)
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrSpoiled, err), os.RemoveAll(t.part()))
	}
	return t.strange(got)
}

// strange removes files that the offer does not name: an earlier offer did.
func (t *Taking) strange(b Block) error {
	files, err := b.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if !slices.ContainsFunc(t.files, func(o File) bool { return o.Path == f.Path }) {
			if err := os.Remove(filepath.Join(t.part(), filepath.FromSlash(f.Path))); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close lets others go on with the block.
func (t *Taking) Close() error {
	err := t.leave()
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	delete(t.a.taking, t.dir)
	return err
}

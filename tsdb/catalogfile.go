package tsdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// A catalogFile is the log of a catalog: a first line of text, and then a record
// for each description that was new, or was heard again after hours. Of several of
// one description the last one counts. Numbers are little-endian.
//
//	┌──────────┬─────────┬────────┬──────────────────────────────────────────┐
//	│ length 4 │ crc32c  │ seen 8 │ family, type, help, unit: each with its  │
//	│ of what  │ of what │ ms     │ length before it, a varint               │
//	│ is right │ is right│        │                                          │
//	│ of crc   │ 4       │        │                                          │
//	└──────────┴─────────┴────────┴──────────────────────────────────────────┘
//
// The process may end at any byte of it: a record that is not whole, or whose sum
// is wrong, ends the log, and the next write makes it anew. The log is made anew,
// beside the old one, which it then replaces, when most of it is said again later.
type catalogFile struct {
	path string
	size int
}

const (
	catalogName   = "metadata.log"
	catalogTitle  = "muster metadata 1\n"
	recordHead    = 8
	maxRecord     = 1 << 20
	smallCatalog  = 64 << 10 // below which it is not made anew for its size
	catalogBloat  = 3        // how many times its content it may be
	maxCatalogLog = catalogBloat*maxCatalogBytes + maxRecord
)

func catalogFileIn(dir string) catalogFile { return catalogFile{path: filepath.Join(dir, catalogName)} }

// read calls take for each record, in their order. whole is false where it ends
// with something that is none.
func (f *catalogFile) read(take func(description)) (whole bool, err error) {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read metadata: %w", err)
	}
	if info.Size() > maxCatalogLog {
		return false, nil
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return false, fmt.Errorf("read metadata: %w", err)
	}
	f.size = len(b)
	if len(b) < len(catalogTitle) || string(b[:len(catalogTitle)]) != catalogTitle {
		return false, nil
	}
	for b = b[len(catalogTitle):]; len(b) > 0; {
		d, rest, ok := cutDescription(b)
		if !ok {
			return false, nil
		}
		take(d)
		b = rest
	}
	return true, nil
}

// bloated says whether the log, with more bytes, is far larger than its content.
func (f *catalogFile) bloated(more, content int) bool {
	return f.size == 0 || f.size+more > max(smallCatalog, catalogBloat*content)
}

// append writes records behind the others.
func (f *catalogFile) append(records []byte) error {
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	n, err := file.Write(records)
	f.size += n
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	return nil
}

// rewrite replaces the log: after it, and after a crash, there is the old or the
// new one.
func (f *catalogFile) rewrite(all []description) error {
	b := []byte(catalogTitle)
	for _, d := range all {
		b = appendDescription(b, d)
	}
	tmp := f.path + ".tmp"
	file, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = file.Write(b)
		err = errors.Join(err, file.Sync(), file.Close())
	}
	if err == nil {
		err = os.Rename(tmp, f.path)
	}
	if err == nil {
		err = syncPath(filepath.Dir(f.path))
	}
	if err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	f.size = len(b)
	return nil
}

func (f *catalogFile) sync() error {
	if err := syncPath(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sync metadata: %w", err)
	}
	return nil
}

// appendDescription lays out a record.
func appendDescription(dst []byte, d description) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, recordHead)...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(d.seen))
	for _, s := range []string{d.Family, d.Type, d.Help, d.Unit} {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	body := dst[start+recordHead:]
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(dst[start+4:], crc32.Checksum(body, castagnoli))
	return dst
}

// cutDescription takes a record off the front.
func cutDescription(b []byte) (d description, rest []byte, ok bool) {
	if len(b) < recordHead {
		return d, nil, false
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n < 8 || n > maxRecord || n > len(b)-recordHead {
		return d, nil, false
	}
	body := b[recordHead : recordHead+n]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return d, nil, false
	}
	rest = b[recordHead+n:]
	d.seen = int64(binary.LittleEndian.Uint64(body))
	body = body[8:]
	for _, to := range []*string{&d.Family, &d.Type, &d.Help, &d.Unit} {
		n, k := binary.Uvarint(body)
		if k <= 0 || n > uint64(len(body)-k) {
			return d, nil, false
		}
		*to = string(body[k : k+int(n)])
		body = body[k+int(n):]
	}
	return d, rest, len(body) == 0
}

package ship

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// Ledger remembers which blocks of this data directory are safe: uploaded, read
// back, and recorded here on disk. Its file has one line per block, a checksum
// and JSON; it only grows at its end, and is rewritten in one rename when more
// than half of it is about blocks that are gone.
//
// A line that a crash tore or a disk spoiled is dropped when the file is opened:
// the block then counts as not safe, the next scan finds its meta.json in the
// bucket, verifies it and writes the line again.
//
// A Ledger may be used by many goroutines.
type Ledger struct {
	path    string
	dropped int // lines that load could not read

	mu      sync.Mutex
	file    *os.File
	size    int64 // of the part of the file that is whole lines
	lines   int
	entries map[blockKey]Entry
	broken  error // an append that could not be undone: no more appends
}

// Entry is one block that is safe.
type Entry struct {
	Tenant      string    `json:"tenant"`
	Incarnation uint64    `json:"incarnation"`
	Block       ulid.ULID `json:"block"`
	// Uploaded is the upload time that its meta.json carries, UTC; zero for a
	// block without samples, which has nothing to upload.
	Uploaded time.Time `json:"uploaded"`
	// Verified is when its meta.json was read back.
	Verified time.Time `json:"verified"`
}

type blockKey struct {
	tenant      string
	incarnation uint64
	block       ulid.ULID
}

func (e Entry) key() blockKey { return blockKey{e.Tenant, e.Incarnation, e.Block} }

const ledgerFile = "uploads"

// compactLines: a file with fewer lines is not worth a rewrite.
const compactLines = 1024

var checksums = crc32.MakeTable(crc32.Castagnoli)

// OpenLedger opens the ledger kept in dir, which is made where it is missing.
func OpenLedger(dir string) (*Ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil { //nolint:gosec // where the data directory is, its owner says.
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := &Ledger{path: filepath.Join(dir, ledgerFile), entries: map[blockKey]Entry{}}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", l.path, err)
	}
	return l, nil
}

// load reads the file. A file with an unreadable line is rewritten without it,
// so that nothing is ever appended to half a line.
func (l *Ledger) load() error {
	data, err := os.ReadFile(l.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	missing := err != nil
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		data = rest
		e, err := parseLine(line)
		if !whole || err != nil {
			l.dropped++
			continue
		}
		l.entries[e.key()] = e
		l.lines++
	}
	if missing || l.dropped > 0 {
		return l.rewrite()
	}
	return l.reopen()
}

func (l *Ledger) reopen() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	if l.file != nil {
		_ = l.file.Close() // every line of it is synced, or in the new file
	}
	l.file, l.size, l.broken = f, st.Size(), nil
	return nil
}

// rewrite replaces the file by one line per entry.
// A crash in it leaves the old file, which says the same.
func (l *Ledger) rewrite() error {
	err := replaceFile(l.path, func(w io.Writer) error {
		b := bufio.NewWriter(w)
		for _, e := range l.entries {
			if _, err := b.Write(appendLine(nil, e)); err != nil {
				return err
			}
		}
		return b.Flush()
	})
	if err != nil {
		return err
	}
	l.lines = len(l.entries)
	return l.reopen()
}

// Safe reports whether a block was uploaded and verified, and may be deleted
// from this disk.
func (l *Ledger) Safe(tenant string, incarnation uint64, block ulid.ULID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.entries[blockKey{tenant, incarnation, block}]
	return ok
}

// Len is the number of blocks it knows.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// Record makes a block safe. When it returns nil the line is on disk; when it
// returns an error the block is not safe, now or after a restart.
func (l *Ledger) Record(e Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return fmt.Errorf("record block %s: ledger is closed", e.Block)
	}
	if l.broken != nil {
		if err := l.rewrite(); err != nil {
			return fmt.Errorf("record block %s: mend ledger: %w", e.Block, err)
		}
	}
	line := appendLine(nil, e)
	// A crash in Write leaves half a line, which load drops; one between Write
	// and Sync leaves the line or nothing. Either way it is verified again.
	_, err := l.file.Write(line)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		if cut := l.file.Truncate(l.size); cut != nil {
			l.broken = cut
		}
		return fmt.Errorf("record block %s: %w", e.Block, err)
	}
	l.size += int64(len(line))
	l.lines++
	l.entries[e.key()] = e
	return nil
}

// Forget drops the entries for which gone says so: blocks that are no longer on
// this disk, about which nobody will ask again.
func (l *Ledger) Forget(gone func(Entry) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range l.entries {
		if gone(e) {
			delete(l.entries, k)
		}
	}
	if l.file == nil || l.lines < compactLines || l.lines < 2*len(l.entries) {
		return nil // their lines stay for a while; they harm nobody
	}
	if err := l.rewrite(); err != nil {
		return fmt.Errorf("rewrite ledger: %w", err)
	}
	return nil
}

// Close releases the file. Safe answers on.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

func appendLine(dst []byte, e Entry) []byte {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // plain strings, numbers and times of this century
	}
	dst = fmt.Appendf(dst, "%08x ", crc32.Checksum(body, checksums))
	return append(append(dst, body...), '\n')
}

var errLine = errors.New("unreadable line")

func parseLine(line []byte) (Entry, error) {
	sum, body, ok := bytes.Cut(line, []byte{' '})
	if !ok || string(sum) != fmt.Sprintf("%08x", crc32.Checksum(body, checksums)) {
		return Entry{}, errLine
	}
	var e Entry
	if err := json.Unmarshal(body, &e); err != nil {
		return Entry{}, errLine
	}
	return e, nil
}

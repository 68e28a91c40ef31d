package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"
)

// record is the newest revision that this node may have served by, kept on
// disk. It is a file of two places, written in turn, so that a write torn by a
// power cut leaves the one before it:
//
//	offset    0: revision (8 bytes, little endian) xxhash64 of them (8 bytes)
//	offset 4096: the same
//
// The file has its full size from the beginning: a full disk does not stop it.
type record struct {
	file *os.File
	last uint64
	next int // the place that the next write takes
}

const (
	recordPlace = 4096 // places lie on pages of their own
	recordBytes = 16
)

// openRecord opens the record or makes an empty one; it says 0 then.
func openRecord(path string) (*record, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the record of revisions: %w", err)
	}
	r := &record{file: f}
	if err := r.load(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func (r *record) load() error {
	if err := r.fill(); err != nil {
		return err
	}
	var b [recordBytes]byte
	for place := range 2 {
		if _, err := r.file.ReadAt(b[:], int64(place)*recordPlace); err != nil {
			return err
		}
		rev := binary.LittleEndian.Uint64(b[:8])
		if binary.LittleEndian.Uint64(b[8:]) == xxhash.Sum64(b[:8]) && rev > r.last {
			r.last, r.next = rev, 1-place
		}
	}
	return nil
}

// fill gives a new file its size; a shorter one is what a crash left of it.
func (r *record) fill() error {
	st, err := r.file.Stat()
	if err != nil || st.Size() >= 2*recordPlace {
		return err
	}
	if _, err := r.file.WriteAt(make([]byte, 2*recordPlace-st.Size()), st.Size()); err != nil {
		return err
	}
	if err := r.file.Sync(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(r.file.Name()))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Revision is what was recorded last.
func (r *record) Revision() uint64 { return r.last }

// Write makes rev durable. A smaller one than the last changes nothing.
func (r *record) Write(rev uint64) error {
	if rev <= r.last {
		return nil
	}
	var b [recordBytes]byte
	binary.LittleEndian.PutUint64(b[:8], rev)
	binary.LittleEndian.PutUint64(b[8:], xxhash.Sum64(b[:8]))
	if _, err := r.file.WriteAt(b[:], int64(r.next)*recordPlace); err != nil {
		return fmt.Errorf("record revision %d: %w", rev, err)
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("record revision %d: %w", rev, err)
	}
	r.last, r.next = rev, 1-r.next
	return nil
}

func (r *record) Close() error { return r.file.Close() }

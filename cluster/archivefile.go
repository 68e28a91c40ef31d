package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// SaveArchive makes the file, 0600, from what write writes: whole, synced, read
// back, decoded and compared with its checksum before it gets its name. A file
// that has the name already is replaced only then.
func SaveArchive(path string, write func(io.Writer) error) (a *Archive, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		var at *fs.PathError // of a name that nobody has chosen
		if errors.As(err, &at) {
			err = at.Err
		}
		return nil, fmt.Errorf("save the snapshot in %s: %w", filepath.Dir(path), err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("save the snapshot: %w", err)
	}
	if a, err = OpenArchive(f.Name()); err != nil {
		return nil, fmt.Errorf("verify the snapshot that was written: %w", err)
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return nil, fmt.Errorf("save the snapshot: %w", err)
	}
	return a, syncDir(filepath.Dir(path))
}

// OpenArchive reads the archive in a file to its end.
func OpenArchive(path string) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the snapshot: %w", err)
	}
	defer f.Close()
	a, err := ReadArchive(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

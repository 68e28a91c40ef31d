package pki

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// KeepIn copies what Leave forgets, the certificate, the CAs and the CA's key,
// into another directory (0700), for whoever has to go back. What is not there is
// left out.
func (d *Dir) KeepIn(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the pki directory: %w", err)
	}
	for _, name := range []string{nodeFile, caKeyFile, nextKeyFile, caFile} {
		text, err := d.load(name)
		if errors.Is(err, ErrAbsent) {
			continue
		}
		if err == nil {
			err = writeFile(filepath.Join(dir, name), text)
		}
		if err != nil {
			return fmt.Errorf("keep the pki directory: %w", err)
		}
	}
	return syncDir(filepath.Dir(dir))
}

// DropKept removes the CA's keys from what KeepIn has copied.
func DropKept(dir string) error {
	for _, name := range []string{nextKeyFile, caKeyFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("drop the CA's key: %w", err)
		}
	}
	return syncDir(dir)
}

package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// folder is a node's data directory, locked for as long as it is open.
type folder struct {
	path  string
	lock  *os.File
	store [16]byte
}

// openFolder makes the directory where it is missing, locks it, and reads or
// makes the id of the store in it. A crash before the id is durable leaves a
// folder without samples, which gets another id.
func openFolder(path string) (*folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // a folder wants its x
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := lockFolder(path)
	if err != nil {
		return nil, err
	}
	f := &folder{path: path, lock: lock}
	if f.store, err = storeID(filepath.Join(path, "store_id")); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// Close unlocks the folder.
func (f *folder) Close() { f.lock.Close() }

func (f *folder) join(name string) string { return filepath.Join(f.path, name) }

// storeID reads 16 bytes in hex, or makes them durable before anybody uses them.
func storeID(path string) (id [16]byte, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := rand.Read(id[:]); err != nil {
			return id, err
		}
		return id, writeDurably(path, fmt.Appendf(nil, "%x\n", id))
	}
	if err != nil {
		return id, err
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("%s does not hold a store's id: this folder was damaged; move it away and join with --replace", path)
	}
	copy(id[:], raw)
	return id, nil
}

// writeDurably replaces a file so that a crash leaves the old or the new one.
func writeDurably(path string, text []byte) error {
	tmp, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, werr := tmp.Write(text)
	if err := errors.Join(werr, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// addresses are those really bound, for scripts and for :0.
type addresses struct {
	Node  string `json:"node"`
	Write string `json:"remote_write"`
	HTTP  string `json:"http"`
	GRPC  string `json:"grpc"`
	Peer  string `json:"peer"`
}

func (f *folder) saveAddresses(a addresses) error {
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return writeDurably(f.join("addresses.json"), append(b, '\n'))
}

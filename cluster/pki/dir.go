package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names in a node's pki directory.
const (
	caKeyFile   = "ca.key"
	nextKeyFile = "ca.next.key"
	caFile      = "ca.pem"
	nodeKeyFile = "node.key"
	nodeFile    = "node.pem"
)

// ErrAbsent is returned for what the directory does not hold (yet).
var ErrAbsent = errors.New("not there")

// Dir is a node's pki directory (0700, files 0600). Writes replace a file whole
// and are on the disk when they return. One process uses it at a time.
type Dir struct{ path string }

// OpenDir opens the directory and makes it where it is missing.
func OpenDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make pki directory: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // a directory is entered by its x
		return nil, fmt.Errorf("protect pki directory: %w", err)
	}
	if err := removeTorn(path); err != nil {
		return nil, fmt.Errorf("clean pki directory: %w", err)
	}
	return &Dir{path}, nil
}

// removeTorn removes what a crash left of writes that were never finished: it may
// hold a key.
func removeTorn(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, name := range []string{caKeyFile, nextKeyFile, caFile, nodeKeyFile, nodeFile} {
		for _, entry := range entries {
			if torn, _ := filepath.Match(temporary(name), entry.Name()); torn {
				if err := os.Remove(filepath.Join(path, entry.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// temporary is the pattern of the names that a file has while it is written.
func temporary(name string) string { return "." + name + ".*" }

// Key is the node's key. It is made once, by the first call.
func (d *Dir) Key() (*Key, error) {
	key, err := d.loadKey(nodeKeyFile)
	if !errors.Is(err, ErrAbsent) {
		return key, err
	}
	if key, err = NewKey(); err != nil {
		return nil, err
	}
	return key, d.saveKey(nodeKeyFile, key)
}

// CA is the CA with its key; ErrAbsent on a node that has not been given it.
func (d *Dir) CA() (*CA, error) {
	key, err := d.loadKey(caKeyFile)
	if err != nil {
		return nil, err
	}
	bundle, err := d.Bundle()
	if err != nil {
		return nil, err
	}
	return NewCAFrom(bundle, key)
}

// SaveCAKey keeps the CA's key: this node is to be a voter.
func (d *Dir) SaveCAKey(key *Key) error { return d.saveKey(caKeyFile, key) }

// DropCAKey forgets the CA's key: this node is no voter any more.
func (d *Dir) DropCAKey() error { return errors.Join(d.remove(nextKeyFile), d.remove(caKeyFile)) }

// NextCAKey is the key of a CA to come. It is made by the first call and stays
// the same until SettleCAKey: whichever attempt to bring in the new CA succeeds,
// its key is here.
func (d *Dir) NextCAKey() (*Key, error) {
	key, err := d.loadKey(nextKeyFile)
	if !errors.Is(err, ErrAbsent) {
		return key, err
	}
	if key, err = NewKey(); err != nil {
		return nil, err
	}
	return key, d.saveKey(nextKeyFile, key)
}

// SettleCAKey makes the key of the CA to come the CA's key, once that CA is the
// newest that this node believes.
func (d *Dir) SettleCAKey() error {
	key, err := d.loadKey(nextKeyFile)
	if errors.Is(err, ErrAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	bundle, err := d.Bundle()
	if err != nil {
		return err
	}
	if _, err := NewCAFrom(bundle.Newest(), key); err != nil {
		return nil //nolint:nilerr // it has not come yet
	}
	if err := os.Rename(filepath.Join(d.path, nextKeyFile), filepath.Join(d.path, caKeyFile)); err != nil {
		return fmt.Errorf("settle the CA's key: %w", err)
	}
	return syncDir(d.path)
}

// Bundle is the CAs that this node believes.
func (d *Dir) Bundle() (*Bundle, error) {
	text, err := d.load(caFile)
	if err != nil {
		return nil, err
	}
	return ParseBundle(text)
}

// SaveBundle replaces the CAs that this node believes.
func (d *Dir) SaveBundle(bundle *Bundle) error { return d.save(caFile, bundle.PEM()) }

// Credentials are the node's own; ErrAbsent before it belongs to a cluster. A
// certificate that has run out is returned too: it is what a renewal shows.
func (d *Dir) Credentials() (*Credentials, error) {
	chain, err := d.load(nodeFile)
	if err != nil {
		return nil, err
	}
	key, err := d.loadKey(nodeKeyFile)
	if err != nil {
		return nil, err
	}
	bundle, err := d.Bundle()
	if err != nil {
		return nil, err
	}
	return NewCredentials(chain, key, bundle)
}

// SaveCertificate replaces the node's certificate (PEM, as Sign gave it), after a
// check that it belongs to the node's key and to a CA that the node believes.
func (d *Dir) SaveCertificate(chain []byte) (*Credentials, error) {
	key, err := d.loadKey(nodeKeyFile)
	if err != nil {
		return nil, err
	}
	bundle, err := d.Bundle()
	if err != nil {
		return nil, err
	}
	credentials, err := NewCredentials(chain, key, bundle)
	if err != nil {
		return nil, fmt.Errorf("save certificate: %w", err)
	}
	return credentials, d.save(nodeFile, chain)
}

// Leave forgets the cluster: certificate, CAs and the CA's key. The node's own
// key stays.
func (d *Dir) Leave() error {
	return errors.Join(d.remove(nodeFile), d.DropCAKey(), d.remove(caFile))
}

func (d *Dir) loadKey(name string) (*Key, error) {
	text, err := d.load(name)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(d.path, name), err)
	}
	return key, nil
}

func (d *Dir) saveKey(name string, key *Key) error {
	text, err := key.PEM()
	if err != nil {
		return err
	}
	return d.save(name, text)
}

func (d *Dir) load(name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", filepath.Join(d.path, name), ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("load from pki directory: %w", err)
	}
	return text, nil
}

func (d *Dir) save(name string, text []byte) error {
	if err := writeFile(filepath.Join(d.path, name), text); err != nil {
		return fmt.Errorf("save to pki directory: %w", err)
	}
	return nil
}

func (d *Dir) remove(name string) error {
	err := os.Remove(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove from pki directory: %w", err)
	}
	return syncDir(d.path)
}

// writeFile replaces path with text: a reader, also after a crash, finds the old
// bytes or the new ones. CreateTemp makes files of mode 0600.
func writeFile(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), temporary(filepath.Base(path)))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(text); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

package pki

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func openTestDir(t *testing.T) *Dir {
	t.Helper()
	dir, err := OpenDir(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDirKeepsOneKeyForItsLife(t *testing.T) {
	dir := openTestDir(t)
	first, err := dir.Key()
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenDir(dir.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Leave(); err != nil {
		t.Fatal(err)
	}
	second, err := again.Key()
	if err != nil || !bytes.Equal(first.Hash(), second.Hash()) {
		t.Errorf("another key: %v", err)
	}
}

func TestDirIsClosedToOthers(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, "pki")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	join(t, dir, newTestCA(t))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "ca.key ca.pem node.key node.pem" {
		t.Errorf("files: %s", got)
	}
}

// join gives dir all that a voter's directory has.
func join(t *testing.T, dir *Dir, ca *CA) *Credentials {
	t.Helper()
	key, err := dir.Key()
	if err != nil {
		t.Fatal(err)
	}
	der, err := NewRequest(key, "n1")
	if err != nil {
		t.Fatal(err)
	}
	req, err := ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Sign(req, n1, noon)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dir.SaveBundle(ca.Bundle()), dir.SaveCAKey(ca.Key())); err != nil {
		t.Fatal(err)
	}
	credentials, err := dir.SaveCertificate(chain)
	if err != nil {
		t.Fatal(err)
	}
	return credentials
}

func TestDirComesAndGoes(t *testing.T) {
	dir, ca := openTestDir(t), newTestCA(t)
	if _, err := dir.Credentials(); !errors.Is(err, ErrAbsent) {
		t.Errorf("credentials of nobody: %v", err)
	}
	if _, err := dir.CA(); !errors.Is(err, ErrAbsent) {
		t.Errorf("CA of nobody: %v", err)
	}
	join(t, dir, ca)
	credentials, err := dir.Credentials()
	if err != nil || credentials.Identity != n1 || len(credentials.Certificate.Certificate) != 2 {
		t.Fatalf("credentials %v, %v", credentials, err)
	}
	if !credentials.RenewAt().Before(credentials.Expires()) {
		t.Error("renewal comes after the end")
	}
	again, err := dir.CA()
	if err != nil || again.Fingerprint() != ca.Fingerprint() {
		t.Errorf("CA: %v", err)
	}
	if err := errors.Join(dir.DropCAKey(), dir.DropCAKey()); err != nil {
		t.Error(err)
	}
	if _, err := dir.CA(); !errors.Is(err, ErrAbsent) {
		t.Errorf("CA after its key was dropped: %v", err)
	}
	if err := dir.Leave(); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Credentials(); !errors.Is(err, ErrAbsent) {
		t.Errorf("credentials after leaving: %v", err)
	}
}

func TestDirRefusesAnothersCertificate(t *testing.T) {
	dir, ca := openTestDir(t), newTestCA(t)
	mine := join(t, dir, ca)
	_, req := newTestRequest(t)
	foreign, err := ca.Sign(req, n1, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.SaveCertificate(foreign); err == nil {
		t.Error("a certificate of another key was saved")
	}
	key, err := dir.Key()
	if err != nil {
		t.Fatal(err)
	}
	der, err := NewRequest(key, "n1")
	if err != nil {
		t.Fatal(err)
	}
	own, err := ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := newTestCA(t).Sign(own, n1, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.SaveCertificate(elsewhere); err == nil {
		t.Error("a certificate of a CA that the node does not believe was saved")
	}
	if now, err := dir.Credentials(); err != nil || !now.Certificate.Leaf.Equal(mine.Certificate.Leaf) {
		t.Errorf("the refused certificate replaced the good one: %v", err)
	}
}

func TestOpenDirRemovesTornWrites(t *testing.T) {
	dir := openTestDir(t)
	torn := filepath.Join(dir.path, ".ca.key.123")
	kept := filepath.Join(dir.path, ".notes")
	for _, path := range []string{torn, kept} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenDir(dir.path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(torn); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", torn, err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("%s is gone: %v", kept, err)
	}
}

func TestDamagedKeyIsNamedAndNotReplaced(t *testing.T) {
	dir := openTestDir(t)
	path := filepath.Join(dir.path, nodeKeyFile)
	if err := os.WriteFile(path, []byte("-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Key(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name %s", err, path)
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Contains(text, []byte("aGVsbG8")) {
		t.Errorf("the key was replaced: %v", err)
	}
}

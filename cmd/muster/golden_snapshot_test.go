package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A snapshot is saved, looked into and put back, as the manual types it.
func TestSnapshotCommands(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1)
	file := filepath.Join(b.dir, "b.snapshot")
	b.story(t, "snapshot", 0,
		"tenant create team-a --retention 30d",
		"tenant create team-z",
		"tenant create team-d",
		"ring create hard --tenants team-a --replication-factor 1 --slots 64",
		"snapshot save "+file,
		"snapshot save "+file,
		"snapshot inspect "+file,
		"tenant delete team-z",
		"tenant set team-a --retention 1d",
		"tenant create team-new",
		"ring set hard --tenants team-a,team-d",
		"settings set max_tenants=77",
		"snapshot restore "+file+" --dry-run",
		"snapshot restore "+file+" --dry-run --prune",
		"snapshot restore "+file,
		"snapshot restore "+file,
		"snapshot restore "+file+" --prune -o json",
		"snapshot restore "+file+" --confirm prod",
	)
	require.Equal(t, os.FileMode(0o600), stat(t, file).Mode().Perm())
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	spoil := func(name string, text []byte) string {
		path := filepath.Join(b.dir, name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return path
	}
	b.story(t, "snapshot_errors", 0,
		"snapshot inspect "+spoil("cut", whole[:100]),
		"snapshot restore "+spoil("damaged", bytes.Replace(whole, []byte("team-d"), []byte("team-e"), 1)),
		"snapshot inspect "+spoil("other", []byte("hello\n")),
		"snapshot inspect "+filepath.Join(b.dir, "nothing"),
		"snapshot save "+filepath.Join(b.dir, "no", "folder"),
		"snapshot save",
		"snapshot restore "+spoil("foreign", foreign(t))+" --dry-run",
		"snapshot restore "+filepath.Join(b.dir, "foreign")+" --dry-run --confirm test",
	)
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	st, err := os.Stat(path)
	require.NoError(t, err)
	return st
}

// foreign is another cluster's snapshot.
func foreign(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "cluster", "testdata", "archive.snapshot"))
	require.NoError(t, err)
	return text
}

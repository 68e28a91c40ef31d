package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAFolderInUseNamesWhoHasIt(t *testing.T) {
	dir := t.TempDir()
	// What a killed process has left holds nobody up.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lock"), []byte("4242\nlong ago\n"), 0o600))
	f, err := openFolder(dir)
	require.NoError(t, err)
	_, err = openFolder(dir)
	var told *failure
	require.ErrorAs(t, err, &told)
	require.Contains(t, told.Text, dir)
	require.NotContains(t, told.Text, "4242")
	require.WithinDuration(t, time.Now(), must(time.Parse(time.RFC3339, told.Since))(t), time.Minute)
	require.Contains(t, told.Next, "--data-dir")
	f.Close()
	f, err = openFolder(dir)
	require.NoError(t, err, "it is free again")
	f.Close()

	at := time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)
	told = inUse("/var/lib/muster", holder{4242, at, "muster server"}, nil)
	require.Equal(t, "data folder /var/lib/muster is in use by process 4242 (muster server)", told.Text)
	require.Equal(t, "stop that server (systemctl stop muster, or kill 4242), or give this one another --data-dir", told.Next)
	require.Equal(t, holder{4242, at, "muster server"}, holderOf(holder{4242, at, "muster server"}.String()))
	require.Equal(t, holder{PID: 17}, holderOf("17\n"), "a folder of an earlier release")
	require.NotContains(t, inUse("d", holderOf(""), nil).Text, "process 0")
	require.Equal(t, "muster server", command([]string{"/usr/bin/muster", "server", "--objstore.config", "secret"}))
	require.False(t, strings.Contains(command([]string{"muster", "--objstore.config=secret"}), "secret"))
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		require.NoError(t, err)
		return v
	}
}

package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/ship"
)

func TestTheShelfIsAFolderOfTheBucket(t *testing.T) {
	dir := t.TempDir()
	bucket, err := ship.OpenBucket(fmt.Appendf(nil, "{type: FILESYSTEM, config: {directory: %q}}", dir), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	s := shelf{bucket}
	names, err := s.List(t.Context(), "id")
	require.NoError(t, err)
	require.Empty(t, names)
	for _, name := range []string{"id/a.snapshot", "id/b.snapshot", "other/c.snapshot"} {
		require.NoError(t, s.Put(t.Context(), name, strings.NewReader("x")))
	}
	require.NoError(t, s.Delete(t.Context(), "id/a.snapshot"))
	names, err = s.List(t.Context(), "id")
	require.NoError(t, err)
	require.Equal(t, []string{"b.snapshot"}, names)
	require.FileExists(t, filepath.Join(dir, "muster", "snapshots", "id", "b.snapshot"))
}

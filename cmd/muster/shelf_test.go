package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"
)

func TestTheShelfIsAFolderOfTheBucket(t *testing.T) {
	bucket := objstore.NewInMemBucket()
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
	require.Contains(t, bucket.Objects(), "muster/snapshots/id/b.snapshot")
}

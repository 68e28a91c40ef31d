package cluster

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestTheNewestControlStatesAreKept: no more, and nothing else goes.
func TestTheNewestControlStatesAreKept(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i := range 6 {
		name := bakName(time.Unix(int64(1e9+i*86400*40), 0))
		if err := os.MkdirAll(filepath.Join(dir, name, "pki"), 0o700); err != nil {
			t.Fatal(err)
		}
		if i >= 6-keptBaks {
			want = append(want, name)
		}
	}
	for _, other := range []string{"raft", "raft.bak-mine", "tenants"} {
		if err := os.Mkdir(filepath.Join(dir, other), 0o700); err != nil {
			t.Fatal(err)
		}
		want = append(want, other)
	}
	if err := dropOldBaks(dir); err != nil {
		t.Fatal(err)
	}
	var got []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("left: %v, want %v", got, want)
	}
}

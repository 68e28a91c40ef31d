package tsdb

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

func newContext(t testing.TB) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithCancel(t.Context())
}

// smallDisk mounts a disk of its own, or skips the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		t.Skipf("SKIPPED: a full disk cannot be tried, mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes what is left of the disk but keep bytes; free gives it back.
func fill(t *testing.T, dir string, keep int64) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, int64(st.Bavail)*st.Bsize-keep), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReserveFailsAppendsBeforeTheDiskIsFull(t *testing.T) {
	dir := smallDisk(t, "160m")
	reg := prometheus.NewRegistry()
	db := reopenDB(t, Config{Dir: filepath.Join(dir, "tsdb"), MinFree: 80 << 20, Reg: reg})
	base := start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}}})
	free := fill(t, dir, 79<<20)
	out := []Outcome{99}
	if _, err := db.Append(t.Context(), acme, shareOf(series{metric("up"), []sample{{base + 1, 2}}}), false, out); !errors.Is(err, errDiskFull) {
		t.Fatalf("error %v", err)
	}
	expect(t, out, Failed)
	expectHeld(t, db, `{__name__="up"}`, sample{base, 1})
	// The reserve is there for blocks.
	if err := db.Cut(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	free()
	mustStore(t, db, series{metric("up"), []sample{{base + 1, 2}}})
	expectHeld(t, db, `{__name__="up"}`, sample{base, 1}, sample{base + 1, 2})
}

// Without a reserve the log itself meets the full disk.
func TestFullDiskFailsAppends(t *testing.T) {
	disk := smallDisk(t, "24m")
	cfg := Config{Dir: filepath.Join(disk, "tsdb"), MinFree: -1}
	db := New(cfg)
	db.SetTenants([]Settings{{Key: acme}}, nil)
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	base := start.UnixMilli()
	var want []sample
	for i := range int64(20) {
		want = append(want, sample{base + i*1000, float64(i)})
	}
	mustStore(t, db, series{metric("up"), want})
	mustStore(t, db, series{metric("up"), []sample{{base - 1, -1}}}) // the write-behind log is open
	want = append([]sample{{base - 1, -1}}, want...)
	free := fill(t, disk, 0)

	// Small writes fit into the last page for a while; then they must fail.
	failed := false
	for i := int64(0); i < 3000 && !failed; i++ {
		at := base + 100_000 + i
		next := sample{at, float64(i)}
		out := []Outcome{99}
		_, err := db.Append(t.Context(), acme, shareOf(series{metric("up"), []sample{next}}), false, out)
		switch {
		case out[0] == Stored && err == nil:
			want = append(want, next)
		case out[0] == Failed && err != nil:
			failed = true
		default:
			t.Fatalf("outcome %v, error %v", out[0], err)
		}
	}
	if !failed {
		t.Fatal("a full disk takes samples for ever")
	}
	contains(t, db, want) // reads go on
	out := []Outcome{99}
	if _, err := db.Append(t.Context(), acme, shareOf(series{metric("up"), []sample{{base + 200_000, 1}}}), false, out); err == nil || out[0] != Failed {
		t.Fatalf("outcome %v, error %v", out[0], err)
	}

	free()
	again := sample{base + 300_000, 1}
	eventually(t, "writes go on", func() bool {
		out := []Outcome{99}
		_, err := db.Append(t.Context(), acme, shareOf(series{metric("up"), []sample{again}}), false, out)
		return err == nil && out[0] == Stored
	})
	want = append(want, again)
	contains(t, db, want)
	closeDB(t, db)
	db = New(cfg)
	db.SetTenants([]Settings{{Key: acme}}, nil)
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	contains(t, db, want)
	closeDB(t, db)
}

// A log that cannot be written, by itself: its file is swapped for /dev/full.
func TestFailedLogWriteFailsAppends(t *testing.T) {
	for _, log := range []string{walName, wblName} {
		t.Run(log, func(t *testing.T) {
			db := openDB(t)
			base := start.UnixMilli()
			want := []sample{{base - 1, -1}, {base, 1}}
			mustStore(t, db, series{metric("up"), want[1:]})
			mustStore(t, db, series{metric("up"), want[:1]})
			first := db.Status(acme).Opening
			mend := breakLog(t, filepath.Join(db.Path(acme), log))

			// The third sample must wait for the first, and goes to the second log.
			s := shareOf(series{metric("up"), []sample{{base + 1, 2}}}, series{metric("new"), []sample{{base - 2, 2}}},
				series{metric("up"), []sample{{base - 2, 2}}}, series{nil, []sample{{base, 1}}})
			out := make([]Outcome, 4)
			_, err := db.Append(t.Context(), acme, s, false, out)
			if err == nil {
				t.Fatal("no error")
			}
			if log == walName {
				expect(t, out[:3], Failed, Failed, Failed)
			} else { // the first appender had nothing out of order
				expect(t, out[:3], Stored, Stored, Failed)
			}
			contains(t, db, want)
			mend()

			// The tenant is reopened, with all that was stored, and goes on.
			eventually(t, "writes go on", func() bool {
				_, err := db.Append(t.Context(), acme, s, false, out)
				return err == nil
			})
			expect(t, out, Stored, Stored, Stored, BadLabels)
			if db.Status(acme).Opening == first {
				t.Fatal("the torn log was written on")
			}
			contains(t, db, append(want, sample{base + 1, 2}, sample{base - 2, 2}))
		})
	}
}

// breakLog lets every write to the newest segment in dir fail for want of space,
// until mend.
func breakLog(t *testing.T, dir string) (mend func()) {
	t.Helper()
	full, err := unix.Open("/dev/full", unix.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED: no /dev/full: %v", err)
	}
	defer unix.Close(full)
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("SKIPPED: no /proc: %v", err)
	}
	var fds []int // all found before any is duplicated: a duplicate would be found too
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err != nil || filepath.Dir(target) != dir {
			continue
		}
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	broken := map[int]int{} // by what was there before
	for _, fd := range fds {
		kept, err := unix.Dup(fd)
		if err == nil {
			err = unix.Dup3(full, fd, unix.O_CLOEXEC)
		}
		if err != nil {
			t.Fatal(err)
		}
		broken[fd] = kept
	}
	if len(broken) == 0 {
		t.Fatal("no segment is open")
	}
	return func() {
		for fd, kept := range broken {
			if err := errors.Join(unix.Dup3(kept, fd, unix.O_CLOEXEC), unix.Close(kept)); err != nil {
				t.Error(err)
			}
		}
	}
}

// contains: what was stored is held; what failed may be, or not.
func contains(t testing.TB, db *DB, want []sample) {
	t.Helper()
	have := map[sample]bool{}
	for _, s := range held(t, db, acme)[`{__name__="up"}`] {
		have[s] = true
	}
	for _, s := range want {
		if !have[s] {
			t.Fatalf("%v was stored, and is not held", s)
		}
	}
}

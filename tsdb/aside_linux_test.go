package tsdb

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhatIsDoneAsideGivesWay: the work runs with the least priority, and nothing
// else does afterwards.
func TestWhatIsDoneAsideGivesWay(t *testing.T) {
	nice := func() int {
		t.Helper()
		n, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
		if err != nil {
			t.Fatal(err)
		}
		return 20 - n // the system call answers 40..1 for -20..19
	}
	before, failed := nice(), errors.New("failed")
	for range 50 {
		var during int
		if err := aside(func() error { during = nice(); return failed }); !errors.Is(err, failed) {
			t.Fatalf("got %v", err)
		}
		if during != 19 {
			t.Fatalf("it ran at priority %d", during)
		}
		if after := nice(); after != before {
			t.Fatalf("priority %d afterwards, %d before", after, before)
		}
	}
}

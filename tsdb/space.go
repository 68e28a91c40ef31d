package tsdb

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// roomy reports whether the disk under dir has more than reserve bytes free for
// this process. Where the system does not say, it has.
func roomy(dir string, reserve int64) bool {
	if reserve <= 0 {
		return true
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return true
	}
	return st.Bavail*uint64(st.Bsize) > uint64(reserve)
}

// kernelBootID tells this start of the machine from others. Where the system has
// none, every start of the process counts as one of the machine: a gap too many
// is honest, one too few is not.
func kernelBootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

package cluster

import (
	"os"
	"syscall"
)

// allocate gives the file size bytes of real blocks.
func allocate(f *os.File, size int64) error {
	return syscall.Fallocate(int(f.Fd()), 0, 0, size)
}

package main

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// leastMemory is what a node cannot do without.
const leastMemory = 128 << 20

// memoryOf is how much memory the system gives this process, in bytes: what its
// control group or one above may have, and no more than the machine has. root is
// the file system's. 0: nobody says.
func memoryOf(root fs.FS) int64 {
	least := machineMemory(root)
	b, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(b)) {
		// 0::/path, or 4:memory:/path where groups are of the first version.
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		switch controllers {
		case "":
			least = leastOf(least, groupMemory(root, "sys/fs/cgroup", group, "memory.max"))
		case "memory":
			least = leastOf(least, groupMemory(root, "sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
		}
	}
	return least
}

// groupMemory is the least that a group and those above it may have. In a
// container the group's path is often that of the host, of which only the end, or
// the root, is there.
func groupMemory(root fs.FS, mount, group, file string) (least int64) {
	for at := path.Clean("/" + group); ; at = path.Dir(at) {
		if b, err := fs.ReadFile(root, path.Join(mount, at, file)); err == nil {
			n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64) // "max" is none
			least = leastOf(least, n)
		}
		if at == "/" {
			return least
		}
	}
}

// machineMemory is all of the machine's.
func machineMemory(root fs.FS) int64 {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// leastOf is the smaller of two; 0 is no bound.
func leastOf(a, b int64) int64 {
	if a <= 0 || b <= 0 {
		return max(a, b, 0)
	}
	return min(a, b)
}

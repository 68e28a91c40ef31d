package fleet

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ: 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// Usage is what a process has used, by the system's own accounting.
type Usage struct {
	User, System time.Duration
	RSS          int64 // bytes
}

// CPU is user and system time together.
func (u Usage) CPU() time.Duration { return u.User + u.System }

// UsageOf reads /proc/PID/stat.
func UsageOf(pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	// The command's name is in brackets and may hold spaces; fields follow it.
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 22 {
		return Usage{}, fmt.Errorf("/proc/%d/stat is not as expected", pid)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	pages, err3 := strconv.ParseInt(fields[21], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return Usage{}, fmt.Errorf("/proc/%d/stat is not as expected", pid)
	}
	tick := time.Second / ticksPerSecond
	return Usage{time.Duration(user) * tick, time.Duration(system) * tick, pages * int64(os.Getpagesize())}, nil
}

// OwnMemoryOf is the bytes of a process that no file backs: what the system cannot
// take back when it wants memory for something else.
func OwnMemoryOf(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		rest, ok := strings.CutPrefix(line, "RssAnon:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		return kib << 10, err
	}
	return 0, fmt.Errorf("/proc/%d/status has no RssAnon", pid)
}

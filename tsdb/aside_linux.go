package tsdb

import "golang.org/x/sys/unix"

// giveWay takes the least priority for the current thread. On Linux it is a
// thread's own (setpriority(2), "C library/kernel differences"). Where it is
// refused the work is done all the same.
func giveWay() { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19) }

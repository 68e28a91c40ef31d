package fleet

import (
	"os/exec"
	"runtime"
	"sync"
)

// spawner starts processes from one thread that never ends: the kernel sends
// the parent-death signal when the starting *thread* ends, and Go's come and go.
var spawner = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go Spawn(jobs)
	return jobs
})

// Spawn does the jobs on a thread of its own. It is named so that a test that
// looks for forgotten goroutines can know it.
func Spawn(jobs <-chan func()) {
	runtime.LockOSThread()
	for job := range jobs {
		job()
	}
}

// StartProcess starts a process that may carry a parent-death signal.
func StartProcess(cmd *exec.Cmd) error {
	err := make(chan error, 1)
	spawner() <- func() { err <- cmd.Start() }
	return <-err
}

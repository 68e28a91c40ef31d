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
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// StartProcess starts a process that may carry a parent-death signal.
func StartProcess(cmd *exec.Cmd) error {
	err := make(chan error, 1)
	spawner() <- func() { err <- cmd.Start() }
	return <-err
}

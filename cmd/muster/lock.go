package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// holder is who has a data folder open, as the file `lock` in it says: process,
// time and command, a line each. The kernel's lock on the file counts, not what
// it says: what a killed process has left there holds nobody up.
type holder struct {
	PID     int
	Since   time.Time
	Command string
}

func (h holder) String() string {
	return fmt.Sprintf("%d\n%s\n%s\n", h.PID, h.Since.UTC().Format(time.RFC3339), h.Command)
}

// holderOf reads what holder.String wrote, as far as it goes.
func holderOf(text string) (h holder) {
	lines := append(strings.Split(text, "\n"), "", "", "")
	h.PID, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	h.Since, _ = time.Parse(time.RFC3339, lines[1])
	h.Command = lines[2]
	return h
}

// command is what this process was started as, without what its flags say: a
// bucket's keys may be among that.
func command(argv []string) string {
	name := filepath.Base(argv[0])
	if len(argv) > 1 && !strings.HasPrefix(argv[1], "-") {
		name += " " + argv[1]
	}
	return name
}

// lockFolder takes the folder for this process, for as long as the file is open.
func lockFolder(path string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		text, _ := os.ReadFile(lock.Name())
		lock.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w (a network file system may know no locks; the folder belongs on a disk of this machine)", lock.Name(), err)
		}
		return nil, inUse(path, holderOf(string(text)), err)
	}
	me := holder{os.Getpid(), time.Now(), command(os.Args)}
	if err := errors.Join(lock.Truncate(0), writeAt(lock, me.String())); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return lock, nil
}

// inUse says who has the folder, and what to do.
func inUse(path string, h holder, cause error) *failure {
	f := &failure{
		Code: exitFailed, cause: cause,
		Text: fmt.Sprintf("data folder %s is in use by another process", path),
		Next: "stop that server, or give this one another --data-dir",
	}
	if h.PID == 0 {
		return f
	}
	f.Text = fmt.Sprintf("data folder %s is in use by process %d", path, h.PID)
	if h.Command != "" {
		f.Text += " (" + h.Command + ")"
	}
	if !h.Since.IsZero() {
		f.Since = h.Since.UTC().Format(time.RFC3339)
	}
	f.Next = fmt.Sprintf("stop that server (systemctl stop muster, or kill %d), or give this one another --data-dir", h.PID)
	return f
}

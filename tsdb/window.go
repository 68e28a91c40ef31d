package tsdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	walName = "wal"
	wblName = "wbl"
)

// openWindow lets out-of-order samples in, from now until the engine is closed.
// A tenant opens its write-behind log at the first sample that needs it: most
// never do, and the log costs an idle tenant 115 KiB. Under writing, without an
// open appender.
func (e *engine) openWindow() error {
	if e.windowed.Load() {
		return nil
	}
	if err := e.setWindow(e.settings.Load().window()); err != nil {
		return err
	}
	// Without a log the samples would be held in memory only.
	if _, err := os.Stat(filepath.Join(e.dir, wblName)); err != nil {
		return fmt.Errorf("open write-behind log: %w", err)
	}
	e.windowed.Store(true)
	return nil
}

func (e *engine) setWindow(ms int64) error {
	if err := e.configure(ms, e.exemplars.size); err != nil {
		return fmt.Errorf("set out-of-order window: %w", err)
	}
	e.window = ms
	return nil
}

// followSettings makes an open window as wide, and the ring of exemplars as small,
// as the settings want it by now. The next append does it, not whoever brings the settings: that one must not wait
// for the append that runs. Under writing, without an open appender.
func (e *engine) followSettings() error {
	if err := e.exemplars.follow(e); err != nil {
		return err
	}
	ms := e.settings.Load().window()
	if !e.windowed.Load() || ms == e.window {
		return nil
	}
	return e.setWindow(ms)
}

// latePatience is how long an out-of-order sample waits for the out-of-order cut,
// and with it the tenant's other writes. After it the sample fails, and is sent
// again.
const latePatience = 2 * time.Second

var errLateCut = errors.New("out-of-order samples are being cut")

// windowShut reports whether nothing out of order may be appended now. Under
// writing.
func (e *engine) windowShut() bool {
	if e.cutLate == nil {
		return false
	}
	select {
	case <-e.cutLate:
		return false
	default:
		return true
	}
}

// awaitWindow waits until out-of-order samples may be appended. Under writing.
func (e *engine) awaitWindow() error {
	if !e.windowShut() {
		return e.openWindow()
	}
	patience := time.NewTimer(latePatience)
	defer patience.Stop()
	select {
	case <-e.cutLate:
		return e.openWindow()
	case <-patience.C:
		return errLateCut
	}
}

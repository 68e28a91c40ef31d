package tsdb

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/config"
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
	err := e.db.ApplyConfig(&config.Config{
		StorageConfig: config.StorageConfig{TSDBConfig: &config.TSDBConfig{OutOfOrderTimeWindow: ms}},
	})
	if err != nil {
		return fmt.Errorf("set out-of-order window: %w", err)
	}
	return nil
}

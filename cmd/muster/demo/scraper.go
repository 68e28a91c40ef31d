package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/agent"
)

// Scrape is a Prometheus agent made of Prometheus' own parts: it scrapes what
// the configuration file lists statically and sends it on by remote write. It
// stands in where no prometheus binary is on the PATH, and runs until ctx ends.
func Scrape(ctx context.Context, configFile, dir string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	conf, err := config.LoadFile(configFile, true, log)
	if err != nil {
		return fmt.Errorf("read the scraper's configuration: %w", err)
	}
	reg := prometheus.NewRegistry()
	ready := &readyManager{}
	sender := remote.NewStorage(log, reg, func() (int64, error) { return time.Now().UnixMilli(), nil }, dir, 5*time.Second, ready, false)
	db, err := agent.Open(log, reg, sender, filepath.Clean(dir), agent.DefaultOptions())
	if err != nil {
		return errors.Join(fmt.Errorf("open the scraper's log: %w", err), sender.Close())
	}
	defer func() {
		_ = db.Close()
		_ = sender.Close()
	}()
	manager, err := scrape.NewManager(&scrape.Options{}, log, nil, nil, storage.NewFanout(log, db, sender), reg)
	if err != nil {
		return err
	}
	ready.manager = manager
	if err := errors.Join(sender.ApplyConfig(conf), manager.ApplyConfig(conf)); err != nil {
		return fmt.Errorf("apply the scraper's configuration: %w", err)
	}
	targets := make(chan map[string][]*targetgroup.Group, 1)
	targets <- staticTargets(conf)
	ended := make(chan error, 1)
	go func() { ended <- manager.Run(targets) }()
	select {
	case <-ctx.Done():
		manager.Stop()
		return <-ended
	case err := <-ended:
		return err
	}
}

// readyManager gives the sender the scrape manager once it is there.
type readyManager struct{ manager *scrape.Manager }

func (r *readyManager) Get() (*scrape.Manager, error) {
	if r.manager == nil {
		return nil, errors.New("not ready")
	}
	return r.manager, nil
}

// staticTargets are the targets that the configuration names itself.
func staticTargets(conf *config.Config) map[string][]*targetgroup.Group {
	out := map[string][]*targetgroup.Group{}
	for _, job := range conf.ScrapeConfigs {
		for _, sd := range job.ServiceDiscoveryConfigs {
			if groups, ok := sd.(discovery.StaticConfig); ok {
				out[job.JobName] = append(out[job.JobName], groups...)
			}
		}
	}
	return out
}

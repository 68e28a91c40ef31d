package main

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/agent"
	"github.com/stretchr/testify/require"
)

// promSender is a Prometheus agent's own log, queues and client, whose remote_write
// entries change as a reload of its configuration changes them.
type promSender struct {
	t      *testing.T
	db     *agent.DB
	queues *remote.Storage
	tenant string

	mu     sync.Mutex
	rounds []int64 // times of what was scraped, of senderBatch series each
}

const senderBatch = 15

// newPromSender gives an entry that is taken out of the configuration so long to send
// what it has read of the log; Prometheus' own default is a minute.
func newPromSender(t *testing.T, tenant string, flush time.Duration) *promSender {
	t.Helper()
	dir, reg, log := t.TempDir(), prometheus.NewRegistry(), testLog(t, 0)
	s := &promSender{t: t, tenant: tenant}
	s.queues = remote.NewStorage(log, reg, func() (int64, error) { return 0, nil }, dir, flush, idleScrapes{}, false)
	var err error
	s.db, err = agent.Open(log, reg, s.queues, dir, agent.DefaultOptions())
	require.NoError(t, err)
	s.db.SetWriteNotified(s.queues)
	t.Cleanup(func() { require.NoError(t, errors.Join(s.db.Close(), s.queues.Close())) })
	return s
}

// reload makes these write doors the entries.
func (s *promSender) reload(doors ...string) {
	s.t.Helper()
	text := "remote_write:\n"
	for _, door := range doors {
		text += fmt.Sprintf(`
- url: http://%s/api/v1/receive
  headers: {THANOS-TENANT: %s}
  metadata_config: {send: false}
  queue_config: {batch_send_deadline: 50ms, min_backoff: 30ms, max_backoff: 100ms}
`, door, s.tenant)
	}
	conf, err := config.Load(text, testLog(s.t, 0))
	require.NoError(s.t, err)
	require.NoError(s.t, s.queues.ApplyConfig(conf))
}

// scrape appends one sample of each series, of now, and returns its time.
func (s *promSender) scrape() int64 {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now().UnixMilli()
	if n := len(s.rounds); n > 0 {
		at = max(at, s.rounds[n-1]+1)
	}
	app := s.db.Appender(s.t.Context())
	for _, one := range batch("up", senderBatch, at) {
		_, err := app.Append(0, one.labels, one.t, one.v)
		require.NoError(s.t, err)
	}
	require.NoError(s.t, app.Commit())
	s.rounds = append(s.rounds, at)
	return at
}

// reached scrapes until a bed holds all series of some time after now, which it
// returns: an entry sends what comes after it has begun, a moment after the reload.
func (s *promSender) reached(b *bed) (since int64) {
	s.t.Helper()
	begun := s.scrape()
	b.eventually("samples from "+fmt.Sprint(begun)+" on arrive", func() error {
		at := s.scrape()
		s.queues.Notify()
		since = 0
		for t, n := range b.times(s.tenant) {
			if t >= begun && n == senderBatch && (since == 0 || t < since) {
				since = t
			}
		}
		if since == 0 {
			return fmt.Errorf("none until %d", at)
		}
		return nil
	})
	return since
}

// times counts the series that the bed has of a tenant at each time.
func (b *bed) times(tenant string) map[int64]int {
	b.t.Helper()
	seen := map[string]map[int64]bool{}
	for i := range b.nodes {
		for name, points := range b.stored(i, tenant) {
			if seen[name] == nil {
				seen[name] = map[int64]bool{}
			}
			for _, p := range points {
				seen[name][p.t] = true
			}
		}
	}
	out := map[int64]int{}
	for _, points := range seen {
		for t := range points {
			out[t]++
		}
	}
	return out
}

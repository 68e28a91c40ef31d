// Package load writes to receivers of remote write as many senders do, and
// notes how they answer:
//
//	template.go  requests, ready but for their values and times
//	load.go      one request: sent until it is acknowledged, and what is noted of it
//	closed.go    as fast as they are answered: what the receivers can take
//	open.go      by a schedule, whatever the answers do: how long writes take
package load

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/snappy"
)

// Config of a load.
type Config struct {
	// Tenants share the series evenly.
	Tenants []string
	Series  int
	// Labels of each series.
	Labels int
	// PerRequest samples, each of another series of one tenant.
	PerRequest int
	// InFlight requests of the closed loop. Default 8.
	InFlight int
}

// Target is a receiver.
type Target struct {
	Name string
	URL  string // of its write door
}

// Load is the senders of all series.
type Load struct {
	Templates []*Template
	inFlight  int
	client    *http.Client
	targets   atomic.Pointer[[]Target]
	turn      atomic.Uint64

	mu       sync.Mutex
	writes   []Write
	refusals []Refusal
}

// Write is one request that was answered for good.
type Write struct {
	// Due is when it was to be sent, Took from then to its answer: in the closed
	// loop from the first try.
	Due  time.Time
	Took time.Duration
	// Samples that were acknowledged; 0: refused for good (4xx).
	Samples int
	Repeats int
	Tenant  string
}

// Refusal is one answer that was not 2xx.
type Refusal struct {
	At     time.Time
	Target string
	Status int    // 0: there was no answer
	Says   string // its lines, or the error
}

// New prepares the requests.
func New(c Config, targets []Target) (*Load, error) {
	c.InFlight = cmp.Or(c.InFlight, 8)
	l := &Load{inFlight: c.InFlight, client: &http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: max(c.InFlight, c.Series/max(c.PerRequest, 1))},
	}}
	l.Aim(targets)
	each := c.Series / len(c.Tenants)
	for _, tenant := range c.Tenants {
		for first := 0; first < each; first += c.PerRequest {
			t, err := NewTemplate(tenant, first, min(c.PerRequest, each-first), c.Labels)
			if err != nil {
				return nil, err
			}
			l.Templates = append(l.Templates, t)
		}
	}
	return l, nil
}

// Aim replaces the receivers that take turns, as a load balancer does. There is
// at least one.
func (l *Load) Aim(targets []Target) {
	t := slices.Clone(targets)
	l.targets.Store(&t)
}

// Close ends idle connections.
func (l *Load) Close() { l.client.CloseIdleConnections() }

func (l *Load) next() Target {
	all := *l.targets.Load()
	return all[int(l.turn.Add(1)%uint64(len(all)))]
}

// Taken gives what was noted since the last call.
func (l *Load) Taken() ([]Write, []Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, r := l.writes, l.refusals
	l.writes, l.refusals = nil, nil
	return w, r
}

// scratch is the memory that a sender keeps between its requests.
type scratch struct{ raw, body []byte }

// send sends a request to one target after the other until it is answered 2xx or
// 4xx, as Prometheus does behind a load balancer.
func (l *Load) send(ctx context.Context, t *Template, round int, at int64, due time.Time, s *scratch) {
	s.raw = t.fill(s.raw, round, at)
	s.body = snappy.Encode(s.body[:cap(s.body)], s.raw)
	for attempt := 0; ctx.Err() == nil; attempt++ {
		target := l.next()
		status, says := l.post(ctx, t.Tenant, target.URL, s.body, attempt)
		w := Write{Due: due, Took: time.Since(due), Repeats: attempt, Tenant: t.Tenant}
		if status/100 == 2 {
			w.Samples = t.Samples()
			l.note(w)
			return
		}
		if ctx.Err() != nil {
			return
		}
		l.refused(Refusal{time.Now(), target.Name, status, says})
		if status/100 == 4 {
			l.note(w)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(time.Second, 30*time.Millisecond<<min(attempt, 5))):
		}
	}
}

func (l *Load) note(w Write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = append(l.writes, w)
}

func (l *Load) refused(r Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusals = append(l.refusals, r)
}

func (l *Load) post(ctx context.Context, tenant, url string, body []byte, attempt int) (int, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	req.Header.Set("THANOS-TENANT", tenant)
	if attempt > 0 {
		req.Header.Set("Retry-Attempt", fmt.Sprint(attempt))
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return resp.StatusCode, string(bytes.ReplaceAll(bytes.TrimSpace(text), []byte("\n"), []byte("; ")))
}

// Quantile is the time within which the part q of the writes was answered; 0
// where there are none. It sorts them.
func Quantile(writes []Write, q float64) time.Duration {
	if len(writes) == 0 {
		return 0
	}
	slices.SortFunc(writes, func(a, b Write) int { return int(a.Took - b.Took) })
	return writes[max(int(math.Ceil(q*float64(len(writes))))-1, 0)].Took
}

// Samples is how many were acknowledged.
func Samples(writes []Write) int64 {
	var n int64
	for _, w := range writes {
		n += int64(w.Samples)
	}
	return n
}

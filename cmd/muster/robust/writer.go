package robust

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

const (
	writtenTenant = "load"
	writerSeries  = 200
	writerStep    = 100 * time.Millisecond // between two samples of a series
	writerPace    = 20 * time.Millisecond  // between two requests
)

// writer sends one sample of each of its series a round to one node, and
// repeats a round until it is acknowledged, as a Prometheus does.
type writer struct {
	name  string
	start int64 // Unix milliseconds of the first round
	http  http.Client

	mu      sync.Mutex
	node    *fleet.Node // nil: the writer rests
	rounds  int
	refused []string // answers that were not 2xx; a dead node gives none
}

// newWriters makes one for each node. Their samples begin an hour ago: no run
// outlasts what may lie in the future.
func newWriters(nodes []*fleet.Node) []*writer {
	start := time.Now().Add(-time.Hour).UnixMilli()
	var all []*writer
	for i, n := range nodes {
		all = append(all, &writer{name: fmt.Sprintf("load_%d", i+1), node: n, start: start, http: http.Client{Timeout: 30 * time.Second}})
	}
	return all
}

// to lets the writer write to a node from its next request on; nil lets it rest.
func (w *writer) to(n *fleet.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.node = n
}

func (w *writer) now() (node *fleet.Node, round int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.node, w.rounds
}

// run writes until ctx ends and what it began is acknowledged, or until hard
// ends.
func (w *writer) run(ctx, hard context.Context) {
	defer w.http.CloseIdleConnections()
	for attempt := 0; ctx.Err() == nil || attempt > 0 && hard.Err() == nil; {
		node, round := w.now()
		if node == nil {
			<-time.After(writerPace)
			continue
		}
		status, text := w.post(hard, node, round, attempt)
		attempt++
		w.mu.Lock()
		if status/100 == 2 {
			w.rounds++
			attempt = 0
		} else if status != 0 && w.node == node {
			w.refused = append(w.refused, fmt.Sprintf("%s to %s: %d %s", w.name, node.Name, status, text))
		}
		w.mu.Unlock()
		<-time.After(writerPace)
	}
}

func (w *writer) body(round int) ([]byte, error) {
	at := w.start + int64(round)*writerStep.Milliseconds()
	var req prompb.WriteRequest
	for i := range writerSeries {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: w.name}, {Name: "series", Value: strconv.Itoa(i)}},
			Samples: []prompb.Sample{{Value: float64(round), Timestamp: at}},
		})
	}
	raw, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	return snappy.Encode(nil, raw), nil
}

// post returns the status, 0 where there is none, and what it says.
func (w *writer) post(ctx context.Context, n *fleet.Node, round, attempt int) (int, string) {
	body, err := w.body(round)
	if err != nil {
		return 0, err.Error()
	}
	return n.Post(ctx, &w.http, writtenTenant, body, attempt)
}

// acknowledged is how many samples were.
func (w *writer) acknowledged() int {
	_, rounds := w.now()
	return rounds * writerSeries
}

// found asks a node how many of the acknowledged samples it finds.
func (w *writer) found(ctx context.Context, n *fleet.Node) (int, error) {
	_, rounds := w.now()
	if rounds == 0 {
		return 0, nil
	}
	last := w.start + int64(rounds-1)*writerStep.Milliseconds()
	found, err := n.Sum(ctx, writtenTenant, fmt.Sprintf(`sum(count_over_time(%s[2h]))`, w.name), time.UnixMilli(last))
	return int(found), err
}

// writing runs all writers; the func that it returns ends them and waits until
// what they began is acknowledged.
func writing(ctx context.Context, all []*writer) (stop func()) {
	soft, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, w := range all {
		wg.Go(func() { w.run(soft, ctx) })
	}
	return func() {
		end()
		wg.Wait()
	}
}

// countBack compares on every node what was acknowledged with what is found.
func countBack(ctx context.Context, nodes []*fleet.Node, all []*writer) (findings []string, err error) {
	for _, n := range nodes {
		for _, w := range all {
			got, err := w.found(ctx, n)
			if err != nil {
				return findings, err
			}
			if want := w.acknowledged(); got != want {
				findings = append(findings, fmt.Sprintf("%s: %d samples of %s were acknowledged, %s finds %d", w.name, want, w.name, n.Name, got))
			}
		}
	}
	return findings, nil
}

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// template is one request with holes where the values and times go, so that
// the generator costs little beside the servers on the same machine.
type template struct {
	body   []byte
	values []int // offsets of 8-byte doubles
	times  []int // offsets of 6-byte varints
}

// placeholderTime takes six bytes as a varint, as all times from 2004 to 2109 do.
const placeholderTime = 1 << 41

// newTemplate holds one sample for each of the series first..first+n.
func newTemplate(first, n, labelCount int) (*template, error) {
	t := &template{}
	for i := first; i < first+n; i++ {
		ts := prompb.TimeSeries{
			Labels:  seriesLabels(i, labelCount),
			Samples: []prompb.Sample{{Value: math.Pi, Timestamp: placeholderTime}},
		}
		raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{ts}}).Marshal()
		if err != nil {
			return nil, err
		}
		hole := append([]byte{0x09}, binary.LittleEndian.AppendUint64(nil, math.Float64bits(math.Pi))...)
		at := bytes.LastIndex(raw, hole)
		if at < 0 || raw[at+9] != 0x10 {
			return nil, fmt.Errorf("series %d: no sample in its encoding", i)
		}
		t.values = append(t.values, len(t.body)+at+1)
		t.times = append(t.times, len(t.body)+at+10)
		t.body = append(t.body, raw...)
	}
	return t, nil
}

// seriesLabels looks like a container's metric: about 240 bytes in ten labels.
func seriesLabels(i, count int) []prompb.Label {
	pod := i / 50
	all := []prompb.Label{
		{Name: "__name__", Value: fmt.Sprintf("http_request_duration_seconds_bucket_%02d", i%50)},
		{Name: "cluster", Value: "prod-eu-1"},
		{Name: "container", Value: "api-server"},
		{Name: "endpoint", Value: "http-metrics"},
		{Name: "instance", Value: fmt.Sprintf("10.12.%d.%d:8080", pod/250, pod%250)},
		{Name: "job", Value: "monitoring/api-server"},
		{Name: "method", Value: "GET"},
		{Name: "namespace", Value: "payments-production"},
		{Name: "pod", Value: fmt.Sprintf("api-server-7c9f8d6b5-%05d", pod)},
		{Name: "service", Value: "api-server"},
	}
	for n := len(all); n < count; n++ {
		all = append(all, prompb.Label{Name: fmt.Sprintf("zone_%02d", n), Value: "eu-central-1a"})
	}
	return all[:min(count, len(all))]
}

// fill makes the request of one round: time t in every sample; a third of the
// series stand still, the others grow.
func (t *template) fill(dst []byte, round int, at int64) []byte {
	dst = append(dst[:0], t.body...)
	for i := range t.values {
		v := float64(i)
		if i%3 != 0 {
			v += float64(round * 7)
		}
		binary.LittleEndian.PutUint64(dst[t.values[i]:], math.Float64bits(v))
		binary.PutUvarint(dst[t.times[i]:t.times[i]+6], uint64(at))
	}
	return dst
}

// load sends rounds of requests to the nodes' write doors in turn.
type load struct {
	urls      []string
	tenant    string
	templates []*template
	inFlight  int
	client    *http.Client

	acked, refused atomic.Int64
	mu             sync.Mutex
	latencies      []time.Duration
	firstError     string
}

type job struct {
	t     *template
	round int
	at    int64
	url   string
}

// run sends the rounds from..to, a step apart in sample time, beginning at start.
func (l *load) run(ctx context.Context, from, to int, start, step int64) {
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range l.inFlight {
		wg.Go(func() {
			var raw, body []byte
			for j := range jobs {
				raw = j.t.fill(raw, j.round, j.at)
				body = snappy.Encode(body[:cap(body)], raw)
				l.send(ctx, j, body)
			}
		})
	}
	n := 0
	for r := from; r < to && ctx.Err() == nil; r++ {
		for _, t := range l.templates {
			jobs <- job{t, r, start + int64(r)*step, l.urls[n%len(l.urls)]}
			n++
		}
	}
	close(jobs)
	wg.Wait()
}

// send repeats a request until it is answered 2xx or 4xx, as Prometheus does.
func (l *load) send(ctx context.Context, j job, body []byte) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		began := time.Now()
		status, text := l.post(ctx, j.url, body, attempt)
		if status/100 == 2 {
			l.acknowledged(len(j.t.values), time.Since(began))
			return
		}
		l.refuse(fmt.Sprintf("%d %s", status, text))
		if status/100 == 4 {
			return
		}
		time.Sleep(min(time.Second, 30*time.Millisecond<<min(attempt, 5)))
	}
}

func (l *load) acknowledged(samples int, took time.Duration) {
	l.acked.Add(int64(samples))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latencies = append(l.latencies, took)
}

func (l *load) refuse(text string) {
	l.refused.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.firstError == "" {
		l.firstError = text
	}
}

func (l *load) post(ctx context.Context, url string, body []byte, attempt int) (int, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	req.Header.Set("THANOS-TENANT", l.tenant)
	if attempt > 0 {
		req.Header.Set("Retry-Attempt", fmt.Sprint(attempt))
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return resp.StatusCode, string(bytes.TrimSpace(text))
}

// quantiles are the median and the 99th percentile of the answers' times since
// the last call.
func (l *load) quantiles() (p50, p99 time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.latencies) == 0 {
		return 0, 0
	}
	slices.Sort(l.latencies)
	at := func(q float64) time.Duration { return l.latencies[int(float64(len(l.latencies)-1)*q)] }
	p50, p99 = at(0.5), at(0.99)
	l.latencies = nil
	return p50, p99
}

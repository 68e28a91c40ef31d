package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
)

// point is a request of remote write 1.0 and how it is to be answered.
type point struct {
	name   string
	labels []prompb.Label
	value  float64
	age    time.Duration
	change func(h http.Header)
	body   []byte // instead of labels and value
	want   int
}

// points of remote write 1.0, from its specification.
func points() []point {
	named := []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "job", Value: "first"}}
	set := func(name, v string) func(http.Header) { return func(h http.Header) { h.Set(name, v) } }
	all := []point{
		{name: "a sample", labels: named, value: 1, want: 204},
		{name: "no name", labels: named[1:], value: 1, want: 400},
		{name: "no labels", value: 1, want: 400},
		{name: "a label twice", labels: []prompb.Label{named[0], named[1], named[1]}, value: 1, want: 400},
		{name: "an empty label name", labels: []prompb.Label{{Value: "x"}, named[0]}, value: 1, want: 400},
		{name: "labels that are not UTF-8", labels: []prompb.Label{named[0], {Name: "x", Value: "\xff"}}, value: 1, want: 400},
		{name: "not in order", labels: []prompb.Label{named[1], named[0]}, value: 1, want: 204},
		{name: "dots and spaces", labels: []prompb.Label{{Name: "__name__", Value: "resource cpu.usage"}, {Name: "job.name", Value: "a b"}}, value: 1, want: 204},
		{name: "late, within the window", labels: named, value: 1, age: time.Hour, want: 204},
		{name: "too old", labels: named, value: 1, age: 100 * time.Hour, want: 400},
		{name: "too far ahead", labels: named, value: 1, age: -time.Hour, want: 400},
		{name: "the older content type", labels: named, value: 1, change: set("Content-Type", "application/x-protobuf;proto=prometheus.WriteRequest"), want: 204},
		{name: "no version", labels: named, value: 1, change: set("X-Prometheus-Remote-Write-Version", ""), want: 204},
		{name: "JSON", labels: named, value: 1, change: set("Content-Type", "application/json"), want: 415},
		{name: "an unknown message", labels: named, value: 1, change: set("Content-Type", "application/x-protobuf;proto=other.Request"), want: 415},
		{name: "deflate", labels: named, value: 1, change: set("Content-Encoding", "deflate"), want: 415},
		{name: "not snappy", body: []byte("0nonsense"), want: 400},
		{name: "snappy, and no protobuf", body: snappy.Encode(nil, []byte("\x0a\xff")), want: 400},
		{name: "nothing", body: snappy.Encode(nil, nil), want: 204},
	}
	for name, v := range map[string]float64{"stale": math.Float64frombits(value.StaleNaN), "NaN": math.NaN(), "+Inf": math.Inf(1), "-Inf": math.Inf(-1), "0": 0} {
		all = append(all, point{name: "value " + name, labels: append([]prompb.Label{}, named[0], prompb.Label{Name: "value", Value: name}), value: v, want: 204})
	}
	return all
}

// askFirst sends them, each twice: a repeat is answered as the first was.
func askFirst(ctx context.Context, url string) ([]answer, error) {
	var answers []answer
	for i, p := range points() {
		body := p.body
		if body == nil {
			at := time.Now().Add(-p.age).UnixMilli() + int64(i)
			req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: p.labels, Samples: []prompb.Sample{{Value: p.value, Timestamp: at}}}}}
			raw, err := req.Marshal()
			if err != nil {
				return nil, err
			}
			body = snappy.Encode(nil, raw)
		}
		for attempt := range 2 {
			a, err := p.ask(ctx, url, body, attempt)
			if err != nil {
				return nil, err
			}
			answers = append(answers, a)
		}
	}
	return answers, nil
}

func (p point) ask(ctx context.Context, url string, body []byte, attempt int) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	req.Header.Set("THANOS-TENANT", "compliance-1")
	if attempt > 0 {
		req.Header.Set("Retry-Attempt", fmt.Sprint(attempt))
	}
	if p.change != nil {
		p.change(req.Header)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", p.name, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", p.name, err)
	}
	a := answer{test: p.name, code: resp.StatusCode, want: []int{p.want}, body: string(text)}
	for name := range resp.Header {
		if len(name) > 26 && name[:26] == "X-Prometheus-Remote-Write-" {
			a.want, a.body = nil, name+" in an answer to 1.0"
		}
	}
	return a, nil
}

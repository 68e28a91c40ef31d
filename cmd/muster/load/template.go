package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/prompb"
)

// Template is one request with holes where the values and times go, so that
// the generator costs little beside the servers on the same machine.
type Template struct {
	// Tenant whose samples these are.
	Tenant string
	body   []byte
	values []int // offsets of 8-byte doubles
	times  []int // offsets of 6-byte varints
}

// placeholderTime takes six bytes as a varint, as all times from 2004 to 2109 do.
const placeholderTime = 1 << 41

// NewTemplate holds one sample for each of the series first..first+n.
func NewTemplate(tenant string, first, n, labelCount int) (*Template, error) {
	t := &Template{Tenant: tenant}
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

// Names is how many metric names there are: series i has the one of i mod Names.
const Names = 50

// Name is the i-th metric name.
func Name(i int) string { return fmt.Sprintf("http_request_duration_seconds_bucket_%02d", i%Names) }

// seriesLabels looks like a container's metric: about 240 bytes in ten labels.
func seriesLabels(i, count int) []prompb.Label {
	pod := i / Names
	all := []prompb.Label{
		{Name: "__name__", Value: Name(i)},
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

// Samples in each request.
func (t *Template) Samples() int { return len(t.values) }

// fill makes the request of one round: time at in every sample; a third of the
// series stand still, the others grow.
func (t *Template) fill(dst []byte, round int, at int64) []byte {
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

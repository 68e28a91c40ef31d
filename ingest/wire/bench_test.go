package wire

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// request is what a Prometheus with 10 labels per series sends at once.
func request(b testing.TB, n int) []byte { return body(b, scraped(n)...) }

// requestOfV2 is the same in 2.0, as Prometheus sends it: with metadata.
func requestOfV2(b testing.TB, n int) []byte {
	req := requestV2(scraped(n)...)
	for i := range req.Timeseries {
		req.Timeseries[i].Metadata.Type = writev2.Metadata_METRIC_TYPE_COUNTER
		req.Timeseries[i].Samples[0].StartTimestamp = 1_600_000_000_000
	}
	return marshal(b, req)
}

func scraped(n int) []prompb.TimeSeries {
	all := make([]prompb.TimeSeries, n)
	for i := range all {
		all[i] = series(one(1_700_000_000_000+int64(i), float64(i)*1.5),
			"__name__", fmt.Sprintf("http_requests_duration_seconds_%d", i%50),
			"cluster", "production-eu-west-1", "code", "200", "container", "frontend-server",
			"endpoint", "metrics", "instance", fmt.Sprintf("10.1.%d.%d:9090", i/250, i%250),
			"job", "kubernetes-service-endpoints", "method", "GET",
			"namespace", "monitoring-system", "pod", fmt.Sprintf("frontend-5d9f7c-%05d", i))
	}
	return all
}

func BenchmarkWalkV1(b *testing.B) { benchmarkWalk(b, request, WalkV1) }

func BenchmarkWalkV2(b *testing.B) { benchmarkWalk(b, requestOfV2, WalkV2) }

func benchmarkWalk(b *testing.B, request func(testing.TB, int) []byte, walk func([]byte, Limits, *Batch) error) {
	for _, n := range []int{2000} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) {
			raw := request(b, n)
			var batch Batch
			lim := anyTime
			lim.Describe = func(Metadata) bool { return false } // nearly all of it is known
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				batch.Reset()
				if err := walk(raw, lim, &batch); err != nil || batch.Samples != n {
					b.Fatal(err, batch.Samples)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/sample")
		})
	}
}

func BenchmarkReader(b *testing.B) {
	var batch Batch
	if err := WalkV1(request(b, 2000), anyTime, &batch); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r := NewReader(batch.Frames)
		for r.Next() {
			if !WellFormed(r.Labels()) {
				b.Fatal("not well formed")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/series")
}

func TestWalkingAllocatesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		raw  []byte
		walk func([]byte, Limits, *Batch) error
	}{"1.0": {request(t, 500), WalkV1}, "2.0": {requestOfV2(t, 500), WalkV2}} {
		var batch Batch
		walk := func() {
			batch.Reset()
			if err := c.walk(c.raw, anyTime, &batch); err != nil {
				t.Fatal(err)
			}
		}
		walk()
		if n := testing.AllocsPerRun(20, walk); n != 0 {
			t.Errorf("%s: %v allocations for 500 series", name, n)
		}
	}
}

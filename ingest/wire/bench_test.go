package wire

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/prompb"
)

// request is what a Prometheus with 10 labels per series sends at once.
func request(b testing.TB, n int) []byte {
	all := make([]prompb.TimeSeries, n)
	for i := range all {
		all[i] = series(one(1_700_000_000_000+int64(i), float64(i)*1.5),
			"__name__", fmt.Sprintf("http_requests_duration_seconds_%d", i%50),
			"cluster", "production-eu-west-1", "code", "200", "container", "frontend-server",
			"endpoint", "metrics", "instance", fmt.Sprintf("10.1.%d.%d:9090", i/250, i%250),
			"job", "kubernetes-service-endpoints", "method", "GET",
			"namespace", "monitoring-system", "pod", fmt.Sprintf("frontend-5d9f7c-%05d", i))
	}
	return body(b, all...)
}

func BenchmarkWalkV1(b *testing.B) {
	for _, n := range []int{2000} {
		b.Run(fmt.Sprintf("series=%d", n), func(b *testing.B) {
			raw := request(b, n)
			var batch Batch
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				batch.Reset()
				if err := WalkV1(raw, anyTime, &batch); err != nil || batch.Samples != n {
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

func TestWalkV1AllocatesNothing(t *testing.T) {
	raw := request(t, 500)
	var batch Batch
	walk := func() {
		batch.Reset()
		if err := WalkV1(raw, anyTime, &batch); err != nil {
			t.Fatal(err)
		}
	}
	walk()
	if n := testing.AllocsPerRun(20, walk); n != 0 {
		t.Errorf("%v allocations for 500 series", n)
	}
}

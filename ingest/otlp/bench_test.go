package otlp

import (
	"fmt"
	"testing"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/muster-metrics/muster/ingest/wire"
)

// BenchmarkLay is a request of 2,000 counters with eight attributes each, as a
// collector sends it.
func BenchmarkLay(b *testing.B) {
	md, ms := scopeOf("service.name", "shop", "service.instance.id", "i-1", "host.arch", "arm64")
	sum := counter(ms, "http.requests", pmetric.AggregationTemporalityCumulative)
	for i := range 2000 {
		p := sum.DataPoints().AppendEmpty()
		p.SetTimestamp(stamp(at))
		p.SetDoubleValue(float64(i))
		for k := range 7 {
			p.Attributes().PutStr(fmt.Sprint("http.attribute.", k), fmt.Sprint("value of it ", k))
		}
		p.Attributes().PutStr("http.route", fmt.Sprint("/route/", i))
	}
	for name, isJSON := range map[string]bool{"protobuf": false, "JSON": true} {
		body := encoded(b, md, isJSON)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var batch wire.Batch
			for b.Loop() {
				batch.Reset()
				if _, err := Measure(body, isJSON); err != nil {
					b.Fatal(err)
				}
				if _, _, err := Lay(b.Context(), body, isJSON, taken, &batch); err != nil || batch.Samples != 2001 {
					b.Fatal(batch.Samples, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/sample")
		})
	}
}

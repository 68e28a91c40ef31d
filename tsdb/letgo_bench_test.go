package tsdb

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkLetGo lets a quarter of 100,000 series go while 2,000 others are
// written to without a pause: the latency of a write before and meanwhile.
func BenchmarkLetGo(b *testing.B) {
	const all, written, samples = 100_000, 2_000, 150
	for b.Loop() {
		b.StopTimer()
		db := openDB(b)
		s, step := scrape(all)
		out := make([]Outcome, all)
		for range samples {
			if _, err := db.Append(b.Context(), acme, s, false, out); err != nil {
				b.Fatal(err)
			}
			step()
		}
		engineOf(b, db).mapChunks()
		moved := these(s.all[:all/4]...)
		some := shareOf(s.all[all-written:]...)
		write := func() time.Duration {
			began := time.Now()
			if _, err := db.Append(b.Context(), acme, some, false, out[:written]); err != nil {
				b.Fatal(err)
			}
			for i := range some.all {
				some.all[i].samples[0].t += 10
			}
			return time.Since(began)
		}
		var before, during []time.Duration
		for range 300 {
			before = append(before, write())
		}
		done := make(chan error, 1)
		b.StartTimer()
		go func() {
			got, err := db.LetGo(b.Context(), acme, 5000, moved)
			if err == nil && got.Series != all/4 {
				b.Errorf("let go %+v", got)
			}
			done <- err
		}()
		for going := true; going; {
			during = append(during, write())
			select {
			case err := <-done:
				if err != nil {
					b.Fatal(err)
				}
				going = false
			default:
			}
		}
		b.StopTimer()
		report := func(name string, d []time.Duration) {
			slices.Sort(d)
			b.ReportMetric(float64(d[len(d)/2].Microseconds())/1000, name+"-p50-ms")
			b.ReportMetric(float64(d[len(d)*99/100].Microseconds())/1000, name+"-p99-ms")
			b.ReportMetric(float64(d[len(d)-1].Microseconds())/1000, name+"-max-ms")
		}
		report("before", before)
		report("during", during)
		closeDB(b, db)
		b.StartTimer()
	}
}

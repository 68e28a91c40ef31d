package tsdb

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// scrape is a share of n series with ten labels and one sample each; step moves
// all of them on.
func scrape(n int) (s *share, step func()) {
	var all []series
	for i := range n {
		raw := metric("http_request_duration_seconds_bucket",
			"cluster", "prod-eu-1", "container", "api-server", "endpoint", "http-metrics",
			"instance", fmt.Sprintf("10.12.%d.%d:8080", i/250, i%250), "job", "monitoring/api-server",
			"le", "0.25", "method", "GET", "namespace", "payments-production", "pod", fmt.Sprintf("api-server-7c9f8d6b5-%05d", i))
		all = append(all, series{raw, []sample{{start.UnixMilli(), float64(i)}}})
	}
	s = shareOf(all...)
	return s, func() {
		for i := range s.all {
			s.all[i].samples[0].t += 15_000
			s.all[i].samples[0].v++
		}
	}
}

func TestKnownSeriesCostNoAllocation(t *testing.T) {
	if !castable {
		t.Fatal("the canonical form is not labels.Labels in memory any more")
	}
	db := openDB(t)
	const n = 2000
	s, step := scrape(n)
	out := make([]Outcome, n)
	append2000 := func() {
		if _, err := db.Append(t.Context(), acme, s, false, out); err != nil {
			t.Fatal(err)
		}
		step()
	}
	for range 5 {
		append2000()
	}
	got := testing.AllocsPerRun(20, append2000)
	t.Logf("%.0f allocations for %d samples", got, n)
	// Appender, batch and log records; new chunks now and then are not among
	// these runs, which stay below 120 samples a series.
	if got > 100 {
		t.Fatalf("%.0f allocations for %d samples of known series", got, n)
	}
	expectEach(t, out, Stored)
}

func BenchmarkAppendByIdentity(b *testing.B) {
	for _, repeat := range []bool{false, true} {
		b.Run(fmt.Sprintf("series=2000/repeat=%v", repeat), func(b *testing.B) {
			db := openDB(b)
			const n = 2000
			s, step := scrape(n)
			out := make([]Outcome, n)
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				if _, err := db.Append(b.Context(), acme, s, repeat, out); err != nil {
					b.Fatal(err)
				}
				step()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/sample")
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N*n), "cpu-ns/sample")
		})
	}
}

// Repeats of what is held: refused, read back, found.
func BenchmarkReadBack(b *testing.B) {
	db := openDB(b)
	const n = 2000
	s, step := scrape(n)
	out := make([]Outcome, n)
	for range 2 {
		if _, err := db.Append(b.Context(), acme, s, false, out); err != nil {
			b.Fatal(err)
		}
		step()
	}
	old, _ := scrape(n)
	before := cpuTime(b)
	for b.Loop() {
		if _, err := db.Append(b.Context(), acme, old, true, out); err != nil {
			b.Fatal(err)
		}
	}
	expectEach(b, out, Stored)
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N*n), "cpu-ns/sample")
}

// What an open tenant with one series costs, before its first out-of-order
// sample and after.
func BenchmarkOpenTenant(b *testing.B) {
	for _, windowed := range []bool{false, true} {
		b.Run(fmt.Sprintf("windowed=%v", windowed), func(b *testing.B) {
			db := openDB(b)
			var set []Settings
			for i := range b.N {
				set = append(set, Settings{Key: Key{Tenant: fmt.Sprint("t", i)}})
			}
			db.SetTenants(set, nil)
			at := start.UnixMilli()
			before := heap()
			b.ResetTimer()
			for _, s := range set {
				all := []sample{{at, 1}}
				if windowed {
					all = append(all, sample{at - 1, 1})
				}
				out := make([]Outcome, len(all))
				if _, err := db.Append(b.Context(), s.Key, shareOf(series{metric("up"), all}), false, out); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(heap()-before)/float64(b.N)/1024, "KiB/tenant")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cpuTime of this process, in ns: on a busy machine it says more than the clock.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

package cluster

import (
	"runtime"
	"testing"
)

// BenchmarkFootprint is the memory of a state with 1,000 nodes and 100,000
// tenants: MiB of heap that are there only for it.
func BenchmarkFootprint(b *testing.B) {
	for b.Loop() {
		before := heapInUse()
		s := large(b, 1000, 100_000)
		b.ReportMetric(float64(heapInUse()-before)/(1<<20), "MiB")
		runtime.KeepAlive(s)
	}
}

// heapInUse is what is left after a collection, bytes.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

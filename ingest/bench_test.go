package ingest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// realistic is a request of 10 labels a series, about 300 bytes each.
func realistic(first, n int, at int64) *prompb.WriteRequest {
	req := &prompb.WriteRequest{Timeseries: make([]prompb.TimeSeries, n)}
	for k := range req.Timeseries {
		i := first + k
		req.Timeseries[k] = prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: fmt.Sprintf("http_requests_duration_seconds_%d", i%50)},
				{Name: "cluster", Value: "production-eu-west-1"},
				{Name: "code", Value: "200"},
				{Name: "container", Value: "frontend-server"},
				{Name: "endpoint", Value: "metrics"},
				{Name: "instance", Value: fmt.Sprintf("10.1.%d.%d:9090", i/250, i%250)},
				{Name: "job", Value: "kubernetes-service-endpoints"},
				{Name: "method", Value: "GET"},
				{Name: "namespace", Value: "monitoring-system"},
				{Name: "pod", Value: fmt.Sprintf("frontend-5d9f7c-%05d", i)},
			},
			Samples: []prompb.Sample{{Timestamp: at, Value: float64(i) * 1.5}},
		}
	}
	return req
}

func BenchmarkRoute(b *testing.B) {
	poison.Store(false)
	defer poison.Store(true)
	batch := walked(b, realistic(0, 2000, now()))
	frames := newBuffer(1)
	for _, nodes := range []int{3, 5, 30} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			r := NewRing(1, "r", tableOf(b, 4096, nodes, 3, 2, 5))
			b.ReportAllocs()
			for b.Loop() {
				p := route(r, 99, 7, batch, nil, frames)
				for i := range p.shares {
					p.shares[i].buf.release()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/series")
		})
	}
}

// swallow is a Storage that reads everything and keeps nothing, to measure
// what is around the real one.
type swallow struct{}

func (swallow) Append(_ context.Context, _ string, _ uint64, share Share, _, _ bool, out []peerpb.Outcome) (uint64, int, error) {
	for share.Next() {
		for _, _, ok := share.Sample(); ok; {
			_, _, ok = share.Sample()
		}
	}
	clear(out)
	return 1, 0, nil
}

// cpu is the time that this process has been computing.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPeerStream sends shares of 2,000 series to a peer that keeps nothing.
func BenchmarkPeerStream(b *testing.B) {
	poison.Store(false)
	defer poison.Store(true)
	bd := newBed(b, 2, nil)
	bd.show(10, tableOf(b, 64, 2, 2, 1, 5))
	bd.nodes[1].ing.storage = swallow{}
	batch := walked(b, realistic(0, 2000, now()))
	from, to := bd.nodes[0], bd.nodes[1]
	id := to.id()
	done := make(chan answer, 1)
	b.SetBytes(int64(len(batch.Frames)))
	b.ReportAllocs()
	start := cpu(b)
	for b.Loop() {
		buf := newBuffer(len(batch.Frames))
		buf.b = append(buf.b, batch.Frames...)
		s := &peerpb.Share{
			Tenant: tenantID, Incarnation: 1, Ring: 1, Store: id[:], Seen: 10, Need: 5, Series: 2000, Samples: 2000,
		}
		from.ing.peers.send(to.store, Peer{to.name, id}, s, buf.b, buf, time.Time{}, func(a answer) { done <- a })
		if a := <-done; a.err != nil || a.res.Status != peerpb.Status_DONE {
			b.Fatal(a)
		}
	}
	b.ReportMetric((cpu(b)-start).Seconds()*1e6/float64(b.N)/2000, "cpu-s/Msamples")
}

// BenchmarkWriteRF3 writes 100,000 series round and round, 2,000 a request, at
// RF 3; storage=none leaves the TSDB out. The metric is the processor time of
// all nodes together, client included but not its encoding.
func BenchmarkWriteRF3(b *testing.B) {
	poison.Store(false)
	defer poison.Store(true)
	for _, nodes := range []int{3, 5} {
		for _, kept := range []bool{true, false} {
			b.Run(fmt.Sprintf("nodes=%d/storage=%t", nodes, kept), func(b *testing.B) {
				bd := newBed(b, nodes, nil)
				bd.show(10, tableOf(b, 4096, nodes, 3, 2, 5))
				if !kept {
					for _, n := range bd.nodes {
						n.ing.storage = swallow{}
					}
				}
				benchWrites(b, bd)
			})
		}
	}
}

func benchWrites(b *testing.B, bd *bed) {
	const size, series = 2000, 100_000
	var bodies [series / size][]byte
	begin := now()
	raw := make([][]byte, len(bodies))
	for i := range bodies {
		raw[i], _ = realistic(i*size, size, begin).Marshal()
		bodies[i] = snappy.Encode(nil, raw[i])
		if w := bd.nodes[i%len(bd.nodes)].postRaw(bodies[i]); w.Code != http.StatusNoContent {
			b.Fatal(w.Code, w.Body)
		}
	}
	var used time.Duration
	var round atomic.Int64
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		i := n % len(bodies)
		if i == 0 { // the next scrape; not the servers' work
			b.StopTimer()
			at := begin + 100*round.Add(1)
			for k := range bodies {
				retime(raw[k], begin, at)
				bodies[k] = snappy.Encode(bodies[k][:0], raw[k])
			}
			begin = at
			b.StartTimer()
		}
		start := cpu(b)
		if w := bd.nodes[i%len(bd.nodes)].postRaw(bodies[i]); w.Code != http.StatusNoContent {
			b.Fatal(w.Code, w.Body)
		}
		used += cpu(b) - start
		n++
	}
	b.ReportMetric(used.Seconds()*1e6/float64(n)/size, "cpu-s/Msamples")
}

// retime writes another time over one that takes as many bytes.
func retime(raw []byte, from, to int64) {
	was, is := varint(from), varint(to)
	for i := 0; i+len(was) <= len(raw); i++ {
		if string(raw[i:i+len(was)]) == string(was) {
			copy(raw[i:], is)
			i += len(was)
		}
	}
}

func varint(v int64) []byte {
	var b []byte
	for u := uint64(v); ; u >>= 7 {
		if u < 0x80 {
			return append(b, byte(u))
		}
		b = append(b, byte(u)|0x80)
	}
}

func BenchmarkScanShare(b *testing.B) {
	batch := walked(b, realistic(0, 2000, now()))
	s := &peerpb.Share{Tenant: tenantID, Seen: 10, Samples: 2000, Frames: batch.Frames}
	for _, nodes := range []int{3, 5} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			r := NewRing(1, "r", tableOf(b, 4096, nodes, 3, 2, 5))
			h := holding{ring.Holding{Self: 1, Revision: 10, Incarnation: 1, Ring: 1, Routed: 1, Table: r.Table}, r}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := scanShare(s, false, h); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/series")
		})
	}
}

func BenchmarkTally(b *testing.B) {
	raw, _ := realistic(0, 2000, now()).Marshal()
	batch := &wire.Batch{}
	if err := wire.WalkV1(raw, wire.Limits{MinTime: math.MinInt64}, batch); err != nil {
		b.Fatal(err)
	}
	frames := newBuffer(1)
	p := route(NewRing(1, "r", tableOf(b, 4096, 5, 3, 2, 5)), 99, 7, batch, nil, frames)
	b.ReportAllocs()
	for b.Loop() {
		t := newTally(batch)
		t.send(&p, 0)
		for i := range p.shares {
			t.clean(&p.shares[i])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/series")
}

func (swallow) Disown(context.Context, string, uint64, Share) error { return nil }

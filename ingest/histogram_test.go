package ingest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

// histogramsOf is a request of n series, one in three with a float and a
// histogram a second later, the others with one of both.
func histogramsOf(n int, at int64) (req *prompb.WriteRequest, floats, histograms int) {
	req = samplesOf(n, at, 1)
	for i := range req.Timeseries {
		ts := &req.Timeseries[i]
		switch i % 3 {
		case 0:
			ts.Histograms = []prompb.Histogram{prompb.FromIntHistogram(at+1000, tsdbutil.GenerateTestHistogram(int64(i)))}
		case 1:
			ts.Samples = nil
			ts.Histograms = []prompb.Histogram{prompb.FromIntHistogram(at, tsdbutil.GenerateTestCustomBucketsHistogram(int64(i)))}
		}
		floats += len(ts.Samples)
		histograms += len(ts.Histograms)
	}
	return req, floats, histograms
}

// histogramsHeld counts what a storage has, and holds each against what was sent.
func (s *promStorage) histogramsHeld(tenant string, req *prompb.WriteRequest) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	db := s.dbs[tenant]
	if db == nil {
		return 0
	}
	want := map[string]prompb.Histogram{}
	for _, ts := range req.Timeseries {
		for _, h := range ts.Histograms {
			b := labels.NewScratchBuilder(3)
			want[ts.ToLabels(&b, nil).String()] = h
		}
	}
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		s.t.Fatal(err)
	}
	defer q.Close()
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if kind == chunkenc.ValFloat {
				continue
			}
			n++
			t, h := it.AtHistogram(nil)
			if w := want[set.At().Labels().String()]; w.Timestamp != t || !h.Equals(w.ToIntHistogram()) {
				s.t.Errorf("%s at %d: %v", set.At().Labels(), t, h)
			}
		}
	}
	return n
}

func TestHistogramsReachTheirQuorum(t *testing.T) {
	for name, table := range map[string][2]int{"whole": {3, 3}, "by slot": {5, 3}} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, table[0], nil)
			b.show(10, tableOf(t, 64, table[0], table[1], 3, 5)) // all must have it
			at := now()
			req, floats, histograms := histogramsOf(300, at)
			b.nodes[0].mustPost(req, http.StatusNoContent)
			for range 2 { // the second is a repeat, in the other form
				w := b.nodes[1].postV2(inV2(t, req), header("Retry-Attempt", "1"))
				if w.Code != http.StatusNoContent || writtenOf(w) != fmt.Sprintf("%d %d 0", floats, histograms) {
					t.Fatalf("%d %s, written %q, want %d %d", w.Code, w.Body, writtenOf(w), floats, histograms)
				}
			}
			n := 0
			for _, nd := range b.nodes {
				n += nd.storage.histogramsHeld(tenantID, req)
			}
			if n != 3*histograms {
				t.Errorf("%d histograms are held, want %d three times", n, histograms)
			}
		})
	}
}

// While an older release is among the members, no frame of a histogram leaves the
// coordinator: they are refused, and all else is stored.
func TestHistogramsAreRefusedWhileNotAllUnderstandThem(t *testing.T) {
	b := newBed(t, 3, nil)
	table := tableOf(t, 64, 3, 3, 3, 5)
	for _, n := range b.nodes {
		v := b.view(n, 10, table, nil)
		v.FloatsOnly = true
		n.ing.SetView(v)
	}
	req, floats, histograms := histogramsOf(30, now())
	w := b.nodes[0].postV2(inV2(t, req))
	want := fmt.Sprintf("%d of %d samples refused for good, %d stored\nnative histograms are not taken while a node of an older release is a member: %d, {", histograms, floats+histograms, floats, histograms)
	if w.Code != http.StatusBadRequest || !strings.HasPrefix(w.Body.String(), want) || writtenOf(w) != fmt.Sprintf("%d 0 0", floats) {
		t.Errorf("%d %s, written %q", w.Code, w.Body, writtenOf(w))
	}
	for _, n := range b.nodes {
		if got := n.storage.histogramsHeld(tenantID, req); got > 0 {
			t.Errorf("%s has %d", n.name, got)
		}
		if got := n.storage.count(tenantID); got != floats {
			t.Errorf("%s has %d floats of %d", n.name, got, floats)
		}
	}
}

// What is written is told by kind, also where some lack their quorum.
func TestWrittenHistogramsAreThoseWithAQuorum(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 2, 2, 5))
	at := now()
	req, _, _ := histogramsOf(90, at)
	b.nodes[2].kill()
	w := b.nodes[0].postV2(inV2(t, req))
	floats, histograms := 0, 0
	for _, ts := range req.Timeseries {
		for range ts.Samples {
			floats++
		}
		histograms += len(ts.Histograms)
	}
	var f, h, e int
	if _, err := fmt.Sscan(writtenOf(w), &f, &h, &e); err != nil || w.Code != http.StatusServiceUnavailable || f == 0 || f >= floats || h == 0 || h >= histograms {
		t.Errorf("%d %s, written %q of %d, %d: %v", w.Code, w.Body, writtenOf(w), floats, histograms, err)
	}
	// Held by both of the other two: those are the ones with a quorum.
	if got := b.nodes[0].storage.histogramsHeld(tenantID, req) + b.nodes[1].storage.histogramsHeld(tenantID, req); got < 2*h {
		t.Errorf("%d are held by two nodes, %d are said to be written", got, h)
	}
}

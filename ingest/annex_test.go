package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
)

// annexed is what a promStorage keeps besides samples.
type annexed struct {
	exemplars map[string]bool              // "series labels@time=value"
	families  map[Metadata]int             // how often each was stored
	fail      error                        // what both answer
	judge     func(t int64) peerpb.Outcome // of an exemplar; nil: stored
}

func (s *promStorage) AppendExemplars(_ context.Context, _ string, _ uint64, share ExemplarShare, out []peerpb.Outcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.annexed.fail != nil {
		return s.annexed.fail
	}
	if s.annexed.exemplars == nil {
		s.annexed.exemplars = map[string]bool{}
	}
	i := 0
	for share.Next() {
		for {
			raw, t, v, ok := share.Exemplar()
			if !ok {
				break
			}
			out[i] = peerpb.Outcome_STORED
			if s.annexed.judge != nil {
				out[i] = s.annexed.judge(t)
			}
			if out[i] == peerpb.Outcome_STORED {
				s.annexed.exemplars[fmt.Sprintf("%s %s@%d=%v", wire.Text(share.Labels()), wire.Text(raw), t, v)] = true
			}
			i++
		}
	}
	if i != len(out) {
		return fmt.Errorf("%d exemplars of %d", i, len(out))
	}
	return nil
}

func (s *promStorage) AppendMetadata(_ context.Context, _ string, _ uint64, all []Metadata) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.annexed.fail != nil {
		return s.annexed.fail
	}
	if s.annexed.families == nil {
		s.annexed.families = map[Metadata]int{}
	}
	for _, m := range all {
		s.annexed.families[m]++
	}
	return nil
}

func (s *promStorage) exemplars() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.annexed.exemplars))
}

func (s *promStorage) families() map[Metadata]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.annexed.families)
}

// exemplified is a request in 2.0 of n series, each with a sample, an exemplar and
// what its family is.
func exemplified(n int, at int64) *writev2.Request {
	table := writev2.NewSymbolTable()
	req := &writev2.Request{}
	for i := range n {
		refs := func(pairs ...string) (out []uint32) {
			for _, s := range pairs {
				out = append(out, table.Symbolize(s))
			}
			return out
		}
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: refs("__name__", "requests_total", "instance", fmt.Sprintf("host-%04d", i)),
			Samples:    []writev2.Sample{{Timestamp: at, Value: 1}},
			Exemplars:  []writev2.Exemplar{{LabelsRefs: refs("trace_id", fmt.Sprint(i)), Value: 2, Timestamp: at}},
			Metadata:   writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: table.Symbolize("Requests.")},
		})
	}
	req.Symbols = table.Symbols()
	return req
}

func (n *node) sendV2(req *writev2.Request) (code int, text, written string) {
	n.t.Helper()
	raw, err := req.Marshal()
	if err != nil {
		n.t.Fatal(err)
	}
	w := n.postRaw(snappy.Encode(nil, raw), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		r.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	})
	return w.Code, w.Body.String(), strings.Join([]string{
		w.Header().Get("X-Prometheus-Remote-Write-Samples-Written"), w.Header().Get("X-Prometheus-Remote-Write-Exemplars-Written"),
	}, " ")
}

func TestExemplarsAreHeldByTheReplicasOfTheirSeries(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			b := newBed(t, nodes, nil)
			b.show(1, tableOf(t, 16, nodes, 3, 2, 1))
			const n = 40
			at := now()
			code, text, written := b.nodes[0].sendV2(exemplified(n, at))
			if code != http.StatusNoContent || written != fmt.Sprintf("%d %d", n, n) {
				t.Fatalf("%d %s, written %s", code, text, written)
			}
			eventually(t, "three replicas of each have them", func() bool {
				copies := map[string]int{}
				for _, nd := range b.nodes {
					for _, e := range nd.storage.exemplars() {
						copies[e]++
					}
				}
				for i := range n {
					if copies[fmt.Sprintf(`{__name__="requests_total", instance="host-%04d"} {trace_id="%d"}@%d=2`, i, i, at)] != 3 {
						return false
					}
				}
				return len(copies) == n
			})
			want := Metadata{Family: "requests_total", Type: "counter", Help: "Requests."}
			eventually(t, "three nodes know what the family is", func() bool {
				holders := 0
				for _, nd := range b.nodes {
					if nd.storage.families()[want] == 1 { // once, though every series says it
						holders++
					}
				}
				return holders == 3
			})
			// What is known is not stored again.
			if code, text, _ := b.nodes[0].sendV2(exemplified(n, at+1)); code != http.StatusNoContent {
				t.Fatalf("%d %s", code, text)
			}
			for _, nd := range b.nodes {
				if nd.storage.families()[want] > 1 {
					t.Errorf("%s has stored it twice", nd.name)
				}
			}
		})
	}
}

func TestExemplarsAreCountedAsAQuorumHoldsThem(t *testing.T) {
	refuse := func(o peerpb.Outcome) func(int64) peerpb.Outcome { return func(int64) peerpb.Outcome { return o } }
	for _, c := range []struct {
		name    string
		refusal []func(int64) peerpb.Outcome // by node
		fail    []bool
		code    int
		written string
	}{
		{"one refuses", []func(int64) peerpb.Outcome{refuse(peerpb.Outcome_CONFLICT), nil, nil}, []bool{false, false, false}, 204, "4 4"},
		{"one fails", []func(int64) peerpb.Outcome{nil, nil, nil}, []bool{true, false, false}, 204, "4 4"},
		// What can never be stored does not fail the samples, and is not called written.
		{"two refuse", []func(int64) peerpb.Outcome{refuse(peerpb.Outcome_CONFLICT), refuse(peerpb.Outcome_SERIES_LIMIT), nil}, []bool{false, false, false}, 204, "4 0"},
		// What may be stored yet is to come again.
		{"two fail", []func(int64) peerpb.Outcome{nil, nil, nil}, []bool{true, true, false}, 503, "4 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, 3, nil)
			b.show(1, tableOf(t, 4, 3, 3, 2, 1))
			for i, nd := range b.nodes {
				nd.storage.set(func(s *promStorage) {
					s.annexed.judge = c.refusal[i]
					if c.fail[i] {
						s.annexed.fail = errors.New("no room for exemplars")
					}
				})
			}
			req := exemplified(4, now())
			for i := range req.Timeseries {
				req.Timeseries[i].Metadata = writev2.Metadata{}
			}
			code, text, written := b.nodes[0].sendV2(req)
			if code != c.code || written != c.written {
				t.Fatalf("%d %q, written %s", code, text, written)
			}
			if code == 503 && !strings.Contains(text, "4 exemplars lack their quorum") {
				t.Fatalf("it says %q", text)
			}
			for _, nd := range b.nodes { // samples do not suffer
				if got := len(nd.storage.content(tenantID)); got < 4 && nd == b.nodes[0] {
					t.Errorf("%s has %d series", nd.name, got)
				}
			}
		})
	}
}

// TestExemplarsAloneAreNotCalledWritten: 204 would say that they are.
func TestExemplarsAloneAreNotCalledWritten(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(1, tableOf(t, 4, 3, 3, 2, 1))
	for _, nd := range b.nodes {
		nd.storage.set(func(s *promStorage) {
			s.annexed.judge = func(int64) peerpb.Outcome { return peerpb.Outcome_BAD_LABELS }
		})
	}
	req := exemplified(4, now())
	for i := range req.Timeseries {
		req.Timeseries[i].Metadata, req.Timeseries[i].Samples = writev2.Metadata{}, nil
	}
	code, text, written := b.nodes[0].sendV2(req)
	if code != http.StatusBadRequest || written != "0 0" || !strings.Contains(text, "4 exemplars refused for good, 0 stored") {
		t.Fatalf("%d %q, written %s", code, text, written)
	}
	for _, nd := range b.nodes {
		nd.storage.set(func(s *promStorage) { s.annexed.judge = nil })
	}
	if code, text, written := b.nodes[0].sendV2(req); code != http.StatusNoContent || written != "0 4" {
		t.Fatalf("%d %q, written %s", code, text, written)
	}
}

func TestMetadataAloneIsStoredOrSentAgain(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(1, tableOf(t, 4, 3, 3, 2, 1))
	req := &prompb.WriteRequest{Metadata: []prompb.MetricMetadata{
		{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: "up", Help: "It runs."}, {Type: prompb.MetricMetadata_INFO, MetricFamilyName: "build"},
	}}
	for _, nd := range b.nodes[1:] {
		nd.storage.set(func(s *promStorage) { s.annexed.fail = errors.New("no room") })
	}
	if text := b.nodes[0].mustPost(req, http.StatusServiceUnavailable); !strings.Contains(text, "metadata of 2 metric families") {
		t.Fatalf("it says %q", text)
	}
	for _, nd := range b.nodes[1:] {
		nd.storage.set(func(s *promStorage) { s.annexed.fail = nil })
	}
	b.nodes[0].mustPost(req, http.StatusNoContent) // not taken for stored by the first try
	holders := 0
	for _, nd := range b.nodes {
		if len(nd.storage.families()) == 2 {
			holders++
		}
	}
	if holders < 2 {
		t.Fatalf("%d nodes know the families", holders)
	}
}

func TestMetadataIsToldAgainAfterAWhile(t *testing.T) {
	told := newRetold()
	m := wire.Metadata{Type: 1, Family: []byte("a"), Help: []byte("b")}
	t0 := time.Unix(1_790_000_000, 0)
	of := Tenant{Incarnation: 1, Routed: 1}
	say := func(id string, of Tenant, at time.Time, m wire.Metadata) bool {
		return told.telling(id, of, at).wanted(m)
	}
	other := m
	other.Help = []byte("c")
	routed := of
	routed.Routed = 9
	for i, c := range []struct {
		id   string
		of   Tenant
		at   time.Time
		m    wire.Metadata
		want bool
	}{
		{"t", of, t0, m, true},
		{"t", of, t0, m, false},
		{"t", of, t0, other, true},
		{"u", of, t0, m, true},
		{"t", routed, t0, m, true},
		{"t", of, t0.Add(toldFor), m, true},
		{"t", of, t0.Add(toldFor), m, false},
	} {
		if got := say(c.id, c.of, c.at, c.m); got != c.want {
			t.Errorf("%d: wanted is %v", i, got)
		}
	}
	l := told.telling("t", of, t0.Add(time.Hour))
	if !l.wanted(m) || l.wanted(m) {
		t.Error("not known, and then known")
	}
	l.forget()
	if !say("t", of, t0.Add(time.Hour), m) {
		t.Error("known, though it was not stored")
	}
}

// A share may have samples, exemplars and series that have moved, in any order.
func TestPartsOfAShareAreStoredEachInItsWay(t *testing.T) {
	b := newBed(t, 1, nil)
	nd := b.nodes[0]
	b.show(5, tableOf(t, 4, 1, 1, 1, 5))
	req := exemplified(6, now())
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var w wire.Batch
	if err := wire.WalkV2(raw, wire.Limits{MaxTime: 1 << 60}, &w); err != nil {
		t.Fatal(err)
	}
	id := nd.id()
	s := &peerpb.Share{
		Tenant: tenantID, Incarnation: 1, Ring: 1, Store: id[:], Seen: 5, Need: 5,
		Series: uint32(len(w.Series)), Samples: uint32(w.Items()), Frames: w.Frames,
	}
	if res := nd.ing.store(t.Context(), s, false); res.Status != peerpb.Status_DONE || len(res.Outcomes) != 0 {
		t.Fatalf("%v", res)
	}
	if got := nd.storage.exemplars(); len(got) != 6 {
		t.Fatalf("exemplars: %q", got)
	}
	// One that says less than it holds is none.
	s.Samples--
	if res := nd.ing.store(t.Context(), s, false); res.Status != peerpb.Status_UNAVAILABLE {
		t.Fatalf("%v", res)
	}
}

func TestOlderMembersGetNeitherExemplarsNorMetadata(t *testing.T) {
	b := newBed(t, 3, nil)
	table := tableOf(t, 4, 3, 3, 2, 1)
	for _, nd := range b.nodes {
		v := b.view(nd, 1, table, nil)
		v.FloatsOnly = true
		nd.ing.SetView(v)
	}
	code, text, written := b.nodes[0].sendV2(exemplified(4, now()))
	if code != http.StatusNoContent || written != "4 0" {
		t.Fatalf("%d %s, written %s", code, text, written)
	}
	for _, nd := range b.nodes {
		if len(nd.storage.exemplars())+len(nd.storage.families()) > 0 {
			t.Errorf("%s has got some", nd.name)
		}
	}
}

// Exemplars go the way of their series, whatever a tenant's rules make of these.
func TestATenantsRulesChangeTheSeriesOfExemplars(t *testing.T) {
	n := single(t, nil, func(tn *Tenant) { tn.Relabel = []*relabel.Config{dropping("go_.*"), setting("cluster", "eu")} })
	at := now()
	kept, dropped := asked(at, "__name__", "up"), asked(at, "__name__", "go_x")
	for _, ts := range []*prompb.TimeSeries{&kept, &dropped} {
		ts.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "x"}}, Value: 1, Timestamp: at}}
	}
	n.mustPost(request(kept, dropped), http.StatusNoContent)
	want := fmt.Sprintf(`{__name__="up", cluster="eu"} {trace_id="x"}@%d=1`, at)
	if got := n.storage.exemplars(); len(got) != 1 || got[0] != want {
		t.Fatalf("%q, want %s", got, want)
	}
	n.has(tenantID, `{__name__="up", cluster="eu"}`)
}

package ingest

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
)

// handClock is a clock that a test moves.
type handClock struct{ ms atomic.Int64 }

func newHandClock() *handClock {
	c := &handClock{}
	c.ms.Store(time.Now().Truncate(time.Second).UnixMilli())
	return c
}

func (c *handClock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *handClock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// bounded is one node with one tenant of these limits, and its clock.
func bounded(t testing.TB, l Limits) (*node, *handClock) {
	t.Helper()
	c := newHandClock()
	return single(t, func(cfg *Config) { cfg.Now = c.now }, func(tn *Tenant) { tn.Limits = l }), c
}

func TestATenantOverItsRateIsRefusedBeforeItsBodyIsRead(t *testing.T) {
	n, clock := bounded(t, Limits{SamplesPerSecond: 100, BurstSamples: 50})
	at := clock.now().UnixMilli()
	n.mustPost(samplesOf(60, at, 1), 204) // ten more than it held
	r := n.postRaw([]byte("no snappy at all"))
	if r.Code != http.StatusTooManyRequests || r.Header().Get("Retry-After") != "1" {
		t.Fatalf("%d, Retry-After %q: %s", r.Code, r.Header().Get("Retry-After"), r.Body)
	}
	for _, want := range []string{"samples_per_second", "100 are allowed", "about 6", "send again in 1 seconds"} {
		if !strings.Contains(r.Body.String(), want) {
			t.Errorf("%q does not say %q", r.Body, want)
		}
	}
	if got := n.storage.count(tenantID); got != 60 {
		t.Fatalf("%d samples stored, want 60", got)
	}
	clock.advance(101 * time.Millisecond)
	n.mustPost(samplesOf(60, at+1, 2), 204)
	clock.advance(1)
	n.mustPost(samplesOf(1000, at+2, 3), 429)
	clock.advance(10 * time.Second)
	n.mustPost(samplesOf(1000, at+3, 4), 204) // larger than all that it ever holds
	if got := n.post(samplesOf(1, at+4, 5)).Header().Get("Retry-After"); got != "10" {
		t.Fatalf("Retry-After %q, want 10: what is owed comes back at 100 a second", got)
	}
}

func TestALimitHoldsAtOnceWhenItChanges(t *testing.T) {
	n, clock := bounded(t, Limits{SamplesPerSecond: 10, BurstSamples: 10})
	at := clock.now().UnixMilli()
	n.mustPost(samplesOf(100, at, 1), 204)
	n.mustPost(samplesOf(1, at+1, 1), 429)
	free := Tenant{Incarnation: 1, Ring: 1, Routed: 1, FutureWindow: 10 * time.Minute}
	v := *n.ing.fence.view.Load()
	v.Revision++
	v.Tenant = func(string) (Tenant, bool) { return free, true }
	n.ing.SetView(&v)
	n.mustPost(samplesOf(1000, at+2, 1), 204)
}

// TestNodesShareALimitByTheirDemand: what each grants follows what came to it, and
// all together grant the limit.
func TestNodesShareALimitByTheirDemand(t *testing.T) {
	clock := newHandClock()
	tn := Tenant{Incarnation: 7, Limits: Limits{SamplesPerSecond: 1000, BurstSamples: 1000}}
	nodes := []*Ingester{}
	for range 3 {
		nodes = append(nodes, &Ingester{rates: newRates(clock.now)})
	}
	granted := make([]float64, 3)
	// Three tenths, one tenth and six tenths of 3,000 samples a second, 10 a request.
	offer := []int{90, 30, 180}
	for second := range 30 {
		for tick := range 100 {
			for k, i := range nodes {
				for q := tick * offer[k] / 100; q < (tick+1)*offer[k]/100; q++ {
					if i.rates.admit("a", tn, 100) != nil {
						continue
					}
					i.rates.learn("a", tn, 100, 10)
					if i.rates.charge("a", tn, 10) == nil && second >= 10 {
						granted[k] += 10
					}
				}
			}
			clock.advance(10 * time.Millisecond)
		}
		total := 0.0
		for _, i := range nodes {
			for _, d := range i.Demands() {
				total += float64(d.Samples)
			}
		}
		for _, i := range nodes {
			of := map[uint64]float64{}
			for _, d := range i.Demands() {
				of[d.Tenant] = float64(d.Samples) / total
			}
			i.SetParts(of, 1.0/3)
		}
	}
	all := 0.0
	for k, g := range granted {
		all += g
		if want := 20_000 * float64(offer[k]) / 300; math.Abs(g-want) > want/10 {
			t.Errorf("node %d granted %v, want about %v", k+1, g, want)
		}
	}
	if all < 19_800 || all > 20_200 {
		t.Errorf("%v granted in 20 seconds, want 20000 within 1 %%", all)
	}
	// Nobody tells anything any more.
	clock.advance(4 * time.Second)
	if got := nodes[0].rates.part(7, clock.now()); got > 0.35 {
		t.Errorf("part %v after 4 seconds, want what it was", got)
	}
	clock.advance(2 * time.Second)
	if got := nodes[0].rates.part(7, clock.now()); got != 1 {
		t.Errorf("part %v after 6 seconds, want the whole limit", got)
	}
}

// TestNewSeriesArePaidForAfterwards: each is charged once, though three replicas
// tell of it.
func TestNewSeriesArePaidForAfterwards(t *testing.T) {
	b := newBed(t, 3, nil)
	clock := newHandClock()
	for _, n := range b.nodes {
		n.ing.rates.now = clock.now
		n.ing.SetView(b.view(n, 10, tableOf(t, 64, 3, 3, 2, 5), map[string]Tenant{tenantID: {
			Incarnation: 1, Ring: 1, Routed: 1, FutureWindow: 10 * time.Minute, Limits: Limits{NewSeriesPerSecond: 10},
		}}))
	}
	n := b.nodes[0]
	at := now()
	n.mustPost(samplesOf(300, at, 1), 204) // 200 more than ten seconds bring
	owed := func() float64 {
		x := n.ing.rates.known(tenantID)
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.series.level
	}
	eventually(t, "all three replicas have told of the new series", func() bool { return math.Abs(owed()+200) < 1e-6 })
	r := n.post(samplesOf(300, at+1, 2))
	if r.Code != http.StatusTooManyRequests || r.Header().Get("Retry-After") != "20" || !strings.Contains(r.Body.String(), "new_series_per_second: 10 are allowed") {
		t.Fatalf("%d, Retry-After %q: %s", r.Code, r.Header().Get("Retry-After"), r.Body)
	}
	clock.advance(20*time.Second + time.Millisecond)
	for k := range int64(20) { // series that are there cost nothing
		n.mustPost(samplesOf(300, at+2+k, 3), 204)
	}
	if got := owed(); got < 0 || got > 1 {
		t.Fatalf("level %v, want what came in a millisecond", got)
	}
}

func TestRetryAfterIsWholeSecondsAndNoMoreThanAMinute(t *testing.T) {
	for after, want := range map[time.Duration]string{0: "1", time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2", time.Hour: "60", math.MaxInt64: "60"} {
		if got := retryAfterOf(errors.Join(errors.New("x"), &exceeded{after: after})); got != want {
			t.Errorf("after %v: %s, want %s", after, got, want)
		}
	}
	if retryAfterOf(errOverloaded) != "1" {
		t.Error("another error")
	}
}

func TestRatesForgetWhoIsSilentOrGone(t *testing.T) {
	clock := newHandClock()
	r := newRates(clock.now)
	for k := range 100 {
		if err := r.charge(strconv.Itoa(k), Tenant{Incarnation: uint64(k + 1), Limits: Limits{SamplesPerSecond: 10}}, 1); err != nil {
			t.Fatal(err)
		}
	}
	r.sweep(func(id string) bool { return len(id) == 1 })
	if len(r.tenants) != 10 {
		t.Fatalf("%d tenants, want 10", len(r.tenants))
	}
	clock.advance(idleRate + time.Second)
	if r.sweep(func(string) bool { return true }); len(r.tenants) != 0 {
		t.Fatalf("%d tenants, want none", len(r.tenants))
	}
	// Without a limit nothing is kept.
	if err := r.charge("free", Tenant{Incarnation: 1}, 1); err != nil || len(r.tenants) != 0 {
		t.Fatalf("%v, %d tenants", err, len(r.tenants))
	}
}

// TestAnAnswerNamesTheSeriesLimit: with its value.
func TestAnAnswerNamesTheSeriesLimit(t *testing.T) {
	n, _ := bounded(t, Limits{ActiveSeries: 5})
	n.storage.set(func(s *promStorage) { s.judge = refuseAbove(5) })
	req := samplesOf(8, now(), 1)
	text := n.mustPost(req, 400)
	if !strings.Contains(text, "active_series, 5, is reached: 3, {__name__=\"requests_total\"") || !strings.Contains(text, "3 of 8 samples refused for good, 5 stored") {
		t.Fatalf("answer %q", text)
	}
	req = &prompb.WriteRequest{Timeseries: req.Timeseries[:5]}
	for k := range req.Timeseries {
		req.Timeseries[k].Samples[0].Timestamp++
	}
	n.mustPost(req, 204)
}

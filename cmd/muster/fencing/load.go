package fencing

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/ring"
)

const (
	tenantID = "fence"
	// writePace is between two requests of a node's writer, and mixedEvery how
	// often one has all series and not those of one slot.
	writePace  = 25 * time.Millisecond
	mixedEvery = 8
	// writePatience is longer than a node waits for a quorum, and than one is frozen.
	writePatience = 30 * time.Second
)

// series is one whose slot is known.
type series struct {
	slot  int
	label string
}

// seriesIn finds a series of the metric that lies in the slot.
func seriesIn(metric string, slot, slots int) (series, error) {
	tenant := ring.TenantHash(tenantID)
	for i := range 100 * slots {
		label := strconv.Itoa(i)
		hash, err := hashOf(metric, label)
		if err != nil {
			return series{}, err
		}
		if ring.KeyOf(tenant, hash).Slot(slots) == slot {
			return series{slot, label}, nil
		}
	}
	return series{}, fmt.Errorf("no series of %s lies in slot %d of %d", metric, slot, slots)
}

func hashOf(metric, label string) (uint64, error) {
	var b wire.Batch
	raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{seriesOf(metric, label, 1)}}).Marshal()
	if err != nil {
		return 0, err
	}
	if err := wire.WalkV1(raw, wire.Limits{MaxTime: 1 << 60}, &b); err != nil {
		return 0, err
	}
	if len(b.Series) != 1 {
		return 0, fmt.Errorf("%s was walked as %d series", label, len(b.Series))
	}
	return b.Series[0].Hash, nil
}

func seriesOf(metric, label string, at int64) prompb.TimeSeries {
	return prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "__name__", Value: metric}, {Name: "series", Value: label}},
		Samples: []prompb.Sample{{Value: valueAt(at), Timestamp: at}},
	}
}

// valueAt is what every series has at a time: whoever writes it, it is the same.
func valueAt(at int64) float64 { return float64(at % 1_000_000) }

// load writes the series of a story.
type load struct {
	metric string
	series []series
	ledger *ledger
	http   http.Client

	mu   sync.Mutex
	last int64 // the newest time that was written
}

func newLoad(metric string, all []series, l *ledger) *load {
	return &load{metric: metric, series: all, ledger: l, http: http.Client{
		Timeout: writePatience, Transport: &http.Transport{MaxIdleConnsPerHost: 100},
	}}
}

// slots are those of the series.
func (l *load) slots() []int {
	out := make([]int, 0, len(l.series))
	for _, s := range l.series {
		out = append(out, s.slot)
	}
	return out
}

// tick is a time that no sample has yet, about now.
func (l *load) tick() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last+1, time.Now().UnixMilli())
	return l.last
}

// one writes a sample of one series, or of all for -1, to a node, once.
func (l *load) one(ctx context.Context, n *fleet.Node, which int) post {
	p := post{node: n.Name, which: which, at: l.tick()}
	var req prompb.WriteRequest
	for i, s := range l.series {
		if which < 0 || i == which {
			req.Timeseries = append(req.Timeseries, seriesOf(l.metric, s.label, p.at))
		}
	}
	raw, err := req.Marshal()
	if err != nil {
		p.says = err.Error()
		return p
	}
	p.began = time.Now()
	p.status, p.says = n.Post(ctx, &l.http, tenantID, snappy.Encode(nil, raw), 0)
	p.ended = time.Now()
	l.ledger.add(p)
	return p
}

// underWay bounds the requests that a node's writer has waiting for answers.
const underWay = 32

// through writes to a node until ctx ends, whether or not it answers: a node
// that is cut off keeps a request for seconds. What has begun is waited for.
func (l *load) through(ctx context.Context, n *fleet.Node, first int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, underWay)
	for i := first; ; i++ {
		which := i % len(l.series)
		if i%mixedEvery == 0 {
			which = -1
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-places }()
			l.one(context.WithoutCancel(ctx), n, which)
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(writePace):
		}
	}
}

// inFlight requests of a burst: they wait at a node that is frozen or cut off.
const inFlight = 64

// burst writes many requests to a node at once; the func that it returns waits
// for their answers.
func (l *load) burst(ctx context.Context, n *fleet.Node) (wait func()) {
	var wg sync.WaitGroup
	for i := range inFlight {
		which := i % len(l.series)
		if i%mixedEvery == 0 {
			which = -1
		}
		wg.Go(func() { l.one(ctx, n, which) })
	}
	return wg.Wait
}

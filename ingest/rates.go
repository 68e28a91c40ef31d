package ingest

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// partsAge is for how long this node goes by what it last heard of the others'
	// demand. Without that it uses a tenant's whole limit.
	partsAge = 5 * time.Second
	// leastPart of a limit is this node's however little of the demand it had.
	leastPart = 0.01
	// usualBurst is the room of a bucket, in seconds of its rate, where the tenant
	// has none of its own: senders come in lumps.
	usualBurst = 10
	// idleRate is how long a tenant that does not write is remembered.
	idleRate = 10 * time.Minute
)

// The names of the limits, as the tenant's object has them.
const (
	samplesPerSecond   = "samples_per_second"
	newSeriesPerSecond = "new_series_per_second"
)

// rates holds tenants to their limits of a second. The limits are the whole
// cluster's; a node grants the part of them that it had of the demand of the last
// second, which travels with the heartbeats.
//
// A request that has been let in is charged for all that it brings, whatever the
// verdict on it: what a limit bounds is work.
type rates struct {
	now     func() time.Time
	parts   atomic.Pointer[grants]
	mu      sync.RWMutex
	tenants map[string]*rate
}

// grants is how the demand is spread over the nodes.
type grants struct {
	at time.Time
	of map[uint64]float64 // this node's part by the tenant's incarnation
	// rest is its part of a tenant that it has told nobody of.
	rest float64
}

// rate is what one tenant does in a second at this node.
type rate struct {
	mu          sync.Mutex
	incarnation uint64
	limits      Limits // as of the last request
	seen        time.Time
	samples     bucket
	series      bucket
	offered     meter // samples, those of refused requests estimated
	born        meter // new series
	// What requests usually bring: samples a byte, and a request.
	perByte, perRequest float64
}

func newRates(now func() time.Time) *rates {
	return &rates{now: now, tenants: map[string]*rate{}}
}

func (l Limits) rated() bool { return l.SamplesPerSecond > 0 || l.NewSeriesPerSecond > 0 }

// of is the tenant's rate; nil where nothing bounds it.
func (r *rates) of(id string, t Tenant) *rate {
	if !t.Limits.rated() {
		return nil
	}
	x := r.known(id)
	if x == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if x = r.tenants[id]; x == nil {
			x = &rate{}
			r.tenants[id] = x
		}
	}
	return x
}

func (r *rates) known(id string) *rate {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.tenants[id]
}

// admit refuses a request before anything of it is read, where its tenant has
// used up what it may; bytes is how many the sender says, below 0: it does not say.
func (r *rates) admit(id string, t Tenant, bytes int64) error {
	x := r.of(id, t)
	if x == nil {
		return nil
	}
	now := r.now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := r.check(x, id, t, now); err != nil {
		x.offered.add(now, x.guess(bytes))
		return err
	}
	return nil
}

// charge takes what a request brings out of its tenant's rate, or refuses it where
// others have used that up since it was admitted.
func (r *rates) charge(id string, t Tenant, samples int) error {
	x := r.of(id, t)
	if x == nil {
		return nil
	}
	now := r.now()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.offered.add(now, float64(samples))
	if err := r.check(x, id, t, now); err != nil {
		return err
	}
	x.samples.level -= float64(samples)
	return nil
}

// brought takes series that a replica has found to be new out of the tenant's
// rate. They are known only when they are stored, so that the next requests pay.
func (r *rates) brought(id string, incarnation uint64, series float64) {
	x := r.known(id)
	if x == nil {
		return
	}
	now := r.now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.incarnation == incarnation {
		x.series.level -= series
		x.born.add(now, series)
	}
}

// check looks at both buckets. Under x.mu.
func (r *rates) check(x *rate, id string, t Tenant, now time.Time) error {
	if x.incarnation != t.Incarnation { // deleted and created again
		x.incarnation, x.samples, x.series, x.offered, x.born = t.Incarnation, bucket{}, bucket{}, meter{}, meter{}
	}
	x.limits, x.seen = t.Limits, now
	part := r.part(t.Incarnation, now)
	for _, l := range x.each() {
		if l.limit <= 0 {
			*l.bucket = bucket{}
			continue
		}
		pace := float64(l.limit) * part
		l.bucket.look(now, pace, l.burst*part)
		if l.bucket.empty() {
			return &exceeded{
				tenant: id, limit: l.name, value: l.limit, use: l.meter.rate(now) / part, part: part, after: l.bucket.wait(pace),
			}
		}
	}
	return nil
}

// rated is one limit of a tenant, and what it has used of it.
type rated struct {
	name   string
	limit  int64
	burst  float64
	bucket *bucket
	meter  *meter
}

func (x *rate) each() [2]rated {
	burst := float64(x.limits.BurstSamples)
	if burst <= 0 {
		burst = usualBurst * float64(x.limits.SamplesPerSecond)
	}
	return [2]rated{
		{samplesPerSecond, x.limits.SamplesPerSecond, burst, &x.samples, &x.offered},
		{newSeriesPerSecond, x.limits.NewSeriesPerSecond, usualBurst * float64(x.limits.NewSeriesPerSecond), &x.series, &x.born},
	}
}

// learn remembers what requests of so many bytes bring.
func (r *rates) learn(id string, t Tenant, bytes, samples int) {
	if x := r.of(id, t); x != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.learn(float64(bytes), float64(samples))
	}
}

// learn is rates.learn. Under mu.
func (x *rate) learn(bytes, samples float64) {
	const weight = 1.0 / 8
	if x.perRequest == 0 {
		x.perByte, x.perRequest = samples/max(bytes, 1), samples
		return
	}
	x.perByte += weight * (samples/max(bytes, 1) - x.perByte)
	x.perRequest += weight * (samples - x.perRequest)
}

// guess is about how many samples a request of so many bytes brings. Under mu.
func (x *rate) guess(bytes int64) float64 {
	if bytes < 0 {
		return x.perRequest
	}
	return x.perByte * float64(bytes)
}

// part is this node's part of a tenant's limits.
func (r *rates) part(incarnation uint64, now time.Time) float64 {
	p := r.parts.Load()
	if p == nil || now.Sub(p.at) > partsAge {
		return 1
	}
	own, ok := p.of[incarnation]
	if !ok {
		own = p.rest
	}
	return min(max(own, leastPart), 1)
}

// sweep forgets tenants that are no more, and those that have long been silent.
func (r *rates) sweep(known func(id string) bool) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, x := range r.tenants {
		x.mu.Lock()
		idle := now.Sub(x.seen) > idleRate
		x.mu.Unlock()
		if idle || !known(id) {
			delete(r.tenants, id)
		}
	}
}

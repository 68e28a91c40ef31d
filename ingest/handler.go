package ingest

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/muster-metrics/muster/ingest/wire"
)

// serve answers a write whose headers are read by headers. What may refuse it
// before anything is stored is checked in the order of the contract's table.
func (i *Ingester) serve(w http.ResponseWriter, r *http.Request, tenant string, headers func(http.Header) (message, error)) {
	begin := time.Now()
	i.metrics.inflight.Inc()
	defer i.metrics.inflight.Dec()
	var a account
	seen := &witness{ResponseWriter: w}
	r, end := i.traced(r, tenant)
	status := i.receive(seen, r, tenant, headers, &a)
	end(status, a, seen.text)
	i.metrics.answered(tenant, status, a, time.Since(begin))
	if !a.judged {
		i.complaints.answered(tenant, a, status, seen.text)
	}
}

// account is what a request was about, for the metrics.
type account struct {
	known           bool // the tenant: else its name is not worth a metric
	judged          bool // sample by sample: the complaints are made
	bytes           int
	series, samples int
}

func (i *Ingester) receive(w http.ResponseWriter, r *http.Request, tenant string, headers func(http.Header) (message, error), a *account) int {
	m, notTaken := headers(r.Header)
	m.form.written(w.Header(), 0, 0, 0)
	v, t, err := i.tenant(r.Context(), tenant)
	if err != nil {
		return fail(w, err)
	}
	a.known = true
	defer i.metrics.serving(tenant)()
	limit := i.cfg.MaxRequestBytes
	if n := t.Limits.RequestBytes; n > 0 {
		limit = min(limit, n)
	}
	if r.ContentLength > limit {
		return fail(w, tooLarge("request body", limit))
	}
	if notTaken != nil {
		return fail(w, notTaken)
	}
	if v.SplitLabel == "" { // else it is others who pay
		if err := i.admitRate(tenant, t, r.ContentLength); err != nil {
			return fail(w, err)
		}
	}
	lift := i.expect(w)
	b, err := i.batch(r, tenant, v, t, m, limit, a)
	if err != nil {
		return fail(w, err)
	}
	lift()
	defer b.release()
	// The body may have taken its time to come: route by what is known now.
	if v, t, err = i.tenant(r.Context(), tenant); err != nil {
		return fail(w, err)
	}
	a.series, a.samples = max(len(b.wire.Series), b.wire.Came), b.wire.Samples+b.wire.Refused.Total()
	i.metrics.described(b.wire)
	i.rates.learn(tenant, t, a.bytes, a.samples)
	repeat, _ := strconv.Atoi(r.Header.Get("Retry-Attempt"))
	if families := i.families(tenant, &b.wire.Descriptions); families != nil {
		if len(b.wire.Series)+b.wire.Refused.Total() == 0 {
			status, text := answerToMetadata(i.tell(r.Context(), families, b.take(), v, t))
			return say(w, status, text)
		}
		defer i.tellLater(r.Context(), families, b, v, t)
	}
	out, err := i.carryOut(r.Context(), tenant, sight{v, t}, b, repeat > 0 || m.export != nil)
	if err != nil {
		return fail(w, err)
	}
	a.judged = true
	m.form.written(w.Header(), out.stored-out.histograms, out.histograms, out.exemplars)
	if out.after != "" {
		w.Header().Set("Retry-After", out.after)
	}
	status, text := out.answer()
	if m.form == remoteWrite2 {
		status, text = out.answerV2()
	}
	if m.export != nil {
		status, text = m.export.answer(out, status, text)
	}
	return say(w, status, text)
}

// carryOut writes what is laid out of a request, counts what becomes of it, and tells. Its
// error is about the request as a whole: nothing of it was stored.
func (i *Ingester) carryOut(ctx context.Context, tenant string, by sight, b *batch, repeat bool) (*report, error) {
	if b.recast || by.view.recasts(by.tenant) {
		return i.recast(ctx, tenant, by, b, repeat)
	}
	if err := i.chargeRate(tenant, by.tenant, b.wire.Samples+b.wire.Refused.Total()); err != nil {
		return nil, err
	}
	w := &write{ingester: i, tenant: tenant, batch: b.wire, frames: b.frames, repeat: repeat}
	w.run(ctx, by.view, by.tenant)
	return i.judged(w), nil
}

// judged counts what became of a write that has been carried out, and tells.
func (i *Ingester) judged(w *write) *report {
	i.metrics.verdicts(w)
	r := reportOf(w)
	status, text := r.answer()
	i.complaints.verdicts(w, status, text)
	return r
}

// tenant finds the tenant, and the view to serve it by; an unknown one is
// created where that is allowed.
func (i *Ingester) tenant(ctx context.Context, id string) (*View, Tenant, error) {
	v := i.fence.lead()
	if v == nil {
		return nil, Tenant{}, refusal{http.StatusServiceUnavailable, "not ready: no cluster yet"}
	}
	if v.NotReady != nil {
		if why := v.NotReady(); why != "" {
			return nil, Tenant{}, refusal{http.StatusServiceUnavailable, "not ready: " + why}
		}
	}
	t, ok := v.Tenant(id)
	if !ok {
		if err := i.meet(ctx, v, id); err != nil {
			return nil, t, err
		}
		v = i.fence.view.Load()
		if t, ok = v.Tenant(id); !ok {
			return nil, t, refusal{http.StatusServiceUnavailable, fmt.Sprintf("tenant %q has just been deleted", id)}
		}
	}
	if t.Unready != "" {
		return nil, t, refusal{http.StatusServiceUnavailable, fmt.Sprintf("tenant %q: %s", id, t.Unready)}
	}
	if t.Suspended {
		return nil, t, refusal{http.StatusForbidden, fmt.Sprintf("tenant %q is suspended", id)}
	}
	return v, t, nil
}

// meet makes sure that a tenant which the view does not know is known to the
// next one. Whoever guards the door has found the tenant in the newest state, or
// has found that it may be created: where it may not, this view is behind that
// state, as it is for a moment while a snapshot is taken over. That is no reason
// for a sender to drop its samples.
func (i *Ingester) meet(ctx context.Context, v *View, id string) error {
	if v.AutoCreate && i.ensure != nil {
		return i.creating.do(ctx, id, i.create)
	}
	if i.fence.await(ctx, lagWait, func(v *View) bool { _, ok := v.Tenant(id); return ok }) {
		return nil
	}
	return refusal{http.StatusServiceUnavailable, fmt.Sprintf("tenant %q is not known to the write path yet: this node is catching up", id)}
}

// lagWait is how long a write waits for the view to catch up with the state
// that let it in.
const lagWait = time.Second

// ensureWait is how long a write waits for its tenant to be created and seen.
const ensureWait = 5 * time.Second

// create makes sure that the tenant exists and that this node has seen it.
func (i *Ingester) create(id string) error {
	ctx, cancel := context.WithTimeout(i.life, ensureWait)
	defer cancel()
	if err := i.ensure.Ensure(ctx, id); err != nil {
		return fmt.Errorf("create tenant %q: %w", id, err)
	}
	seen := i.fence.await(ctx, ensureWait, func(v *View) bool { _, ok := v.Tenant(id); return ok })
	if !seen {
		return fmt.Errorf("tenant %q is created but not seen here yet", id)
	}
	return nil
}

// creations joins the writes that wait for the same new tenant.
type creations struct {
	mu  sync.Mutex
	ids map[string]*creation
}

type creation struct {
	done chan struct{}
	err  error
}

// maxCreations bounds the tenants that are being created at once: names cost
// a sender nothing.
const maxCreations = 64

func (c *creations) do(ctx context.Context, id string, create func(string) error) error {
	c.mu.Lock()
	one, ok := c.ids[id]
	if !ok {
		if len(c.ids) >= maxCreations {
			c.mu.Unlock()
			return errOverloaded
		}
		if c.ids == nil {
			c.ids = map[string]*creation{}
		}
		one = &creation{done: make(chan struct{})}
		c.ids[id] = one
	}
	c.mu.Unlock()
	if !ok {
		one.err = create(id)
		c.mu.Lock()
		delete(c.ids, id)
		c.mu.Unlock()
		close(one.done)
	}
	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// batch is a request in canonical form, and what it holds until the answer.
type batch struct {
	tenant string
	wire   *wire.Batch
	frames *buffer
	leave  []func()
	held   int64 // bytes that are admitted for it
	recast bool  // its series are not judged yet one by one
	// telling is what was said of metric families, until somebody stores it.
	telling *telling
}

var batches = sync.Pool{New: func() any { return &wire.Batch{} }}

// release is called after the answer. Shares that are still on their way are
// readers of the frames of their own.
func (b *batch) release() {
	b.frames.release()
	if b.telling != nil {
		b.telling.forget()
	}
	b.wire.Frames = nil
	if poisoned {
		spoilBatch(b.wire)
	}
	batches.Put(b.wire)
	for _, leave := range b.leave {
		leave()
	}
}

// batch reads, decodes and walks the body.
func (i *Ingester) batch(r *http.Request, tenant string, v *View, t Tenant, m message, limit int64, a *account) (*batch, error) {
	body, leave, err := i.body(r, tenant, limit)
	if err != nil {
		return nil, err
	}
	defer leave()
	defer body.release()
	a.bytes = len(body.b)
	plain, done, err := i.decode(r.Context(), tenant, m, body)
	if err != nil {
		done()
		return nil, err
	}
	defer plain.release()
	size := int64(len(plain.b))
	turn, err := i.admission.turn(r.Context(), tenant)
	if err != nil {
		done()
		return nil, err
	}
	defer turn()
	b := &batch{
		tenant: tenant, wire: batches.Get().(*wire.Batch), frames: newBuffer(int(m.form.frames(size))),
		leave: []func(){done}, held: size + m.form.frames(size),
	}
	b.wire.Frames = b.frames.b
	b.wire.Reset()
	lim := i.limits(v, t)
	// No sender that fills in its times and values comes near to this in 1.0.
	lim.Bytes = int(max(size+size, m.form.frames(size))) + 1<<20
	if m.form != remoteWrite1 {
		lim.More = func(n int) (int, error) { return n, i.grow(b, n) }
	}
	if !lim.SamplesOnly {
		lim.Describe = func(m wire.Metadata) bool {
			if b.telling == nil {
				b.telling = i.told.telling(tenant, t, i.cfg.Now())
			}
			return b.telling.wanted(m)
		}
	}
	if b.recast = v.recasts(t); b.recast {
		oldest, newest := lim.MinTime, lim.MaxTime
		if lim = lim.Loose(); m.export != nil {
			lim.MinTime, lim.MaxTime = oldest, newest // its converter adds samples between its times
		}
	}
	if m.export != nil {
		err = m.export.lay(r.Context(), plain.b, lim, b.wire)
	} else {
		err = m.form.walk(plain.b, lim, b.wire)
	}
	b.frames.b = b.wire.Frames
	if err != nil {
		b.release()
		return nil, err
	}
	return b, nil
}

// grow admits a batch that takes n bytes for as many more.
func (i *Ingester) grow(b *batch, n int) error {
	if int64(n) > i.cfg.MaxDecodedBytes || b.held+int64(n) > i.admission.decoded.room { // there will never be room
		return refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("what the body stands for takes more than %d bytes", n)}
	}
	done, err := i.admission.more(b.tenant, int64(n))
	if err != nil {
		return err
	}
	b.leave = append(b.leave, done)
	b.held += int64(n)
	return nil
}

// limits of this request. Times are judged here, once, by the cluster's clock.
func (i *Ingester) limits(v *View, t Tenant) wire.Limits {
	now := i.cfg.Now()
	if v.ClockOffset != nil {
		now = now.Add(v.ClockOffset())
	}
	return wire.Limits{
		Series:      int(t.Limits.SeriesPerRequest),
		Samples:     int(t.Limits.SamplesPerRequest),
		Names:       int(t.Limits.LabelNames),
		NameLength:  int(t.Limits.LabelNameLength),
		ValueLength: int(t.Limits.LabelValueLength),
		FloatsOnly:  v.FloatsOnly,
		SamplesOnly: v.FloatsOnly || i.annex == nil,
		MinTime:     now.Add(-max(t.OutOfOrderWindow, MinWindow)).UnixMilli(),
		MaxTime:     now.Add(t.FutureWindow).UnixMilli(),
	}
}

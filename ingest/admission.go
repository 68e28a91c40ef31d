package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// admission bounds the bytes of requests that are being served: first those
// that come in, then, before anything is decompressed, those that they become.
// Two bounds, taken in this order, cannot wait for each other. Each is shared
// fairly between tenants (gate), and so are the processor's cores, which are
// taken last, for as long as it is computed and nothing is waited for. Where
// the memory is used up nobody is let in at all.
//
// What other members bring is bounded apart from it, and never waits: it is here
// already. Memory that only slow replicas still hold is bounded by their queues.
type admission struct {
	wait     time.Duration
	memory   *memory
	incoming *gate
	decoded  *gate
	cores    *gate
	shares   *gate
}

func newAdmission(cfg Config) *admission {
	return &admission{
		wait:     cfg.AdmissionWait,
		memory:   newMemory(cfg),
		incoming: newGate(max(cfg.InflightBytes/2, cfg.MaxRequestBytes)),
		decoded:  newGate(cfg.InflightBytes),
		cores:    newGate(int64(runtime.GOMAXPROCS(0))),
		shares:   newGate(cfg.InflightBytes),
	}
}

// errOverloaded means that there was no room for a request in time.
var errOverloaded = errors.New("overloaded")

func overloaded(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", errOverloaded, what, err)
}

// body admits a body of n bytes, before it is read.
func (a *admission) body(ctx context.Context, tenant string, n int64) (release func(), err error) {
	if err := a.memory.refusesWrites(); err != nil {
		return nil, err
	}
	if err := a.incoming.enter(ctx, tenant, n, a.wait); err != nil {
		return nil, overloaded("bytes of requests that come in", err)
	}
	return func() { a.incoming.leave(tenant, n) }, nil
}

// moreBody admits n bytes more of a body of unknown length. It does not wait.
func (a *admission) moreBody(tenant string, n int64) (release func(), err error) {
	if !a.incoming.add(tenant, n) {
		return nil, overloaded("bytes of requests that come in", errFull)
	}
	return func() { a.incoming.leave(tenant, n) }, nil
}

// work admits decoded bytes and what their canonical form takes.
func (a *admission) work(ctx context.Context, tenant string, n int64) (release func(), err error) {
	if err := a.decoded.enter(ctx, tenant, n, a.wait); err != nil {
		return nil, overloaded("bytes of requests that are being served", err)
	}
	return func() { a.decoded.leave(tenant, n) }, nil
}

// more admits n bytes more to one that has been admitted. It does not wait: two
// who waited for each other's would wait for ever.
func (a *admission) more(tenant string, n int64) (release func(), err error) {
	if !a.decoded.add(tenant, n) {
		return nil, overloaded("bytes of requests that are being served", errFull)
	}
	return func() { a.decoded.leave(tenant, n) }, nil
}

// turn gives one of the processor's cores, until release, to who waits for
// nothing meanwhile. A tenant has at most as many as are left for the others.
func (a *admission) turn(ctx context.Context, tenant string) (release func(), err error) {
	if err := a.cores.enter(ctx, tenant, 1, a.wait); err != nil {
		return nil, overloaded("requests that are being decoded", err)
	}
	return func() { a.cores.leave(tenant, 1) }, nil
}

// share admits a share of n bytes that a member has sent, or says why it may not
// be stored now.
func (a *admission) share(tenant string, n int64) (release func(), err error) {
	if err := a.memory.refusesShares(); err != nil {
		return nil, err
	}
	if !a.shares.try(tenant, n) {
		return nil, overloaded("bytes of shares that wait for the storage", errFull)
	}
	return func() { a.shares.leave(tenant, n) }, nil
}

// register shows the gates and the memory.
func (a *admission) register(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	for _, g := range []struct {
		name string
		gate *gate
	}{{"bodies", a.incoming}, {"requests", a.decoded}, {"cores", a.cores}, {"shares", a.shares}} {
		at := prometheus.Labels{"gate": g.name}
		reg.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "muster_ingest_gate_inside", Help: "Bytes that are being served behind each gate of the write path; for cores, how many.", ConstLabels: at,
			}, func() float64 { inside, _ := g.gate.held(); return float64(inside) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "muster_ingest_gate_waiting", Help: "Requests that wait before each gate.", ConstLabels: at,
			}, func() float64 { _, waiting := g.gate.held(); return float64(waiting) }),
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "muster_ingest_gate_refused_total", Help: "Requests or shares that each gate has sent away.", ConstLabels: at,
			}, func() float64 { return float64(g.gate.refused()) }),
		)
	}
	a.memory.register(reg)
}

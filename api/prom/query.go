package prom

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// errTooMuch ends a query that reads more than one may.
var errTooMuch = errors.New("query reads too many bytes from the stores")

// scope is whose series a query sees.
type scope struct {
	tenant string
	all    bool // every tenant, with the tenant label on each series
}

// query is one run of a request: it plans by one look at the state, and keeps
// who answered what. It is a storage.Queryable for that run alone.
type query struct {
	api   *API
	scope scope
	state *cluster.State

	running sync.WaitGroup
	bytes   atomic.Int64

	mu        sync.Mutex
	err       error
	silent    map[string]error // nodes that did not answer; not asked again
	inquiries []*inquiry
	revision  uint64 // the greatest that a member has told
	oldest    int64  // the earliest time that was asked for, where some was
	looked    bool   // tenants were looked up: the result depends on the state
}

func (a *API) newQuery(s scope) *query {
	return &query{api: a, scope: s, state: a.cfg.State(), silent: map[string]error{}, oldest: farTime}
}

// Querier is a querier of the period; times are Unix milliseconds, inclusive.
func (q *query) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{query: q, mint: mint, maxt: maxt}, nil
}

// charge counts what the stores sent; beyond the limit the query fails.
func (q *query) charge(n int) error {
	if q.bytes.Add(int64(n)) <= q.api.cfg.MaxBytes {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = errTooMuch
	return errTooMuch
}

// failed is the query's own failure: its limit on bytes.
func (q *query) failed() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		return nil
	}
	// The engine hands an error of this kind through as the query's fault.
	return promql.ErrTooManySamplesRead(fmt.Sprintf("%v (at most %d)", q.err, q.api.cfg.MaxBytes))
}

// missed notes a node that did not answer; it is not asked again in this run.
// A read that the query itself has ended says nothing about the node.
func (q *query) missed(ctx context.Context, node string, err error) {
	if ctx.Err() != nil || errors.Is(err, errTooMuch) {
		return
	}
	q.mu.Lock()
	_, again := q.silent[node]
	q.silent[node] = err
	q.mu.Unlock()
	if !again {
		q.api.log.Warn("a member did not answer a read", "node", node, "err", err)
	}
}

func (q *query) heard(i *inquiry, node string, p *peerpb.Provenance) {
	i.answered(q.state, node, p)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.revision = max(q.revision, p.GetRevision())
}

// inquire begins a question about a tenant, and says which nodes to ask.
func (q *query) inquire(t *clusterpb.Tenant, mint, maxt int64) (*inquiry, []string) {
	i := &inquiry{
		tenant: t.GetId(), incarnation: t.GetIncarnation(), period: periodOf(mint, maxt),
		asked: map[string]bool{}, answers: map[ring.Store][]given{},
	}
	nodes := nodesOf(q.state, storesOf(q.state, t, i.period))
	for _, n := range nodes {
		i.asked[n] = true
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	q.inquiries = append(q.inquiries, i)
	q.oldest = min(q.oldest, mint)
	var ask []string
	for _, n := range nodes {
		if _, silent := q.silent[n]; !silent {
			ask = append(ask, n)
		}
	}
	return i, ask
}

// tenants are those the scope names, of which matchers choose.
func (q *query) tenants(ms []*labels.Matcher) []*clusterpb.Tenant {
	q.mu.Lock()
	q.looked = true
	q.mu.Unlock()
	if !q.scope.all {
		if t := q.state.Tenant(q.scope.tenant); t != nil {
			return []*clusterpb.Tenant{t}
		}
		return nil
	}
	var out []*clusterpb.Tenant
	q.state.WalkTenants("", func(t *clusterpb.Tenant) bool {
		if matchesAll(ms, t.GetId()) {
			out = append(out, t)
		}
		return true
	})
	return out
}

// verdict is what a run knows of its own answer.
type verdict struct {
	lacks []lack
	stale bool // the cluster changed while it ran: running it again may help
	state *cluster.State
}

// judge waits for this node to have seen what the members had, and judges.
// read is a revision at or above all that had been committed when the query
// came in. Where nobody could confirm one, another node may hold slots that
// this one knows nothing of, and the answer does not call itself complete.
func (q *query) judge(ctx context.Context, read confirmed) verdict {
	q.mu.Lock()
	need, all, looked := max(q.revision, read.revision), q.inquiries, q.looked
	q.mu.Unlock()
	v := verdict{state: q.api.caughtUp(ctx, need)}
	if !looked {
		return v
	}
	v.stale = q.otherTenants(v.state)
	now := q.api.cfg.Now().UnixMilli()
	for _, i := range all {
		lacks, stale := i.judge(v.state, now)
		v.lacks, v.stale = append(v.lacks, lacks...), v.stale || stale
	}
	if read.err != nil {
		v.lacks = append(v.lacks, lack{note: fmt.Sprintf(
			"no leader has confirmed revision %d, by which this node knows who holds what: %v", v.state.Revision(), read.err)})
	}
	if v.state.Revision() < need {
		v.lacks = append(v.lacks, lack{note: fmt.Sprintf(
			"this node has seen revision %d, others %d: it cannot tell who holds what", v.state.Revision(), need)})
	}
	return v
}

// otherTenants says whether the newer state has tenants that the query did not
// know: created, by somebody else's node, just before it came in.
func (q *query) otherTenants(st *cluster.State) bool {
	if q.scope.all {
		created := false
		st.WalkTenants("", func(t *clusterpb.Tenant) bool {
			created = t.GetIncarnation() > q.state.Revision()
			return !created
		})
		return created
	}
	return st.Tenant(q.scope.tenant).GetIncarnation() != q.state.Tenant(q.scope.tenant).GetIncarnation()
}

const (
	catchUp     = time.Second // a change reaches live nodes within a fraction of it
	catchUpLook = 5 * time.Millisecond
)

// caughtUp is the state once it has reached the revision, or as it is after
// catchUp.
func (a *API) caughtUp(ctx context.Context, revision uint64) *cluster.State {
	st := a.cfg.State()
	if st.Revision() >= revision {
		return st
	}
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	tick := time.NewTicker(catchUpLook)
	defer tick.Stop()
	for st.Revision() < revision {
		select {
		case <-tick.C:
			st = a.cfg.State()
		case <-ctx.Done():
			return st
		}
	}
	return st
}

package prom

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"golang.org/x/sync/errgroup"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
)

// querier asks the members for one period. Close ends what still runs.
type querier struct {
	*query
	mint, maxt int64

	mu     sync.Mutex
	ends   []context.CancelFunc
	closed bool
}

// Close ends the reads that nobody waited for, and waits until they have ended.
func (q *querier) Close() error {
	q.mu.Lock()
	ends := q.ends
	q.ends, q.closed = nil, true
	q.mu.Unlock()
	for _, end := range ends {
		end()
	}
	q.running.Wait()
	return nil
}

// until is ctx, ended by Close at the latest.
func (q *querier) until(ctx context.Context) context.Context {
	ctx, end := context.WithCancel(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		end()
		return ctx
	}
	q.ends = append(q.ends, end)
	return ctx
}

// Select asks for series at once and merges them when they are read.
func (q *querier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	req := &peerpb.SelectRequest{MinTime: q.mint, MaxTime: q.maxt}
	if hints != nil {
		req.MinTime, req.MaxTime = hints.Start, hints.End
		req.Limit, req.SkipChunks = int64(hints.Limit), hints.Func == "series"
	}
	ctx = q.until(ctx)
	if !q.scope.all {
		req.Matchers = matchersPB(ms)
		tenants := q.tenants(nil)
		if len(tenants) == 0 {
			return storage.EmptySeriesSet()
		}
		return q.selectFrom(ctx, tenants[0], req)
	}
	label := q.state.Settings().GetTenantLabel()
	inner, chosen := splitTenant(ms, label)
	if len(inner) == 0 {
		inner = []*labels.Matcher{everything}
	}
	req.Matchers = matchersPB(inner)
	return newTenantsSet(ctx, q, label, q.tenants(chosen), req, sorted)
}

// selectFrom asks every member that may hold something of the tenant.
func (q *querier) selectFrom(ctx context.Context, t *clusterpb.Tenant, to *peerpb.SelectRequest) storage.SeriesSet {
	req := &peerpb.SelectRequest{
		Tenant: t.GetId(), Incarnation: t.GetIncarnation(), MinTime: to.MinTime, MaxTime: to.MaxTime,
		Matchers: to.Matchers, SkipChunks: to.SkipChunks, Limit: to.Limit,
	}
	i, nodes := q.inquire(t, req.MinTime, req.MaxTime)
	sets := make([]storage.SeriesSet, 0, len(nodes))
	for _, n := range nodes {
		sets = append(sets, q.startFeed(ctx, n, i, req))
	}
	return &replicaSet{ctx: ctx, inquiry: i, query: q.query, sets: sets, limit: int(req.Limit)}
}

// replicaSet merges the nodes' sets. The merge begins with the first Next, so
// that a query with many selects asks for all of them at once.
type replicaSet struct {
	ctx     context.Context // of the select: a set lives no longer
	inquiry *inquiry
	query   *query
	sets    []storage.SeriesSet
	limit   int
	merged  storage.SeriesSet
	given   int
}

// Next moves on. Beyond the limit the rest is read and left out: the members
// were asked for no more than the limit each.
func (s *replicaSet) Next() bool {
	if s.merged == nil {
		s.inquiry.use()
		s.merged = storage.NewMergeSeriesSet(s.sets, 0, mergeReplicas)
	}
	for s.merged.Next() {
		if s.given++; s.limit <= 0 || s.given <= s.limit {
			return true
		}
	}
	return false
}

func (s *replicaSet) At() storage.Series                { return s.merged.At() }
func (s *replicaSet) Err() error                        { return errors.Join(s.ctx.Err(), s.query.failed()) }
func (s *replicaSet) Warnings() annotations.Annotations { return nil }

// LabelNames are the names of the labels of the series that match.
func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	out, err := q.labelWords(ctx, "", hints, ms)
	return out, nil, err
}

// LabelValues are the values of the label over the series that match.
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	out, err := q.labelWords(ctx, name, hints, ms)
	return out, nil, err
}

// tenantsAtOnce is how many tenants the operator's queries read side by side.
const tenantsAtOnce = 16

// labelWords asks for values of the label, or for names where it is "".
func (q *querier) labelWords(ctx context.Context, name string, hints *storage.LabelHints, ms []*labels.Matcher) ([]string, error) {
	ctx = q.until(ctx)
	limit := 0
	if hints != nil {
		limit = hints.Limit
	}
	w := &words{seen: map[string]struct{}{}}
	var chosen []*labels.Matcher
	label := ""
	if q.scope.all {
		label = q.state.Settings().GetTenantLabel()
		ms, chosen = splitTenant(ms, label)
	}
	req := &peerpb.LabelsRequest{MinTime: q.mint, MaxTime: q.maxt, Name: name, Matchers: matchersPB(ms), Limit: int64(limit)}
	if label != "" && name == label {
		req.Name = "" // a tenant counts where it has any label at all
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tenantsAtOnce)
	for _, t := range q.tenants(chosen) {
		group.Go(func() error {
			found := q.askTenant(ctx, t, req)
			switch {
			case len(found) == 0:
			case label != "" && name == label:
				w.add(t.GetId())
			case label != "" && name == "":
				w.add(append(found, label)...)
			default:
				w.add(found...)
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	out := slices.Sorted(maps.Keys(w.seen))
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out, nil
}

// askTenant asks every member that may hold something of the tenant.
func (q *querier) askTenant(ctx context.Context, t *clusterpb.Tenant, to *peerpb.LabelsRequest) []string {
	req := &peerpb.LabelsRequest{
		Tenant: t.GetId(), Incarnation: t.GetIncarnation(), MinTime: to.MinTime, MaxTime: to.MaxTime,
		Matchers: to.Matchers, Name: to.Name, Limit: to.Limit,
	}
	i, nodes := q.inquire(t, req.MinTime, req.MaxTime)
	i.use()
	w := &words{seen: map[string]struct{}{}}
	var asked sync.WaitGroup
	for _, n := range nodes {
		asked.Go(func() {
			resp, err := q.api.members.askLabels(ctx, n, req)
			if err != nil {
				q.missed(ctx, n, err)
				return
			}
			w.add(resp.GetValues()...)
			if p := resp.GetProvenance(); p != nil {
				q.heard(i, n, p)
			}
		})
	}
	asked.Wait()
	return slices.Collect(maps.Keys(w.seen))
}

// words is a set of names or values that goroutines add to.
type words struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

func (w *words) add(all ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range all {
		w.seen[s] = struct{}{}
	}
}

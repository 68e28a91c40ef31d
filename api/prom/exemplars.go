package prom

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"golang.org/x/sync/errgroup"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
)

// exemplified is a series with its exemplars, as Prometheus' API shows it.
type exemplified struct {
	SeriesLabels labels.Labels `json:"seriesLabels"`
	Exemplars    []example     `json:"exemplars"`
}

// example is an exemplar.
type example struct {
	Labels labels.Labels     `json:"labels"`
	Value  model.SampleValue `json:"value"`
	Time   model.Time        `json:"timestamp"`
}

func (e example) compare(o example) int {
	return cmp.Or(cmp.Compare(e.Time, o.Time), cmp.Compare(float64(e.Value), float64(o.Value)), labels.Compare(e.Labels, o.Labels))
}

func (e example) same(o example) bool {
	return e.Time == o.Time && math.Float64bits(float64(e.Value)) == math.Float64bits(float64(o.Value)) && labels.Equal(e.Labels, o.Labels)
}

// exemplars answers for the series that the selectors of a query choose.
func (a *API) exemplars(ctx context.Context, q *query, r *http.Request) (*answer, error) {
	start, end, err := span(r)
	if err != nil {
		return nil, err
	}
	expr, err := a.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return nil, bad("query", err)
	}
	selectors := parser.ExtractSelectors(expr)
	found := examples{scratch: labels.NewScratchBuilder(16)}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tenantsAtOnce)
	for _, t := range q.tenants(nil) {
		req := &peerpb.ExemplarsRequest{
			Tenant: t.GetId(), Incarnation: t.GetIncarnation(), MinTime: start.UnixMilli(), MaxTime: end.UnixMilli(),
			Selectors: q.selectorsFor(t, selectors),
		}
		if len(req.Selectors) == 0 || !q.state.Supports(cluster.Exemplars) {
			continue
		}
		group.Go(func() error {
			q.askExemplars(ctx, t, req, &found)
			return errors.Join(ctx.Err(), q.failed())
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return &answer{data: found.sorted()}, nil
}

// selectorsFor are those that may choose series of the tenant.
func (q *query) selectorsFor(t *clusterpb.Tenant, selectors [][]*labels.Matcher) (out []*peerpb.Selector) {
	for _, ms := range selectors {
		if q.scope.all {
			inner, chosen := splitTenant(ms, q.state.Settings().GetTenantLabel())
			if !matchesAll(chosen, t.GetId()) {
				continue
			}
			if ms = inner; len(ms) == 0 {
				ms = []*labels.Matcher{everything}
			}
		}
		out = append(out, &peerpb.Selector{Matchers: matchersPB(ms)})
	}
	return out
}

// askExemplars asks every member that may hold some of the tenant's.
func (q *query) askExemplars(ctx context.Context, t *clusterpb.Tenant, req *peerpb.ExemplarsRequest, into *examples) {
	i, nodes := q.inquire(t, req.MinTime, req.MaxTime)
	i.use()
	shown := ""
	if q.scope.all {
		shown = q.state.Settings().GetTenantLabel()
	}
	var asked sync.WaitGroup
	for _, n := range nodes {
		asked.Go(func() {
			var whole *peerpb.Provenance
			err := q.api.members.askExemplars(ctx, n, req, func(resp *peerpb.ExemplarsResponse) error {
				whole = resp.GetProvenance()
				if err := q.charge(resp.SizeVT()); err != nil {
					return err
				}
				return into.add(resp.GetSeries(), shown, t.GetId())
			})
			if err == nil && whole == nil {
				err = errors.New("the answer was cut")
			}
			if err != nil {
				q.missed(ctx, n, err)
				return
			}
			q.heard(i, n, whole)
		})
	}
	asked.Wait()
}

// examples merges what the members have.
type examples struct {
	mu      sync.Mutex
	scratch labels.ScratchBuilder
	series  map[string]*exemplified // by label bytes
}

// add takes one member's; label, if it is not "", is set to the tenant.
func (x *examples) add(all []*peerpb.SeriesExemplars, label, tenant string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range all {
		ls, err := labelsOf(s.GetLabels(), &x.scratch)
		if err != nil {
			return err
		}
		key := string(s.GetLabels())
		if label != "" {
			ls = labels.NewBuilder(ls).Set(label, tenant).Labels()
			key = string(labelBytes(ls))
		}
		one := x.series[key]
		if one == nil {
			one = &exemplified{SeriesLabels: ls}
			if x.series == nil {
				x.series = map[string]*exemplified{}
			}
			x.series[key] = one
		}
		for _, e := range s.GetExemplars() {
			ls, err := labelsOf(e.GetLabels(), &x.scratch)
			if err != nil {
				return fmt.Errorf("exemplar of %s: %w", one.SeriesLabels, err)
			}
			one.Exemplars = append(one.Exemplars, example{ls, model.SampleValue(e.GetValue()), model.Time(e.GetTime())})
		}
	}
	return nil
}

// sorted is the merge of all: each exemplar once.
func (x *examples) sorted() []*exemplified {
	out := slices.SortedFunc(maps.Values(x.series), func(a, b *exemplified) int { return labels.Compare(a.SeriesLabels, b.SeriesLabels) })
	for _, s := range out {
		slices.SortFunc(s.Exemplars, example.compare)
		s.Exemplars = slices.CompactFunc(s.Exemplars, example.same)
	}
	if out == nil {
		out = []*exemplified{}
	}
	return out
}

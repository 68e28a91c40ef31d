package prom

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// result is the data of a query.
type result struct {
	ResultType parser.ValueType `json:"resultType"`
	Result     parser.Value     `json:"result"`
}

// maxNotes bounds the warnings and the infos that the engine adds.
const maxNotes = 10

func (a *API) instant(ctx context.Context, q *query, r *http.Request) (*answer, error) {
	at, err := timeParam(r, "time", a.cfg.Now())
	if err != nil {
		return nil, err
	}
	return a.evaluate(ctx, r, func(opts promql.QueryOpts, text string) (promql.Query, error) {
		return a.engine.NewInstantQuery(ctx, q, opts, text, at)
	})
}

func (a *API) rangeQuery(ctx context.Context, q *query, r *http.Request) (*answer, error) {
	for _, name := range []string{"start", "end", "step"} {
		if r.FormValue(name) == "" {
			return nil, bad(name, errors.New("it is required"))
		}
	}
	start, end, err := span(r)
	if err != nil {
		return nil, err
	}
	step, err := parseDuration(r.FormValue("step"))
	if err != nil {
		return nil, bad("step", err)
	}
	if step <= 0 {
		return nil, bad("step", errors.New("zero or negative query resolution step widths are not accepted: try a positive integer"))
	}
	if end.Sub(start)/step > maxPoints {
		return nil, bad("step", fmt.Errorf("exceeded maximum resolution of %d points per timeseries: try a longer step", maxPoints))
	}
	return a.evaluate(ctx, r, func(opts promql.QueryOpts, text string) (promql.Query, error) {
		return a.engine.NewRangeQuery(ctx, q, opts, text, start, end, step)
	})
}

// evaluate runs a query. Its points belong to the engine until the answer is
// closed.
func (a *API) evaluate(ctx context.Context, r *http.Request, prepare func(promql.QueryOpts, string) (promql.Query, error)) (*answer, error) {
	limit, err := limitParam(r)
	if err != nil {
		return nil, err
	}
	lookback := time.Duration(0)
	if v := r.FormValue("lookback_delta"); v != "" {
		if lookback, err = parseDuration(v); err != nil {
			return nil, bad("lookback_delta", err)
		}
	}
	text := r.FormValue("query")
	pq, err := prepare(promql.NewPrometheusQueryOpts(false, lookback, nil), text)
	if err != nil {
		return nil, bad("query", err)
	}
	res := pq.Exec(ctx)
	if res.Err != nil {
		pq.Close()
		return nil, res.Err
	}
	out := &answer{done: pq.Close}
	out.warnings, out.infos = res.Warnings.AsStrings(text, maxNotes, maxNotes)
	value, cut := truncated(res.Value, limit)
	if cut {
		out.warnings = append(out.warnings, truncatedText)
	}
	out.data = result{value.Type(), value}
	return out, nil
}

const truncatedText = "results truncated due to limit"

// truncated is v with at most limit series; 0: all of them.
func truncated(v parser.Value, limit int) (parser.Value, bool) {
	switch v := v.(type) {
	case promql.Vector:
		if v == nil {
			v = promql.Vector{} // in JSON: [] and not null
		}
		if limit > 0 && len(v) > limit {
			return v[:limit], true
		}
		return v, false
	case promql.Matrix:
		if v == nil {
			v = promql.Matrix{}
		}
		if limit > 0 && len(v) > limit {
			return v[:limit], true
		}
		return v, false
	default:
		return v, false
	}
}

func (a *API) series(ctx context.Context, q *query, r *http.Request) (*answer, error) {
	if len(r.Form["match[]"]) == 0 {
		return nil, fault{http.StatusBadRequest, "bad_data", errors.New("no match[] parameter provided")}
	}
	l, err := a.listing(q, r)
	if err != nil {
		return nil, err
	}
	defer l.querier.Close()
	hints := &storage.SelectHints{Start: l.mint, End: l.maxt, Func: "series", Limit: more(l.limit)}
	sets := make([]storage.SeriesSet, 0, len(l.selectors))
	for _, ms := range l.selectors {
		sets = append(sets, l.querier.Select(ctx, true, hints, ms...))
	}
	found := []labels.Labels{}
	for _, set := range sets {
		for set.Next() {
			found = append(found, set.At().Labels())
		}
		if err := errors.Join(ctx.Err(), set.Err()); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, labels.Compare)
	found = slices.CompactFunc(found, labels.Equal)
	return cut(found, l.limit), nil
}

func (a *API) labelNames(ctx context.Context, q *query, r *http.Request) (*answer, error) {
	return a.words(q, r, func(l *listing, hints *storage.LabelHints, ms []*labels.Matcher) ([]string, error) {
		names, _, err := l.querier.LabelNames(ctx, hints, ms...)
		return names, err
	})
}

// labelValues is the handler for the values of one label, as the path names it.
func labelValues(name string) handler {
	return func(a *API, ctx context.Context, q *query, r *http.Request) (*answer, error) {
		name := model.UnescapeName(name, model.ValueEncodingEscaping)
		if !model.UTF8Validation.IsValidLabelName(name) {
			return nil, fault{http.StatusBadRequest, "bad_data", fmt.Errorf("invalid label name: %q", name)}
		}
		return a.words(q, r, func(l *listing, hints *storage.LabelHints, ms []*labels.Matcher) ([]string, error) {
			values, _, err := l.querier.LabelValues(ctx, name, hints, ms...)
			return values, err
		})
	}
}

// words asks once for each selector, or once for everything.
func (a *API) words(q *query, r *http.Request,
	ask func(l *listing, hints *storage.LabelHints, ms []*labels.Matcher) ([]string, error),
) (*answer, error) {
	l, err := a.listing(q, r)
	if err != nil {
		return nil, err
	}
	defer l.querier.Close()
	if len(l.selectors) == 0 {
		l.selectors = [][]*labels.Matcher{nil}
	}
	seen := map[string]struct{}{}
	for _, ms := range l.selectors {
		found, err := ask(l, &storage.LabelHints{Limit: more(l.limit)}, ms)
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			seen[s] = struct{}{}
		}
	}
	out := slices.Sorted(maps.Keys(seen))
	if out == nil {
		out = []string{}
	}
	return cut(out, l.limit), nil
}

// listing is what the endpoints without PromQL have in common.
type listing struct {
	selectors  [][]*labels.Matcher
	limit      int
	mint, maxt int64
	querier    storage.Querier
}

func (a *API) listing(q *query, r *http.Request) (*listing, error) {
	start, end, err := span(r)
	if err != nil {
		return nil, err
	}
	l := &listing{mint: start.UnixMilli(), maxt: end.UnixMilli()}
	if l.limit, err = limitParam(r); err != nil {
		return nil, err
	}
	if l.selectors, err = a.selectors(r); err != nil {
		return nil, err
	}
	l.querier, err = q.Querier(l.mint, l.maxt)
	return l, err
}

// more asks for one beyond the limit, to tell whether something was cut.
func more(limit int) int {
	if limit == 0 {
		return 0
	}
	return limit + 1
}

func cut[T any](all []T, limit int) *answer {
	if limit > 0 && len(all) > limit {
		return &answer{data: all[:limit], warnings: []string{truncatedText}}
	}
	return &answer{data: all}
}

// age tells a reader of an old period where the rest is.
func (a *API) age(q *query, out *answer) {
	if q.scope.all || q.oldest <= minTime.UnixMilli() {
		return
	}
	keep := q.state.TenantConfig(q.state.Tenant(q.scope.tenant)).Retention
	if since := a.cfg.Now().UnixMilli() - keep; keep > 0 && q.oldest < since {
		out.infos = append(out.infos, "samples before "+timeText(since)+" are beyond the local retention: if they were shipped, only a Store Gateway has them")
	}
}

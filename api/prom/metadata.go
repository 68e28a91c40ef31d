package prom

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
)

// description is one of a metric family's, as Prometheus' API shows it.
type description struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

func (d description) compare(o description) int {
	return cmp.Or(cmp.Compare(d.Type, o.Type), cmp.Compare(d.Help, o.Help), cmp.Compare(d.Unit, o.Unit))
}

// metadata answers what metric families are, of all tenants together where the
// operator asks.
func (a *API) metadata(ctx context.Context, q *query, r *http.Request) (*answer, error) {
	limit, err := limitParam(r)
	if err != nil {
		return nil, err
	}
	perFamily := 0
	if v := r.FormValue("limit_per_metric"); v != "" {
		if perFamily, err = strconv.Atoi(v); err != nil {
			return nil, bad("limit_per_metric", err)
		}
	}
	known := catalog{families: map[string][]description{}}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tenantsAtOnce)
	for _, t := range q.tenants(nil) {
		if !q.state.Supports(cluster.Exemplars) {
			continue
		}
		group.Go(func() error {
			q.askMetadata(ctx, t, r.FormValue("metric"), &known)
			return errors.Join(ctx.Err(), q.failed())
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	out, cut := known.upTo(limit, perFamily)
	if cut {
		return &answer{data: out, warnings: []string{truncatedText}}, nil
	}
	return &answer{data: out}, nil
}

// askMetadata asks every member that may have taken the tenant's. What they know
// is of now, whenever they heard it.
func (q *query) askMetadata(ctx context.Context, t *clusterpb.Tenant, family string, into *catalog) {
	now := q.api.cfg.Now().UnixMilli()
	i, nodes := q.inquire(t, now, now)
	i.use()
	req := &peerpb.MetadataRequest{Tenant: t.GetId(), Incarnation: t.GetIncarnation(), Family: family}
	var asked sync.WaitGroup
	for _, n := range nodes {
		asked.Go(func() {
			resp, err := q.api.members.askMetadata(ctx, n, req)
			if err == nil {
				err = q.charge(resp.SizeVT())
			}
			if err == nil && resp.GetProvenance() == nil {
				err = errors.New("the answer was cut")
			}
			if err != nil {
				q.missed(ctx, n, err)
				return
			}
			into.add(resp.GetFamilies())
			q.heard(i, n, resp.GetProvenance())
		})
	}
	asked.Wait()
}

// catalog merges what the members know.
type catalog struct {
	mu       sync.Mutex
	families map[string][]description
}

func (c *catalog) add(all []*peerpb.FamilyMetadata) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range all {
		d := description{m.GetType(), m.GetHelp(), m.GetUnit()}
		if !slices.Contains(c.families[m.GetFamily()], d) {
			c.families[m.GetFamily()] = append(c.families[m.GetFamily()], d)
		}
	}
}

// upTo gives at most so many families, the first by name, and of each at most so
// many descriptions; 0: all. cut says that there were more families.
func (c *catalog) upTo(limit, perFamily int) (out map[string][]description, cut bool) {
	for name, list := range c.families {
		slices.SortFunc(list, description.compare)
		if perFamily > 0 && len(list) > perFamily {
			c.families[name] = list[:perFamily]
		}
	}
	if limit == 0 || len(c.families) <= limit {
		return c.families, false
	}
	out = map[string][]description{}
	for _, name := range slices.Sorted(maps.Keys(c.families))[:limit] {
		out[name] = c.families[name]
	}
	return out, true
}

package prom

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
)

// tenantsSet is the series of many tenants, one tenant after the other, each
// with the tenant label. A few tenants are asked ahead of the one being read.
type tenantsSet struct {
	ctx    context.Context // of the select: a set lives no longer
	from   *querier
	label  string
	left   []*clusterpb.Tenant
	req    *peerpb.SelectRequest
	sorted bool

	ahead []asking
	now   []*replica
	at    *replica
}

// asking is a tenant that has been asked.
type asking struct {
	tenant string
	set    storage.SeriesSet
}

func newTenantsSet(ctx context.Context, q *querier, label string, tenants []*clusterpb.Tenant, req *peerpb.SelectRequest, sorted bool) *tenantsSet {
	s := &tenantsSet{ctx: ctx, from: q, label: label, left: tenants, req: req, sorted: sorted}
	s.ask()
	return s
}

func (s *tenantsSet) ask() {
	for len(s.ahead) < tenantsAtOnce && len(s.left) > 0 {
		t := s.left[0]
		s.left = s.left[1:]
		s.ahead = append(s.ahead, asking{t.GetId(), s.from.selectFrom(s.ctx, t, s.req)})
	}
}

// Next moves on. Where the order matters, everything is read first: series of
// different tenants are sorted among each other.
func (s *tenantsSet) Next() bool {
	for len(s.now) == 0 && len(s.ahead) > 0 && s.Err() == nil {
		s.read()
		for s.sorted && len(s.ahead) > 0 && s.Err() == nil {
			s.read()
		}
		if s.sorted {
			sortReplicas(s.now)
		}
	}
	if len(s.now) == 0 {
		return false
	}
	s.at, s.now = s.now[0], s.now[1:]
	return true
}

// read takes in the next tenant's series. A label of the series by the name of
// the tenant label is overruled, which may make two series of one tenant one.
func (s *tenantsSet) read() {
	next := s.ahead[0]
	s.ahead = s.ahead[1:]
	s.ask()
	var out []*replica
	overruled := false
	b := labels.NewBuilder(labels.EmptyLabels())
	for next.set.Next() {
		r := next.set.At().(*replica)
		overruled = overruled || r.labels.Has(s.label)
		b.Reset(r.labels)
		out = append(out, &replica{b.Set(s.label, next.tenant).Labels(), r.chunks, r.period})
	}
	if overruled {
		out = joinEqual(out)
	}
	s.now = append(s.now, out...)
}

func sortReplicas(all []*replica) {
	slices.SortStableFunc(all, func(a, b *replica) int { return labels.Compare(a.labels, b.labels) })
}

// joinEqual makes series of equal labels one.
func joinEqual(all []*replica) []*replica {
	sortReplicas(all)
	var out []*replica
	for _, r := range all {
		if n := len(out); n > 0 && labels.Equal(out[n-1].labels, r.labels) {
			out[n-1].chunks = append(out[n-1].chunks, r.chunks...)
			continue
		}
		out = append(out, r)
	}
	return out
}

func (s *tenantsSet) At() storage.Series                { return s.at }
func (s *tenantsSet) Err() error                        { return errors.Join(s.ctx.Err(), s.from.failed()) }
func (s *tenantsSet) Warnings() annotations.Annotations { return nil }

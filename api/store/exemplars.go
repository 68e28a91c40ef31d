package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/storepb"
)

// Exemplars streams the exemplars that this node has of the series which the
// query's selectors choose, tenant by tenant, each tenant's sorted by labels. A
// Querier takes matchers on external labels out of a query before it asks, so that
// one who asks through it gets the exemplars of every tenant that it may see: a
// certificate that is bound to a tenant is what keeps them apart.
func (s *Server) Exemplars(in *storepb.ExemplarsRequest, stream grpc.ServerStreamingServer[storepb.ExemplarsResponse]) error {
	ctx := stream.Context()
	views, err := s.views(ctx)
	if err != nil {
		return err
	}
	expr, err := s.parser.ParseExpr(in.Query)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "query: %v", err)
	}
	selectors := parser.ExtractSelectors(expr)
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for _, v := range views {
		if err := s.exemplarsOf(ctx, v, selectors, in, stream); err != nil {
			return err
		}
	}
	return nil
}

// exemplarsOf sends one tenant's. What is kept of other stores has none: blocks
// do not hold them.
func (s *Server) exemplarsOf(ctx context.Context, v view, selectors [][]*labels.Matcher, in *storepb.ExemplarsRequest, stream grpc.ServerStreamingServer[storepb.ExemplarsResponse]) error {
	var inner [][]*labels.Matcher
	for _, ms := range selectors {
		if own, ok := split(ms, v.external); ok && len(own) > 0 {
			inner = append(inner, own)
		}
	}
	if len(inner) == 0 || v.kept != nil {
		return nil
	}
	found, err := v.data.Exemplars(ctx, v.key, in.Start, in.End, inner...)
	if err != nil {
		return s.warn(ctx, fmt.Sprintf("tenant %s: %v", v.key.Tenant, err), in.PartialResponseStrategy, func(text string) error {
			return stream.Send(&storepb.ExemplarsResponse{Result: &storepb.ExemplarsResponse_Warning{Warning: text}})
		})
	}
	for k := range found {
		found[k].SeriesLabels = extend(found[k].SeriesLabels, v.external)
	}
	slices.SortFunc(found, func(a, b exemplar.QueryResult) int { return labels.Compare(a.SeriesLabels, b.SeriesLabels) })
	for _, one := range found {
		if err := stream.Send(exemplarsPB(one)); err != nil {
			return failure(ctx, "send exemplars", err)
		}
	}
	return nil
}

// warn tells the caller what is missing, or fails the call of one who wants all.
func (s *Server) warn(ctx context.Context, text string, strategy storepb.PartialResponseStrategy, send func(string) error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	if aborts(false, strategy) {
		return status.Error(codes.Aborted, text)
	}
	if err := send(text); err != nil {
		return failure(ctx, "send a warning", err)
	}
	return nil
}

// extend is a series' labels as they are shown here: external ones win.
func extend(ls, external labels.Labels) labels.Labels {
	b := labels.NewBuilder(ls)
	external.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return b.Labels()
}

func exemplarsPB(one exemplar.QueryResult) *storepb.ExemplarsResponse {
	data := &storepb.ExemplarData{SeriesLabels: &storepb.LabelSet{Labels: labelsPB(one.SeriesLabels)}}
	for _, e := range one.Exemplars {
		data.Exemplars = append(data.Exemplars, &storepb.Exemplar{
			Labels: &storepb.LabelSet{Labels: labelsPB(e.Labels)}, Value: e.Value, Ts: e.Ts,
		})
	}
	return &storepb.ExemplarsResponse{Result: &storepb.ExemplarsResponse_Data{Data: data}}
}

package store

import (
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/proto/storepb"
	"github.com/muster-metrics/muster/tsdb"
)

// MetricMetadata sends what this node knows of metric families, of all tenants
// that the caller may see together: the message has no place for a tenant.
func (s *Server) MetricMetadata(in *storepb.MetricMetadataRequest, stream grpc.ServerStreamingServer[storepb.MetricMetadataResponse]) error {
	ctx := stream.Context()
	views, err := s.views(ctx)
	if err != nil {
		return err
	}
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	out := &storepb.MetricMetadata{Metadata: map[string]*storepb.MetricMetadataEntry{}}
	for _, v := range views {
		if v.kept != nil {
			continue
		}
		known, err := v.data.Metadata(ctx, v.key)
		if err != nil {
			err = s.warn(ctx, fmt.Sprintf("tenant %s: %v", v.key.Tenant, err), in.PartialResponseStrategy, func(text string) error {
				return stream.Send(&storepb.MetricMetadataResponse{Result: &storepb.MetricMetadataResponse_Warning{Warning: text}})
			})
			if err != nil {
				return err
			}
		}
		for _, m := range known {
			if in.Metric == "" || in.Metric == m.Family {
				describe(out, m, int(in.Limit))
			}
		}
	}
	if err := stream.Send(&storepb.MetricMetadataResponse{Result: &storepb.MetricMetadataResponse_Metadata{Metadata: out}}); err != nil {
		return failure(ctx, "send metadata", err)
	}
	return nil
}

// describe adds a description of a family, each once and of no more families than
// the limit; one below 0 is none, as is 0, which a caller that names none sends.
func describe(out *storepb.MetricMetadata, m tsdb.Metadata, limit int) {
	entry := out.Metadata[m.Family]
	if entry == nil {
		if limit > 0 && len(out.Metadata) >= limit {
			return
		}
		entry = &storepb.MetricMetadataEntry{}
		out.Metadata[m.Family] = entry
	}
	same := func(o *storepb.Meta) bool { return o.Type == m.Type && o.Help == m.Help && o.Unit == m.Unit }
	if !slices.ContainsFunc(entry.Metas, same) {
		entry.Metas = append(entry.Metas, &storepb.Meta{Type: m.Type, Help: m.Help, Unit: m.Unit})
	}
}

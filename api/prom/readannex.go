package prom

import (
	"context"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/tsdb"
)

// exemplarCost is what an exemplar is reckoned at, besides its labels, in bytes.
const exemplarCost = 32

// Exemplars streams those of the series that match.
func (r *Reader) Exemplars(req *peerpb.ExemplarsRequest, stream grpc.ServerStreamingServer[peerpb.ExemplarsResponse]) error {
	return r.readExemplars(stream.Context(), req, stream.Send)
}

// readExemplars sends batches of series and, last, whose data they are.
func (r *Reader) readExemplars(ctx context.Context, req *peerpb.ExemplarsRequest, send func(*peerpb.ExemplarsResponse) error) error {
	selectors := make([][]*labels.Matcher, 0, len(req.Selectors))
	for _, s := range req.Selectors {
		ms, err := matchersOf(s.GetMatchers())
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		selectors = append(selectors, ms)
	}
	key := tsdb.Key{Tenant: req.Tenant, Incarnation: req.Incarnation}
	// A read of the period says what the answer may lack, whatever is read in it.
	provenance, err := r.with(ctx, key, req.MinTime, req.MaxTime, func(storage.ChunkQuerier) error {
		found, err := r.data.Exemplars(ctx, key, req.MinTime, req.MaxTime, selectors...)
		if err != nil {
			return err
		}
		return sendExemplars(found, send)
	})
	if err != nil {
		return err
	}
	return send(&peerpb.ExemplarsResponse{Provenance: provenance})
}

// sendExemplars sends them in responses of about batchBytes.
func sendExemplars(all []exemplar.QueryResult, send func(*peerpb.ExemplarsResponse) error) error {
	out, bytes := &peerpb.ExemplarsResponse{}, 0
	for _, found := range all {
		one := &peerpb.SeriesExemplars{Labels: labelBytes(found.SeriesLabels)}
		out.Series = append(out.Series, one)
		bytes += len(one.Labels) + seriesCost
		for _, e := range found.Exemplars {
			if bytes >= batchBytes {
				if err := send(out); err != nil {
					return err
				}
				one = &peerpb.SeriesExemplars{Labels: one.Labels}
				out, bytes = &peerpb.ExemplarsResponse{Series: []*peerpb.SeriesExemplars{one}}, len(one.Labels)
			}
			pb := &peerpb.Exemplar{Labels: labelBytes(e.Labels), Value: e.Value, Time: e.Ts}
			one.Exemplars = append(one.Exemplars, pb)
			bytes += len(pb.Labels) + exemplarCost
		}
	}
	if len(out.Series) == 0 {
		return nil
	}
	return send(out)
}

// Metadata is what this node knows of a tenant's metric families.
func (r *Reader) Metadata(ctx context.Context, req *peerpb.MetadataRequest) (*peerpb.MetadataResponse, error) {
	key := tsdb.Key{Tenant: req.Tenant, Incarnation: req.Incarnation}
	out := &peerpb.MetadataResponse{}
	var err error
	out.Provenance, err = r.with(ctx, key, 0, 0, func(storage.ChunkQuerier) error {
		known, err := r.data.Metadata(ctx, key)
		for _, m := range known {
			if req.Family == "" || req.Family == m.Family {
				out.Families = append(out.Families, &peerpb.FamilyMetadata{Family: m.Family, Type: m.Type, Help: m.Help, Unit: m.Unit})
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

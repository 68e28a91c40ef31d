package store

import (
	"context"
	"math"

	"github.com/muster-metrics/muster/proto/infopb"
	"github.com/muster-metrics/muster/proto/storepb"
)

// Info tells a Querier what this node has, so that it asks only for that.
func (s *Server) Info(ctx context.Context, _ *infopb.InfoRequest) (*infopb.InfoResponse, error) {
	views, err := s.views(ctx)
	if err != nil {
		return nil, err
	}
	store := &infopb.StoreInfo{
		MinTime:                      math.MaxInt64,
		MaxTime:                      math.MaxInt64, // the head takes whatever comes
		SupportsSharding:             true,
		SupportsWithoutReplicaLabels: true,
	}
	if len(views) == 0 {
		store.MinTime = math.MinInt64
	}
	// "receive" is what Thanos' alerts and pages group by.
	out := &infopb.InfoResponse{
		ComponentType: "receive", Store: store, MetricMetadata: &infopb.MetricMetadataInfo{},
		Exemplars: &infopb.ExemplarsInfo{MinTime: math.MinInt64, MaxTime: math.MaxInt64},
	}
	for _, v := range views {
		set := &storepb.LabelSet{Labels: labelsPB(v.external)}
		mint := v.status().MinTime
		out.LabelSets = append(out.LabelSets, set)
		store.TsdbInfos = append(store.TsdbInfos, &infopb.TSDBInfo{Labels: set, MinTime: mint, MaxTime: math.MaxInt64})
		store.MinTime = min(store.MinTime, mint)
	}
	return out, nil
}

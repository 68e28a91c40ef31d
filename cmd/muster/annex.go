package main

import (
	"context"

	"github.com/muster-metrics/muster/ingest"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/tsdb"
)

// AppendExemplars lets ingest append exemplars to tsdb.
func (s storage) AppendExemplars(ctx context.Context, tenant string, incarnation uint64, share ingest.ExemplarShare, out []peerpb.Outcome) error {
	got := make([]tsdb.Outcome, len(out))
	err := s.db.AppendExemplars(ctx, tsdb.Key{Tenant: tenant, Incarnation: incarnation}, share, got)
	for i, o := range got {
		out[i] = peerpb.Outcome(o)
	}
	return err
}

// AppendMetadata lets ingest keep metadata in tsdb.
func (s storage) AppendMetadata(ctx context.Context, tenant string, incarnation uint64, all []ingest.Metadata) error {
	families := make([]tsdb.Metadata, len(all))
	for i, m := range all {
		families[i] = tsdb.Metadata(m)
	}
	return s.db.AppendMetadata(ctx, tsdb.Key{Tenant: tenant, Incarnation: incarnation}, families)
}

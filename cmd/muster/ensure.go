package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/ingest"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// ensurer creates tenants that wrote before anybody had heard of them.
type ensurer struct {
	cluster *cluster.Node
	name    string
}

func (e ensurer) Ensure(ctx context.Context, tenant string) error {
	var mustNotExist int64
	_, err := e.cluster.Propose(ctx, &clusterpb.Command{
		Actor: e.name, Source: "write", ExpectedVersion: &mustNotExist,
		Change: &clusterpb.Command_PutTenant{PutTenant: &clusterpb.PutTenant{Id: tenant, Automatic: true}},
	})
	var refused *cluster.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Refusal.GetKind() {
	case clusterpb.Refusal_EXISTS, clusterpb.Refusal_CONFLICT_VERSION:
		return nil // another node was faster
	case clusterpb.Refusal_UNKNOWN_OUTCOME, clusterpb.Refusal_NO_LEADER:
		return err
	default:
		return fmt.Errorf("%w: %s", ingest.ErrTenantRefused, refused.Refusal.GetMessage())
	}
}

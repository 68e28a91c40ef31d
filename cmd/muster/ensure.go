package main

import (
	"context"
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

// Ensure wraps ingest.ErrTenantRefused where no repetition helps: a sender that
// hears that drops its samples, so that anything else is an error that may pass.
func (e ensurer) Ensure(ctx context.Context, tenant string) error {
	var mustNotExist int64
	answer, err := e.cluster.Propose(ctx, &clusterpb.Command{
		Actor: e.name, Source: "write", ExpectedVersion: &mustNotExist,
		Change: &clusterpb.Command_PutTenant{PutTenant: &clusterpb.PutTenant{Id: tenant, Automatic: true}},
	})
	if err != nil {
		return err
	}
	return verdictOf(answer.GetRefusal())
}

// verdictOf is what a refusal to create a tenant means to its sender.
func verdictOf(r *clusterpb.Refusal) error {
	ofTenant := r.GetField() == "id" // not of the leader, whose disk may be full
	switch r.GetKind() {
	case clusterpb.Refusal_NONE:
		return nil
	case clusterpb.Refusal_EXISTS, clusterpb.Refusal_CONFLICT_VERSION:
		return nil // another node was faster
	case clusterpb.Refusal_DELETED, clusterpb.Refusal_DENIED, clusterpb.Refusal_INVALID, clusterpb.Refusal_LIMIT:
		if ofTenant {
			return fmt.Errorf("%w: %s", ingest.ErrTenantRefused, r.GetMessage())
		}
	}
	return &cluster.RefusedError{Refusal: r}
}

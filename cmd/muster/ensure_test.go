package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/ingest"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

func TestWhatARefusedCreationMeansToItsSender(t *testing.T) {
	for _, c := range []struct {
		name    string
		refusal *clusterpb.Refusal
		is      error // nil: none
		passing bool
	}{
		{name: "created"},
		{name: "another node was faster", refusal: &clusterpb.Refusal{Kind: clusterpb.Refusal_CONFLICT_VERSION, Field: "version"}},
		{name: "deleted", refusal: &clusterpb.Refusal{Kind: clusterpb.Refusal_DELETED, Field: "id"}, is: ingest.ErrTenantRefused},
		{name: "switched off", refusal: &clusterpb.Refusal{Kind: clusterpb.Refusal_DENIED, Field: "id"}, is: ingest.ErrTenantRefused},
		{name: "one too many", refusal: &clusterpb.Refusal{Kind: clusterpb.Refusal_LIMIT, Field: "id"}, is: ingest.ErrTenantRefused},
		{name: "the leader's disk is full", refusal: &clusterpb.Refusal{Kind: clusterpb.Refusal_LIMIT}, passing: true},
		{name: "no cluster", refusal: &clusterpb.Refusal{Kind: clusterpb.Refusal_NOT_FOUND}, passing: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := verdictOf(c.refusal)
			var refused *cluster.RefusedError
			switch {
			case c.is != nil:
				require.ErrorIs(t, err, c.is)
			case c.passing:
				require.ErrorAs(t, err, &refused)
				require.NotErrorIs(t, err, ingest.ErrTenantRefused)
			default:
				require.NoError(t, err)
			}
		})
	}
}

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
	"github.com/muster-metrics/muster/proto/storepb"
)

// wantUp is the count of up for each tenant: every writer scrapes three nodes.
const wantUp = nodes

// judge asks every node, the way a user and a Thanos Querier would, and names
// what is not as it should be.
func (d *demo) judge(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var problems []string
	for _, n := range d.fleet.Nodes {
		counts, err := countUp(ctx, n)
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%s does not answer a query: %v", n.Name, err))
		case !maps.Equal(counts, map[string]int{defaultTenant: wantUp, tenantA: wantUp, tenantB: wantUp}):
			problems = append(problems, fmt.Sprintf("%s counts %v, want %d series of each tenant", n.Name, counts, wantUp))
		}
		want := tenants
		if n.Name == "n3" {
			want = []string{defaultTenant}
		}
		streamed, err := streamedTenants(ctx, n)
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%s' store door: %v", n.Name, err))
		case !slices.Equal(streamed, want):
			problems = append(problems, fmt.Sprintf("%s' store door streams tenants %v, want %v", n.Name, streamed, want))
		}
	}
	return problems
}

// streamedTenants are the tenants whose series the store door streams, sorted.
func streamedTenants(ctx context.Context, n *fleet.Node) ([]string, error) {
	conn, err := grpc.NewClient(n.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stream, err := storepb.NewStoreClient(conn).Series(ctx, &storepb.SeriesRequest{
		MinTime: 0, MaxTime: math.MaxInt64, SkipChunks: true,
		Matchers: []*storepb.LabelMatcher{{Type: storepb.LabelMatcher_RE, Name: "__name__", Value: ".+"}},
	})
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return slices.Sorted(maps.Keys(seen)), nil
		}
		if err != nil {
			return nil, err
		}
		for _, s := range append(resp.GetBatch().GetSeries(), resp.GetSeries()) {
			for _, l := range s.GetLabels() {
				if l.Name == "tenant_id" {
					seen[l.Value] = true
				}
			}
		}
	}
}

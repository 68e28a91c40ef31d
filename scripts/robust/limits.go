package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/muster-metrics/muster/cmd/muster/robust"
)

// limits lets tenants send a fifth more series than they may, on three nodes and
// on five, and counts what was accepted.
func limits(ctx context.Context, o options) error {
	sizes := []int{3, 5}
	if o.nodes != 0 {
		sizes = []int{o.nodes}
	}
	var failed []error
	for _, nodes := range sizes {
		r, err := robust.Limits(ctx, robust.Limited{
			Config:  o.config(fmt.Sprintf("limits-%d", nodes), nodes, o.first),
			Tenants: 20, Series: o.limit, PerRequest: 500, Rounds: 3,
		})
		if err != nil {
			return fmt.Errorf("%d nodes: %w", nodes, err)
		}
		fmt.Printf("limits: %d nodes, 20 tenants with a limit of %d series that send a fifth more, a node killed meanwhile: at worst %+.2f %% accepted, %.2f %% are allowed; %d requests repeated; %s\n",
			nodes, r.Limit, 100*r.Worst, 100*r.Bound, r.Repeated, verdict(r.Findings))
		for _, found := range r.Findings[:min(len(r.Findings), mostPrinted)] {
			say("%s", found)
		}
		failed = append(failed, findings(fmt.Sprintf("%d nodes: ", nodes), r.Findings))
	}
	return errors.Join(failed...)
}

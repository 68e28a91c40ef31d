package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/robust"
)

// stormBudget is each node's memory: little enough that a flood of new series
// uses it up in a minute or two.
const stormBudget = 512 << 20

// storm lets one tenant send as much as it can while others write by the clock,
// on three nodes and on five.
func storm(ctx context.Context, o options) error {
	sizes := []int{3, 5}
	if o.nodes != 0 {
		sizes = []int{o.nodes}
	}
	var failed []error
	for _, nodes := range sizes {
		say("%d nodes, RF 3: four calm tenants and one that is not", nodes)
		r, err := robust.Rage(ctx, robust.Storm{
			Config: o.config(fmt.Sprintf("storm-%d", nodes), nodes, o.first), Budget: stormBudget,
			Calm: 4, Series: 4000, CalmRequest: 100, Rate: 4000,
			StormSeries: 50_000, PerRequest: 1000, InFlight: 64, Each: min(o.duration, 40*time.Second),
			Flood: true, Block: time.Minute,
		})
		if err != nil {
			return fmt.Errorf("%d nodes: %w", nodes, err)
		}
		failed = append(failed, judgeStorm(nodes, &r))
	}
	return errors.Join(failed...)
}

// judgeStorm prints what was measured and holds it against the bounds.
func judgeStorm(nodes int, r *robust.StormReport) error {
	fmt.Printf("\nstorm, %d nodes, %d MiB each\n", nodes, stormBudget>>20)
	if err := r.Print(os.Stdout); err != nil {
		return err
	}
	fmt.Printf("flood: %d new series were taken before %d nodes had no memory for more; all took writes again %v later\n", r.Flooded, r.Drained, r.Ebbed.Round(time.Second))
	var failed []error
	for _, v := range r.Verdicts(stormBudget) {
		word := "holds"
		if !v.Holds {
			word = "DOES NOT HOLD"
			failed = append(failed, fmt.Errorf("%d nodes: %s", nodes, v.Text))
		}
		fmt.Printf("storm, %d nodes: %s: %s\n", nodes, v.Text, word)
	}
	return errors.Join(failed...)
}

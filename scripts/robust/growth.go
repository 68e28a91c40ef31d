package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/robust"
)

// growthTime is what all of growth may take: it is run unattended.
const growthTime = 19 * time.Minute

// growth lets a node join and another leave under load, on three nodes and on five.
func growth(ctx context.Context, o options) error {
	sizes := []int{3, 5}
	if o.nodes != 0 {
		sizes = []int{o.nodes}
	}
	began := time.Now()
	var failed []error
	for i, nodes := range sizes {
		say("%d nodes, RF 3, %d series: one joins, one leaves", nodes, o.series)
		c := robust.Growth{
			Config: o.config(fmt.Sprintf("growth-%d", nodes), nodes, o.first),
			Series: o.series, Tenants: 4, PerRequest: 2000, InFlight: 8,
			Rate: o.rate, Share: o.share, Pace: o.pace, Calibrate: 15 * time.Second,
			Baseline: o.before, Pause: 10 * time.Second, Profile: o.profile,
			Watch: o.watch,
			// Each gets its part of the time that is left.
			Until: time.Now().Add((growthTime - time.Since(began)) / time.Duration(len(sizes)-i)),
		}
		r, err := robust.Grow(ctx, c)
		if err != nil {
			return fmt.Errorf("%d nodes: %w", nodes, err)
		}
		failed = append(failed, judgeGrowth(nodes, &r))
	}
	return errors.Join(failed...)
}

// judgeGrowth prints what was measured and holds it against the bounds.
func judgeGrowth(nodes int, r *robust.GrowthReport) error {
	fmt.Printf("\ngrowth, %d nodes: one joins, one leaves; the machine takes %.0f samples/s, %.0f were written\n", nodes, r.Most, r.Rate)
	if err := r.Print(os.Stdout); err != nil {
		return err
	}
	var failed []error
	for _, v := range r.Verdicts() {
		word := "holds"
		if !v.Holds {
			word = "DOES NOT HOLD"
			failed = append(failed, fmt.Errorf("%d nodes: %s", nodes, v.Text))
		}
		fmt.Printf("growth, %d nodes: %s: %s\n", nodes, v.Text, word)
	}
	return errors.Join(failed...)
}

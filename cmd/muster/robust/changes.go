package robust

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// ChangesReport is how long changes took.
type ChangesReport struct{ Took []time.Duration }

// Median of them.
func (r ChangesReport) Median() time.Duration { return r.Percentile(50) }

// Percentile p of them.
func (r ChangesReport) Percentile(p int) time.Duration {
	sorted := slices.Sorted(slices.Values(r.Took))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// TimeChanges measures, on a cluster at rest, how long a tenant's change takes
// until it is answered, which is when every node has applied it; one after the
// other, through each node in turn.
func TimeChanges(ctx context.Context, c Config, times int) (ChangesReport, error) {
	var r ChangesReport
	f, err := c.start(ctx)
	if err != nil {
		return r, fmt.Errorf("start the fleet: %w", err)
	}
	defer f.Stop()
	for i := range times {
		var t tenantBody
		t.Limits.Burst = int64(i + 1)
		cl := newClient(f.Nodes[i%len(f.Nodes)])
		began := time.Now()
		a := cl.do(ctx, http.MethodPut, fmt.Sprintf("/tenants/timed-%d", i%20), nil, t)
		took := time.Since(began)
		if a.err != nil || a.status != http.StatusOK {
			return r, fmt.Errorf("change %d: %d %s %w", i, a.status, a.body, a.err)
		}
		r.Took = append(r.Took, took)
	}
	return r, nil
}

package robust

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// What a change may cost, next to before.
const (
	lateBound = 2.0  // 99th percentile of a write
	headBound = 1.15 // series in all heads
)

// GrowthReport is what a growth came to.
type GrowthReport struct {
	Most, Rate float64 // samples a second that the machine took, and that were written
	Phases     []Phase
	// Acknowledged samples, all phases; Counted is what each node found.
	Acknowledged int64
	Counted      map[string]int64
	// HeadBefore, HeadAfter are series in all heads; Within is how long after the
	// end of the change they were below the bound, negative where they were not.
	HeadBefore, HeadAfter int64
	Within, Watched       time.Duration
}

// Before is the phase that the change is compared with.
func (r *GrowthReport) Before() Phase { return r.Phases[0] }

// During is all of the change as one phase.
func (r *GrowthReport) During() Phase {
	all := Phase{Name: "change"}
	for _, p := range r.Phases[1:] {
		if p.Change {
			all.Took += p.Took
			all.CPU += p.CPU
			all.Acked += p.Acked
			all.Head, all.HeadMost = p.Head, max(all.HeadMost, p.HeadMost)
			all.Writes = append(all.Writes, p.Writes...)
			all.Refused = append(all.Refused, p.Refused...)
			all.AtLeaver = append(all.AtLeaver, p.AtLeaver...)
		}
	}
	return all
}

// Late is the change's 99th percentile next to that of before.
func (r *GrowthReport) Late() float64 {
	before, during := r.Before().quantile(0.99), r.During().quantile(0.99)
	return float64(during) / math.Max(float64(before), 1)
}

// Refused counts the answers of living nodes that were not 2xx, in all phases.
func (r *GrowthReport) Refused() int {
	n := 0
	for _, p := range r.Phases {
		n += len(p.Refused)
	}
	return n
}

// Verdict is a bound and whether it was kept.
type Verdict struct {
	Text  string
	Holds bool
}

// Verdicts holds what was measured against the bounds.
func (r *GrowthReport) Verdicts() []Verdict {
	within := fmt.Sprintf("not within the %v that were watched", r.Watched.Round(time.Second))
	if r.Within >= 0 {
		within = fmt.Sprintf("%v after the end", r.Within.Round(time.Second))
	}
	miscounted := r.Miscounted()
	return []Verdict{
		{fmt.Sprintf("writes refused by living nodes: %d of at most 0", r.Refused()), r.Refused() == 0},
		{fmt.Sprintf("99th percentile of a write: %v before, %v during the change, %.2f times of at most %.2f",
			r.Before().quantile(0.99).Round(100*time.Microsecond), r.During().quantile(0.99).Round(100*time.Microsecond), r.Late(), lateBound), r.Late() <= lateBound},
		{fmt.Sprintf("series in heads: %d before, %d afterwards, %.3f times of at most %.3f, %s",
			r.HeadBefore, r.HeadAfter, float64(r.HeadAfter)/math.Max(float64(r.HeadBefore), 1), headBound, within), r.Within >= 0},
		{fmt.Sprintf("%d samples acknowledged, found on all %d nodes; %d differ %s", r.Acknowledged, len(r.Counted), len(miscounted), strings.Join(miscounted, ", ")), len(miscounted) == 0},
	}
}

// Miscounted tells which nodes did not find exactly what was acknowledged.
func (r *GrowthReport) Miscounted() []string {
	var found []string
	for node, n := range r.Counted {
		if n != r.Acknowledged {
			found = append(found, fmt.Sprintf("%d samples were acknowledged, %s finds %d", r.Acknowledged, node, n))
		}
	}
	return found
}

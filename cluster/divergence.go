package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// divergent compares the hashes that members report at one revision. Whoever
// differs from what a majority of the voters has there is named; split are the
// revisions at which voters differ and none is the majority.
func divergent(reports []*clusterpb.Report, voters map[string]bool) (names map[string]uint64, split []uint64) {
	type at struct{ revision, hash uint64 }
	votes := map[at]int{}
	hashes := map[uint64]int{} // different hashes of voters by revision
	for _, r := range reports {
		if r.GetStateHash() == 0 || !voters[r.GetNode()] {
			continue
		}
		k := at{r.GetApplied(), r.GetStateHash()}
		if votes[k] == 0 {
			hashes[k.revision]++
		}
		votes[k]++
	}
	truth := map[uint64]uint64{}
	for k, n := range votes {
		if n > len(voters)/2 {
			truth[k.revision] = k.hash
		}
	}
	names = map[string]uint64{}
	for _, r := range reports {
		want, ok := truth[r.GetApplied()]
		if ok && r.GetStateHash() != 0 && r.GetStateHash() != want {
			names[r.GetNode()] = r.GetApplied()
		}
	}
	for revision, n := range hashes {
		if _, ok := truth[revision]; !ok && n > 1 {
			split = append(split, revision)
		}
	}
	return names, split
}

// diverged says of members whose state is not the majority's why they are not
// to be trusted.
func (n *Node) diverged(e *engine, now time.Time) map[string]string {
	names, _ := n.compare(e, now)
	out := map[string]string{}
	for name, revision := range names {
		out[name] = fmt.Sprintf("its control state differs from the majority's at revision %d", revision)
	}
	return out
}

func (n *Node) compare(e *engine, now time.Time) (map[string]uint64, []uint64) {
	voters := map[string]bool{}
	for _, s := range e.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters[nodeOf(s.ID)] = true
		}
	}
	var reports []*clusterpb.Report
	for _, m := range n.State().Members() {
		if c, ok := n.health.Of(m); ok && now.Sub(c.heard) <= n.cfg.Timing.Fresh {
			reports = append(reports, c.report)
		}
	}
	return divergent(reports, voters)
}

// compareStates raises the alarm, once for each finding. Nobody is stopped by it.
func (n *Node) compareStates(_ context.Context, e *engine) error {
	names, split := n.compare(e, time.Now())
	finding := fmt.Sprint(names, split)
	if finding == n.planned.Finding(finding) {
		return nil
	}
	for name, revision := range names {
		n.log.Error("a node's control state differs from the majority's", "node", name, "revision", revision)
	}
	for _, revision := range split {
		n.log.Error("the voters' control states differ and none is the majority's", "revision", revision)
	}
	return nil
}

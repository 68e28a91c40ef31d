package main

import (
	"fmt"
	"sync"

	"github.com/prometheus/prometheus/model/relabel"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// rulebook keeps the tenants' relabelling rules compiled: a tenant is looked up with
// each of its writes, and its rules are the same object of the state until they
// change. The zero value is empty.
type rulebook struct {
	mu    sync.Mutex
	known map[*clusterpb.RelabelRules]compiled
}

type compiled struct {
	rules []*relabel.Config
	// unusable is why they cannot be run here; "": they can.
	unusable string
}

// rulebookSize is how many sets of rules are kept; when there are more, those that
// are not those of a tenant any more have to go, and all do.
const rulebookSize = 10_000

// of gives the rules as Prometheus runs them, or why this node cannot. They were
// compiled once before they were committed, perhaps by another release.
func (b *rulebook) of(rules *clusterpb.RelabelRules) (configs []*relabel.Config, unusable string) {
	if len(rules.GetRules()) == 0 {
		return nil, ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.known[rules]
	if !ok {
		c = compile(rules)
		if b.known == nil || len(b.known) >= rulebookSize {
			b.known = map[*clusterpb.RelabelRules]compiled{}
		}
		b.known[rules] = c
	}
	return c.rules, c.unusable
}

func compile(rules *clusterpb.RelabelRules) compiled {
	configs, err := cluster.CompileRelabel(rules.GetRules())
	if err != nil {
		return compiled{unusable: fmt.Sprintf("its rules are not understood by this release: %v", err)}
	}
	return compiled{rules: configs}
}

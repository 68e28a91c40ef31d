package cluster

import (
	"context"
	"time"
)

// seekRounds is how many reports are sent between two looks for a member that is
// silent while there is a leader: such a member is down, most of the time.
const seekRounds = 5

// seek greets members that this node does not hear: while there is no leader they
// may be elsewhere, and with or without one it may be that they do not listen to
// this node any more.
func (n *Node) seek(ctx context.Context, e *engine) {
	tick := time.NewTicker(n.cfg.Timing.Report)
	defer tick.Stop()
	skipped, next := 0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n.Standing() != nil {
			continue
		}
		_, led := n.leaderOf(e)
		if skipped++; led && skipped < seekRounds {
			continue
		}
		skipped = 0
		places := n.unheard()
		if !led {
			places = append(places, n.hints.All()...)
		}
		if len(places) == 0 {
			continue
		}
		if err := n.greet(ctx, places[next%len(places)]); err != nil {
			n.log.Debug("greet", "err", err)
		}
		next++
	}
}

// unheard are the addresses of the members that this node has not heard lately.
func (n *Node) unheard() []string {
	now := time.Now()
	var out []string
	for _, name := range n.memberNames() {
		if name == n.cfg.Name || now.Sub(n.sightings.Last(name)) <= n.cfg.Timing.Fresh {
			continue
		}
		if address, ok := n.AddressOf(name); ok {
			out = append(out, address)
		}
	}
	return out
}

package robust

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

const (
	// Tenants are few at a time, so that clients meet on them, and are replaced
	// by others after a while, so that each history stays short enough to judge.
	tenantsAtATime = 6
	tenantLife     = 8 * time.Second
	clients        = 16
	pace           = 100 * time.Millisecond // between two calls of a client, on average
)

// traffic is clients that call the admin API of all nodes at once.
type traffic struct {
	history *History
	// consistency of the reads: "" or "local".
	consistency string

	values atomic.Int64

	mu      sync.Mutex
	clients []*client // one for each node there is
}

// reach replaces the nodes that are called.
func (t *traffic) reach(nodes []*fleet.Node) {
	var cs []*client
	for _, n := range nodes {
		cs = append(cs, newClient(n))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clients = cs
}

func (t *traffic) someNode(rng *rand.Rand) *client {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.clients[rng.IntN(len(t.clients))]
}

// run calls until ctx ends; a call that is under way then is ended as well.
func (t *traffic) run(ctx context.Context, seed uint64) {
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { t.client(ctx, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	wg.Wait()
}

// client goes by what it saw last of each tenant, however old that is.
func (t *traffic) client(ctx context.Context, rng *rand.Rand) {
	seen := map[string]Expectation{}
	for ctx.Err() == nil {
		id := fmt.Sprintf("t%d-%d", int(t.history.Now()/tenantLife), rng.IntN(tenantsAtATime))
		// Impatient clients make unknown outcomes; patient ones wait for elections.
		limit := time.Duration(1+rng.IntN(8)) * time.Second
		callCtx, cancel := context.WithTimeout(ctx, limit)
		if op, ok := t.call(callCtx, rng, id, seen[id]); ok {
			t.history.Add(op)
			if op.Outcome == OK {
				seen[id] = Expectation{Value: op.Value, Version: op.Version}
				if op.Kind == Delete {
					seen[id] = Expectation{}
				}
			}
		} else {
			t.history.Undone()
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rng.Int64N(int64(2 * pace)))):
		}
	}
}

// call makes one call; false: nothing was done.
func (t *traffic) call(ctx context.Context, rng *rand.Rand, id string, seen Expectation) (Op, bool) {
	c := t.someNode(rng)
	switch dice := rng.IntN(100); {
	case dice < 45:
		op := c.read(ctx, t.history, id, t.consistency)
		return op, op.Outcome != Unknown
	case dice < 80:
		return c.change(ctx, t.history, Op{Tenant: id, Kind: Put, Expect: seen, Value: t.values.Add(1)})
	case dice < 90:
		return c.change(ctx, t.history, Op{Tenant: id, Kind: Put, Expect: Expectation{Any: true}, Value: t.values.Add(1)})
	case dice < 95 && seen.Version != 0:
		return c.change(ctx, t.history, Op{Tenant: id, Kind: Delete, Expect: seen})
	default:
		return c.change(ctx, t.history, Op{Tenant: id, Kind: Delete, Expect: Expectation{Any: true}})
	}
}

package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// queue has somebody wait at the gate, and says in order who was let in.
func queue(g *gate, in *[]string, mu *sync.Mutex, tenant string, n int64) {
	go func() {
		if g.enter(context.Background(), tenant, n, time.Hour) == nil {
			mu.Lock()
			*in = append(*in, fmt.Sprint(tenant, n))
			mu.Unlock()
		}
	}()
	synctest.Wait()
}

func TestATenantMayHaveAsMuchAsIsLeftFree(t *testing.T) {
	g := newGate(120)
	for _, c := range []struct {
		tenant string
		want   int // requests of ten
	}{{"a", 6}, {"b", 3}, {"c", 2}, {"d", 1}, {"e", 0}} {
		got := 0
		for g.try(c.tenant, 10) {
			got++
		}
		if got != c.want {
			t.Errorf("%s has %d, want %d", c.tenant, got, c.want)
		}
	}
	for range 3 {
		g.leave("b", 10)
	}
	if g.try("a", 10) {
		t.Error("who has most has what another gave back")
	}
	if !g.try("e", 10) {
		t.Error("a tenant that comes later has nothing, and there is room")
	}
}

func TestALargeRequestHasTheRoomAlone(t *testing.T) {
	g := newGate(100)
	if !g.try("a", 1000) || g.try("b", 1) {
		t.Fatal("more than the room is all of it")
	}
	g.leave("a", 1000)
	if inside, _ := g.held(); inside != 0 || len(g.tenants) != 0 {
		t.Errorf("%d bytes are left, %d tenants", inside, len(g.tenants))
	}
}

// TestAStormWaitsBehindItself: who has little inside goes in before who has much,
// however long that one has waited, and equals take turns.
func TestAStormWaitsBehindItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(40)
		var mu sync.Mutex
		var in []string
		for range 2 {
			g.try("storm", 10)
		}
		g.try("b", 10)
		for range 5 {
			queue(g, &in, &mu, "storm", 10)
		}
		g.try("c", 10)
		queue(g, &in, &mu, "c", 10) // has one inside, as b
		queue(g, &in, &mu, "b", 10)
		queue(g, &in, &mu, "d", 20) // nothing inside, and wants as much as they would have
		queue(g, &in, &mu, "e", 10) // nothing inside
		for _, tenant := range []string{"storm", "storm", "b", "c"} {
			g.leave(tenant, 10)
			synctest.Wait()
		}
		mu.Lock()
		got := strings.Join(in, " ")
		in = nil
		mu.Unlock()
		if want := "e10 storm10 b10 c10"; got != want {
			t.Errorf("let in %s, want %s", got, want)
		}
		for len(g.tenants) > 0 {
			for tenant, l := range g.tenants {
				if l.inside > 0 {
					g.leave(tenant, 10)
					break
				}
			}
			synctest.Wait()
		}
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(in)
		if got := strings.Join(in, " "); got != "d20 storm10 storm10 storm10 storm10" {
			t.Errorf("the rest: %s", got)
		}
	})
}

func TestASmallRequestPassesALargeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(100)
		var mu sync.Mutex
		var in []string
		g.try("a", 40)
		queue(g, &in, &mu, "b", 80)
		queue(g, &in, &mu, "c", 10)
		if len(in) != 1 || in[0] != "c10" {
			t.Errorf("let in %v: there is room for c", in)
		}
		g.leave("c", 10)
		g.leave("a", 40)
		synctest.Wait()
		if len(in) != 2 {
			t.Errorf("let in %v: there is room for b", in)
		}
		g.leave("b", 80)
	})
}

func TestWhoHasWaitedLongEnoughIsSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(100)
		g.try("a", 100)
		began := time.Now()
		if err := g.enter(t.Context(), "b", 90, time.Second); !errors.Is(err, errNoTry) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, waiting := g.held(); waiting != 0 || g.refused() != 1 {
			t.Errorf("%d wait, %d were refused", waiting, g.refused())
		}
		g.leave("a", 100)
		if len(g.tenants) != 0 {
			t.Errorf("%d tenants are remembered", len(g.tenants))
		}
	})
}

// TestWhoGivesUpLetsTheNextOneIn: what was behind it is perhaps smaller.
func TestWhoGivesUpLetsTheNextOneIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(100)
		g.try("a", 50)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { gone <- g.enter(ctx, "b", 90, time.Hour) }()
		synctest.Wait()
		var mu sync.Mutex
		var in []string
		queue(g, &in, &mu, "b", 10)
		if len(in) != 0 {
			t.Error("a tenant's requests keep their order")
		}
		cancel()
		if err := <-gone; !errors.Is(err, errNoTry) {
			t.Error(err)
		}
		synctest.Wait()
		if len(in) != 1 {
			t.Error("there is room for the next")
		}
	})
}

// TestAStormLeavesPlacesToWait: a tenant cannot fill the waiting room either.
func TestAStormLeavesPlacesToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(10)
		g.places = 8
		g.try("a", 10)
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		wait := func(tenant string) {
			work.Go(func() { _ = g.enter(ctx, tenant, 10, time.Hour) })
			synctest.Wait()
		}
		for range 20 {
			wait("storm")
		}
		if _, waiting := g.held(); waiting != 4 {
			t.Errorf("%d of the storm wait in 8 places, want half", waiting)
		}
		if wait("b"); len(g.tenants["b"].queue) != 1 {
			t.Error("there is no place left for another tenant")
		}
		cancel()
		work.Wait()
		g.leave("a", 10)
		if inside, waiting := g.held(); inside != 0 || waiting != 0 || len(g.tenants) != 0 || g.refused() == 0 {
			t.Errorf("%d inside, %d wait, %d tenants", inside, waiting, len(g.tenants))
		}
	})
}

// TestAGateKeepsItsBooks goes in and out at random, and gives up, from many sides.
func TestAGateKeepsItsBooks(t *testing.T) {
	g := newGate(1000)
	var work sync.WaitGroup
	for k := range 16 {
		rnd := rand.New(rand.NewPCG(7, uint64(k)))
		work.Go(func() {
			tenant := fmt.Sprint("t", k%5)
			for range 300 {
				n := 1 + rnd.Int64N(400)
				if g.enter(context.Background(), tenant, n, time.Duration(rnd.IntN(50))*time.Microsecond) != nil {
					continue
				}
				more := rnd.Int64N(100)
				grown := more > 0 && g.add(tenant, more)
				if inside, _ := g.held(); inside > 1000 {
					t.Errorf("%d inside", inside)
				}
				if grown {
					g.leave(tenant, more)
				}
				g.leave(tenant, n)
			}
		})
	}
	work.Wait()
	if inside, waiting := g.held(); inside != 0 || waiting != 0 || len(g.tenants) != 0 || len(g.lines) != 0 {
		t.Errorf("%d inside, %d wait, %d tenants, %d lines", inside, waiting, len(g.tenants), len(g.lines))
	}
}

func TestNothingIsAdmittedAsWell(t *testing.T) {
	g := newGate(100)
	if !g.try("a", 0) || !g.add("b", 0) {
		t.Error("nothing finds no room")
	}
	g.leave("a", 0)
	g.leave("b", 0)
	if inside, _ := g.held(); inside != 0 || len(g.tenants) != 0 {
		t.Errorf("%d bytes, %d tenants", inside, len(g.tenants))
	}
}

func TestAnOpenGateCostsNextToNothing(t *testing.T) {
	g := newGate(1 << 30)
	if got := testing.AllocsPerRun(100, func() {
		g.try("a", 1<<20)
		g.leave("a", 1<<20)
	}); got > 2 {
		t.Errorf("%.0f allocations for a request that goes straight through", got)
	}
}

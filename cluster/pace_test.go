package cluster

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-metrics/muster/ring"
)

// fares of slots from..to-1, all to one store.
func fares(from, to int, store ring.Store, series float64, r rank) []fare {
	var out []fare
	for slot := from; slot < to; slot++ {
		out = append(out, fare{step: ring.Step{Slot: slot}, to: store, series: series, rank: r})
	}
	return out
}

func TestPace(t *testing.T) {
	const rate = 100 // series a second, in batches of five seconds: 500
	for name, c := range map[string]struct {
		fares []fare
		due   bool
		want  int
		batch bool
		first int // slot
	}{
		"nothing":                                {due: true},
		"all that fits":                          {fares(0, 4, 7, 100, ordinary), true, 4, true, 0},
		"as much as fits":                        {fares(0, 9, 7, 100, ordinary), true, 5, true, 0},
		"a slot beyond, since it is 1":           {fares(0, 9, 7, 300, ordinary), true, 2, true, 0},
		"one that costs more than all":           {fares(0, 9, 7, 9e9, ordinary), true, 1, true, 0},
		"each receiver has its own":              {append(fares(0, 9, 7, 100, ordinary), fares(9, 18, 8, 250, ordinary)...), true, 7, true, 0},
		"what brings nothing is free":            {fares(0, 900, 0, 0, ordinary), true, 900, true, 0},
		"not due":                                {fares(0, 4, 7, 1, ordinary), false, 0, false, 0},
		"below its quorum: never late":           {fares(0, 9, 7, 1000, belowQuorum), false, 9, false, 0},
		"below its quorum and the rest, not due": {append(fares(0, 4, 7, 1, ordinary), fares(4, 6, 7, 1, belowQuorum)...), false, 2, false, 4},
		"who lacks replicas comes first":         {append(fares(0, 9, 7, 100, ordinary), fares(9, 12, 7, 100, tooFew)...), true, 5, true, 9},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPace(5 * time.Second)
			steps, batch := p.Choose(slices.Clone(c.fares), rate, c.due, time.Unix(1000, 0))
			if len(steps) != c.want || batch != c.batch || len(steps) > 0 && steps[0].Slot != c.first {
				t.Errorf("%d steps, a batch: %v, want %d, %v\n%v", len(steps), batch, c.want, c.batch, steps)
			}
		})
	}
}

// TestPaceOverTime: however the rounds fall, nobody gets more than its rate and
// one batch, and all get all of it in the end.
func TestPaceOverTime(t *testing.T) {
	const rate, cost = 100, 60
	p, now := newPace(5*time.Second), time.Unix(1000, 0)
	begin, left, given, batches := now, fares(0, 400, 7, cost, ordinary), 0, 0
	for round := 0; len(left) > 0; round++ {
		now = now.Add(time.Duration(100+round*37%900) * time.Millisecond)
		steps, batch := p.Choose(slices.Clone(left), rate, p.Due(now), now)
		if batch {
			p.Sent(now)
			batches++
		}
		left, given = left[len(steps):], given+len(steps)*cost
		if most := rate*now.Sub(begin).Seconds() + late*5*rate + cost; float64(given) > most {
			t.Fatalf("%d series after %v, at most %v", given, now.Sub(begin), most)
		}
		if round > 10_000 {
			t.Fatalf("%d slots are left", len(left))
		}
	}
	if took := now.Sub(begin); batches > int(took/(5*time.Second))+1 || took > 400*cost/rate*1050*time.Millisecond {
		t.Errorf("%d batches in %v", batches, took)
	}
}

// TestANewLeaderGoesOnAtThePace: what it finds under way had its batch a moment
// ago, for all it knows.
func TestANewLeaderGoesOnAtThePace(t *testing.T) {
	p, now := newPace(5*time.Second), time.Unix(1000, 0)
	if !p.Due(now) {
		t.Error("the first batch waits")
	}
	p.Resume(now)
	if p.Due(now.Add(4*time.Second)) || !p.Due(now.Add(5*time.Second)) {
		t.Error("a move that goes on does not wait for its time")
	}
	p.Sent(now.Add(5 * time.Second))
	p.Resume(now.Add(9 * time.Second))
	if !p.Due(now.Add(10 * time.Second)) {
		t.Error("who leads already begins anew")
	}
	p.Forget()
	if !p.Due(now) {
		t.Error("another leader's batches count")
	}
	if steps, _ := p.Choose(fares(0, 1, 7, 1, belowQuorum), 1, false, now); len(steps) != 1 {
		t.Fatal("a repair waits")
	}
	p.Resume(now)
	if !p.Due(now) {
		t.Error("its own repair is taken for another leader's batch")
	}
}

package ingest

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/ring"
)

// randomTable places each slot on some of n stores, some of them short.
func randomTable(t testing.TB, rng *rand.Rand, slots, n int) *ring.Table {
	t.Helper()
	all := make([]ring.Slot, slots)
	for i := range all {
		var set ring.Set
		for _, s := range rng.Perm(n)[:rng.IntN(min(n, 4)+1)] {
			set = set.With(ring.Store(s + 1))
		}
		all[i] = ring.Slot{Replicas: set, Quorum: 1 + rng.IntN(3), Changed: 1 + rng.Uint64N(50)}
	}
	table, err := ring.New(all, nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestRouteSendsEachSeriesToItsReplicasOnce holds every plan against the table.
func TestRouteSendsEachSeriesToItsReplicasOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		b := walked(t, samplesOf(1+rng.IntN(300), 1_700_000_000_000, 1))
		nodes := 1 + rng.IntN(6)
		r := NewRing(1, "r", randomTable(t, rng, 1<<rng.IntN(7), nodes))
		var which []uint32
		if rng.IntN(2) == 0 {
			for i := range b.Series {
				if odds := rng.IntN(3); odds == 0 || nodes%2 == 0 {
					which = append(which, uint32(i))
				}
			}
			rng.Shuffle(len(which), func(i, j int) { which[i], which[j] = which[j], which[i] })
			which = slices.Grow(which, 1) // not nil: nil is all of them
		}
		frames := newBuffer(1)
		p := route(r, ring.TenantHash(tenantID), 7, b, which, frames)
		checkPlan(t, r, &p, b, which)
		for i := range p.shares {
			p.shares[i].buf.release()
		}
		frames.release()
	}
}

func checkPlan(t *testing.T, r *Ring, p *plan, b *wire.Batch, which []uint32) {
	t.Helper()
	type hop struct {
		series uint32
		store  ring.Store
	}
	got := map[hop]int{}
	for i := range p.shares {
		s := &p.shares[i]
		reader, samples, need := wire.NewReader(s.frames), 0, uint64(7)
		s.each(func(n uint32) {
			got[hop{n, s.store}]++
			if !reader.Next() || reader.Hash() != b.Series[n].Hash {
				t.Fatalf("series %d is not where the share says", n)
			}
			samples += reader.Samples()
			need = max(need, slotIn(r, b.Series[n]).Changed)
		})
		if reader.Next() || samples != s.samples || s.count() == 0 {
			t.Fatalf("share of %d samples says %d", samples, s.samples)
		}
		if s.need < need || (r.whole.Len() == 0 && s.need != need) {
			t.Fatalf("need %d, want %d", s.need, need)
		}
	}
	if which == nil {
		which = numbers(len(b.Series))
	}
	want := map[hop]int{}
	for _, n := range which {
		slot := slotIn(r, b.Series[n])
		if slot.Replicas.Len() < slot.Quorum {
			if !slices.Contains(p.short, n) {
				t.Fatalf("series %d is short and not told", n)
			}
			continue
		}
		for k := range slot.Replicas.Len() {
			want[hop{n, slot.Replicas.At(k)}]++
		}
		if replicas, quorum := p.vote(n); replicas != slot.Replicas.Len() || quorum != slot.Quorum {
			t.Fatalf("vote %d of %d, want %d of %d", quorum, replicas, slot.Quorum, slot.Replicas.Len())
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d deliveries, want %d", len(got), len(want))
	}
	for h, n := range got {
		if n != 1 || want[h] != 1 {
			t.Fatalf("series %d goes to store %d %d times", h.series, h.store, n)
		}
	}
}

func slotIn(r *Ring, s wire.Series) *ring.Slot {
	return r.Table.At(ring.KeyOf(ring.TenantHash(tenantID), s.Hash).Slot(r.Table.Slots()))
}

func TestRouteCutsSharesAtAMegabyte(t *testing.T) {
	for name, nodes := range map[string]int{"whole": 3, "slots": 5} {
		b := walked(t, samplesOf(40_000, 1_700_000_000_000, 1))
		r := NewRing(1, "r", tableOf(t, 64, nodes, 3, 2, 5))
		if (r.whole.Len() > 0) != (name == "whole") {
			t.Fatalf("%s: the ring is taken for another", name)
		}
		frames := newBuffer(1)
		p := route(r, ring.TenantHash(tenantID), 7, b, nil, frames)
		checkPlan(t, r, &p, b, nil)
		for i := range p.shares {
			if n := len(p.shares[i].frames); n > shareBytes {
				t.Errorf("%s: a share of %d bytes", name, n)
			}
			p.shares[i].buf.release()
		}
		frames.release()
		if len(p.shares) <= nodes {
			t.Errorf("%s: %d shares", name, len(p.shares))
		}
	}
}

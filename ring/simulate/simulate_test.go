package simulate

import (
	"math"
	"testing"

	"github.com/muster-metrics/muster/ring"
)

func cluster(n, zones int) []Node {
	out := make([]Node, n)
	for i := range out {
		out[i].Zone = i % zones
	}
	return out
}

// TestLayoutsCoverTheSpace: every key has its replicas, on distinct nodes, in
// distinct zones where there are enough.
func TestLayoutsCoverTheSpace(t *testing.T) {
	nodes := cluster(12, 3)
	nodes[3].Gone, nodes[4].Gone, nodes[5].Gone = true, true, true
	table, err := Slots(nil, nodes, 3, 256)
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]Layout{
		"slots": OfSlots(table), "few": OfSlots(FewSets(nodes, 3, 256)),
		"ketama": Ketama(nodes, 3, 100), "tokens": Tokens(nodes, 3, 64, 1), "one slot": OfSlots(table[:1]),
	} {
		sum := 0.0
		for i, s := range l.sets {
			sum += l.weight(i)
			zones := map[int]bool{}
			for r := range s.Len() {
				if nodes[s.At(r)-1].Gone {
					t.Fatalf("%s: arc %d on a node that is gone", name, i)
				}
				zones[nodes[s.At(r)-1].Zone] = true
			}
			if s.Len() != 3 || len(zones) != 3 {
				t.Fatalf("%s: arc %d has %v in %d zones", name, i, s, len(zones))
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("%s: the arcs are %v of the space", name, sum)
		}
	}
}

// TestAZoneWithoutNodesLeftIsPassedOver: five replicas over two nodes in one
// zone and three in another.
func TestAZoneWithoutNodesLeftIsPassedOver(t *testing.T) {
	nodes := []Node{{Zone: 0}, {Zone: 0}, {Zone: 1}, {Zone: 1}, {Zone: 1}}
	for _, s := range Ketama(nodes, 5, 20).sets {
		if s.Len() != 5 {
			t.Fatalf("%v", s)
		}
	}
}

func TestMovedIsWhatNewcomersGet(t *testing.T) {
	a := OfSlots([]ring.Set{ring.SetOf(1, 2), ring.SetOf(1, 2), ring.SetOf(2, 3), ring.SetOf(2, 3)})
	b := OfSlots([]ring.Set{ring.SetOf(2, 1), ring.SetOf(1, 4)})
	// First half: nothing for 1, 2 and 2, 1. Second half: both are new to 2, 3.
	if m := a.Moved(b); math.Abs(m-1) > 1e-9 {
		t.Errorf("moved %v, want 1", m)
	}
	if m := a.Moved(a); m != 0 {
		t.Errorf("moved %v to itself", m)
	}
}

// TestAJoinMovesWhatTheFormulaSays: floor(slots*RF/(n+1)) slot replicas.
func TestAJoinMovesWhatTheFormulaSays(t *testing.T) {
	in := usual()
	in.Nodes, in.Add = cluster(30, 1), 1
	r, err := in.slots()
	if err != nil {
		t.Fatal(err)
	}
	if want := float64(4096*3/31) / 4096; math.Abs(r.Steps[0]-want) > 1e-9 {
		t.Errorf("moved %v, want %v", r.Steps[0], want)
	}
}

func usual() Input {
	return Input{
		Nodes: cluster(30, 3), RF: 3, Quorum: 2, Slots: 4096, Series: 1e7, Tenants: 100, Zipf: 1,
		Request: 500, Fail: 2, Tries: 20_000, Seed: 1,
	}
}

// TestLossAgainstCounting compares with a count over all pairs, slot by slot.
func TestLossAgainstCounting(t *testing.T) {
	in := usual()
	in.Nodes, in.Slots = cluster(10, 1), 64
	table, err := Slots(nil, in.Nodes, 3, 64)
	if err != nil {
		t.Fatal(err)
	}
	got := OfSlots(table).Lose(in.Nodes, 2, 3, 2, 500, Zipf(10, 1, 1e4), 1000, 1)
	any, part, pairs := 0.0, 0.0, 0.0
	for a := ring.Store(1); a <= 10; a++ {
		for b := a + 1; b <= 10; b++ {
			pairs++
			hit := 0.0
			for _, s := range table {
				if s.Has(a) && s.Has(b) {
					hit++
				}
			}
			part += hit / 64
			if hit > 0 {
				any++
			}
		}
	}
	if !got.All || got.Tries != 45 || math.Abs(got.Any-any/pairs) > 1e-9 || math.Abs(got.Part-part/pairs) > 1e-9 {
		t.Errorf("%+v, want any %v, part %v", got, any/pairs, part/pairs)
	}
	if got.Requests < got.Part || got.Requests > got.Any || got.Tenants > got.Any {
		t.Errorf("%+v", got)
	}
	if one := OfSlots(table).Lose(in.Nodes, 1, 3, 2, 500, nil, 1000, 1); one.Any != 0 {
		t.Errorf("one of three replicas lost: %+v", one)
	}
	random := OfSlots(table).Lose(in.Nodes, 3, 3, 2, 500, nil, 100, 1) // 120 triples
	if random.All || random.Tries != 100 || random.Any == 0 {
		t.Errorf("%+v", random)
	}
}

// TestFewSetsLoseRarelyAndMuch: with few replica sets the loss of two nodes
// seldom touches anything, with many nearly always; on average as much is lost.
func TestFewSetsLoseRarelyAndMuch(t *testing.T) {
	results, err := Run(usual())
	if err != nil {
		t.Fatal(err)
	}
	many, few := results[0], results[1]
	if few.Sets != 10 || many.Sets <= few.Sets {
		t.Fatalf("%d and %d replica sets", few.Sets, many.Sets)
	}
	if f, m := few.Losses[1], many.Losses[1]; f.Any >= m.Any/2 || math.Abs(f.Part-m.Part) > 0.01 || f.Requests >= m.Requests {
		t.Errorf("few %+v\nmany %+v", f, m)
	}
	for _, r := range results {
		sum := 0.0
		for _, n := range r.Before {
			sum += n
		}
		if math.Abs(sum-3e7) > 1e5 {
			t.Errorf("%s: %v series on all nodes, want three times 1e7", r.Name, sum)
		}
	}
	if b := many.EvenBefore; b.Most > 1.01 || b.Least < 0.99 {
		t.Errorf("slot table: %+v", b)
	}
	if b := results[3].EvenBefore; b.Most < 1.02 {
		t.Errorf("128 random tokens are as even as a table: %+v", b)
	}
}

func TestTheSameInputGivesTheSameNumbers(t *testing.T) {
	in := usual()
	in.Nodes, in.Add, in.Remove, in.Fail = cluster(7, 2), 2, 1, 3
	a, err := Run(in)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Run(in)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a {
		if len(a[i].Steps) != 3 || a[i].After[0] != 0 || a[i].Before[8] != 0 {
			t.Errorf("%s: steps %v, after %v", a[i].Name, a[i].Steps, a[i].After)
		}
		for n := range a[i].After {
			if a[i].After[n] != b[i].After[n] {
				t.Fatalf("%s: node %d has %v, then %v", a[i].Name, n, a[i].After[n], b[i].After[n])
			}
		}
	}
}

func TestInputsThatMeanNothingAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Input){
		"no nodes":         func(in *Input) { in.Nodes = nil },
		"too many nodes":   func(in *Input) { in.Add = 5000 },
		"no replicas":      func(in *Input) { in.RF = 0 },
		"nodes below RF":   func(in *Input) { in.Nodes = in.Nodes[:2] },
		"quorum above RF":  func(in *Input) { in.Quorum = 4 },
		"slots":            func(in *Input) { in.Slots = 1000 },
		"remove too many":  func(in *Input) { in.Remove = 28 },
		"no tenants":       func(in *Input) { in.Tenants = 0 },
		"fail for nothing": func(in *Input) { in.Fail = -1 },
		"less than alike":  func(in *Input) { in.Zipf = -1 },
		"no exponent":      func(in *Input) { in.Zipf = math.NaN() },
		"empty requests":   func(in *Input) { in.Request = 0 },
		"countless series": func(in *Input) { in.Series = math.Inf(1) },
	} {
		in := usual()
		spoil(&in)
		if _, err := Run(in); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// BenchmarkRun is the largest simulation that is promised: 1,000 nodes and a
// thousand million series in less than 30 s.
func BenchmarkRun(b *testing.B) {
	in := usual()
	in.Nodes, in.Slots, in.Series, in.Tenants, in.Add, in.Remove = cluster(1000, 3), 16384, 1e9, 10_000, 1, 1
	for b.Loop() {
		if _, err := Run(in); err != nil {
			b.Fatal(err)
		}
	}
}

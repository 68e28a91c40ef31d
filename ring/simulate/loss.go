package simulate

import (
	"math"
	"math/rand/v2"

	"github.com/muster-metrics/muster/ring"
)

// Loss is what happens to writes when some nodes, whichever, are down at once.
type Loss struct {
	Nodes int // down
	// Any is the probability that some arc is below its quorum, Part the expected
	// part of the space that is.
	Any, Part float64
	// Requests is the expected part of requests that meet such an arc, Tenants
	// that of tenants with a series there.
	Requests, Tenants float64
	// Tries is how many combinations of nodes were looked at; All says that these
	// are all there are.
	Tries int
	All   bool
}

// holders are the distinct replica sets of a layout with their weights, and for
// each node which of them it is in.
type holders struct {
	weight []float64
	of     [][]int32
}

func (l Layout) holders(nodes int) *holders {
	h := &holders{of: make([][]int32, nodes)}
	index := map[ring.Set]int32{}
	for i, s := range l.sets {
		s = sorted(s)
		k, known := index[s]
		if !known {
			k = int32(len(h.weight))
			index[s] = k
			h.weight = append(h.weight, 0)
			for r := range s.Len() {
				h.of[s.At(r)-1] = append(h.of[s.At(r)-1], k)
			}
		}
		h.weight[k] += l.weight(i)
	}
	return h
}

// below is the part of the space of which more than spare replicas are down.
// down counts by set and is left as it was.
func (h *holders) below(gone []int, spare int, down []uint8) float64 {
	part := 0.0
	for _, n := range gone {
		for _, k := range h.of[n] {
			if down[k]++; int(down[k]) == spare+1 {
				part += h.weight[k]
			}
		}
	}
	for _, n := range gone {
		for _, k := range h.of[n] {
			down[k] = 0
		}
	}
	return part
}

// Lose takes k living nodes away, every combination where there are at most
// tries of them, otherwise that many at random. A request has series of the
// given number, anywhere.
func (l Layout) Lose(nodes []Node, k, rf, quorum int, request float64, tenants []float64, tries int, seed uint64) Loss {
	var living []int
	for i, n := range nodes {
		if !n.Gone {
			living = append(living, i)
		}
	}
	k = min(k, len(living))
	h := l.holders(len(nodes))
	down := make([]uint8, len(h.weight))
	out := Loss{Nodes: k}
	bins := binned(tenants)
	seen := map[float64]Loss{} // of one part of the space, what it means
	look := func(gone []int) {
		part := h.below(gone, rf-quorum, down)
		out.Tries++
		if part == 0 {
			return
		}
		one, known := seen[part]
		if !known {
			one = Loss{Any: 1, Part: part, Requests: 1 - math.Pow(1-part, request), Tenants: touched(bins, part)}
			seen[part] = one
		}
		out.Any, out.Part = out.Any+1, out.Part+one.Part
		out.Requests, out.Tenants = out.Requests+one.Requests, out.Tenants+one.Tenants
	}
	out.All = combinations(len(living), k) <= float64(tries)
	if out.All {
		each(living, k, look)
	} else {
		dice := rand.New(rand.NewPCG(seed, 0x1055))
		for range tries {
			shuffleFirst(dice, living, k)
			look(living[:k])
		}
	}
	n := float64(max(1, out.Tries))
	out.Any, out.Part, out.Requests, out.Tenants = out.Any/n, out.Part/n, out.Requests/n, out.Tenants/n
	return out
}

// combinations is n over k.
func combinations(n, k int) float64 {
	c := 1.0
	for i := range k {
		c = c * float64(n-i) / float64(i+1)
	}
	return math.Round(c)
}

// each calls f with every choice of k elements; f does not keep it.
func each(from []int, k int, f func([]int)) {
	chosen := make([]int, 0, k)
	var choose func(next int)
	choose = func(next int) {
		if len(chosen) == k {
			f(chosen)
			return
		}
		for i := next; i <= len(from)-(k-len(chosen)); i++ {
			chosen = append(chosen, from[i])
			choose(i + 1)
			chosen = chosen[:len(chosen)-1]
		}
	}
	choose(0)
}

// shuffleFirst puts k elements, chosen at random, in front.
func shuffleFirst(dice *rand.Rand, s []int, k int) {
	for i := range k {
		j := i + dice.IntN(len(s)-i)
		s[i], s[j] = s[j], s[i]
	}
}

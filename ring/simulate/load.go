package simulate

import (
	"math"
	"math/rand/v2"
)

// Series draws how many of n series fall on each arc, and with its replicas on
// each node. Keys are hashes, so an arc's number varies about its part of the
// space as chance has it.
func (l Layout) Series(n float64, nodes int, seed uint64) []float64 {
	dice := rand.New(rand.NewPCG(seed, 0x5e41e5))
	load := make([]float64, nodes)
	for i, set := range l.sets {
		series := drawn(dice, n*l.weight(i))
		for r := range set.Len() {
			load[set.At(r)-1] += series
		}
	}
	return load
}

// fewExpected is up to where a number is drawn exactly; above it, the normal
// distribution differs by less than a series in a thousand.
const fewExpected = 60

// drawn is a number with a Poisson distribution about mean.
func drawn(dice *rand.Rand, mean float64) float64 {
	if mean > fewExpected {
		return max(0, math.Round(mean+math.Sqrt(mean)*dice.NormFloat64()))
	}
	n, p := -1.0, 1.0
	for limit := math.Exp(-mean); p > limit; n++ {
		p *= dice.Float64()
	}
	return n
}

// Balance is how evenly living nodes are loaded, each relative to its fair part
// by weight.
type Balance struct {
	// Least and Most are the smallest and the largest load in fair parts: 1 is
	// exactly what is due.
	Least, Most float64
}

// BalanceOf compares load with what is due to each node by its weight.
func BalanceOf(nodes []Node, load []float64, weighted bool) Balance {
	sum, weights := 0.0, 0.0
	for i, n := range nodes {
		if !n.Gone {
			sum, weights = sum+load[i], weights+weightOf(n, weighted)
		}
	}
	b := Balance{Least: math.Inf(1)}
	for i, n := range nodes {
		if n.Gone || sum == 0 {
			continue
		}
		part := load[i] / (sum * weightOf(n, weighted) / weights)
		b.Least, b.Most = min(b.Least, part), max(b.Most, part)
	}
	return b
}

func weightOf(n Node, weighted bool) float64 {
	if !weighted || n.Weight == 0 {
		return 100
	}
	return float64(n.Weight)
}

package simulate

import "math"

// Zipf shares series out among tenants: the k-th has a part of 1/k^s.
func Zipf(tenants int, s, series float64) []float64 {
	out, sum := make([]float64, tenants), 0.0
	for k := range out {
		out[k] = math.Pow(float64(k+1), -s)
		sum += out[k]
	}
	for k := range out {
		out[k] *= series / sum
	}
	return out
}

// bin is tenants of about the same number of series.
type bin struct{ tenants, series float64 }

// binWidth is how much larger, relatively, the first tenant of a bin may be than
// the last.
const binWidth = 0.02

// binned puts tenants, largest first, into bins, so that many small ones cost
// what one does.
func binned(tenants []float64) []bin {
	var bins []bin
	first := 0.0
	for _, series := range tenants {
		if len(bins) == 0 || series < first*(1-binWidth) {
			bins, first = append(bins, bin{}), series
		}
		b := &bins[len(bins)-1]
		b.series = (b.series*b.tenants + series) / (b.tenants + 1)
		b.tenants++
	}
	return bins
}

// touched is the expected part of tenants with at least one series in a part of
// the space: their series are spread over all of it by hash.
func touched(tenants []bin, part float64) float64 {
	hit, all := 0.0, 0.0
	for _, b := range tenants {
		hit += b.tenants * (1 - math.Pow(1-part, b.series))
		all += b.tenants
	}
	return hit / max(1, all)
}

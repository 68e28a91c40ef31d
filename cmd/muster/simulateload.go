package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/muster-metrics/muster/ring/simulate"
)

// loadsOf are the loads of nodes, before and after, by placement: each in parts
// of what is due to it. Nodes that are not there are left out.
func loadsOf(in simulate.Input, results []simulate.Result) [][2][]float64 {
	var out [][2][]float64
	for k, r := range results {
		out = append(out, [2][]float64{parts(in, r.Before, k == 0), parts(in, r.After, k == 0)})
	}
	return out
}

func parts(in simulate.Input, load []float64, weighted bool) []float64 {
	weight := func(i int) float64 {
		if weighted && i < len(in.Nodes) && in.Nodes[i].Weight > 0 {
			return float64(in.Nodes[i].Weight)
		}
		return ringUsualWeight
	}
	sum, weights := 0.0, 0.0
	for i, n := range load {
		if n > 0 {
			sum, weights = sum+n, weights+weight(i)
		}
	}
	var out []float64
	for i, n := range load {
		if n > 0 {
			out = append(out, n*weights/sum/weight(i))
		}
	}
	return out
}

const ringUsualWeight = 100.0

// simulatedLoads prints how many nodes have which load, a column for each.
func (s stdio) simulatedLoads(in simulate.Input, results []simulate.Result) {
	const columns = 48
	loads := loadsOf(in, results)
	a := axisOf(loads)
	s.printf("\nHow many nodes have which load, in parts of what is due to them (far-off ones at the ends):\n")
	rows := make([][]string, 0, 2*len(results))
	for k, r := range results {
		for i, when := range []string{"before", "after"} {
			rows = append(rows, []string{[]string{r.Name, ""}[i], when, a.strip(loads[k][i], columns)})
		}
	}
	left, right := fmt.Sprintf("%.2f", a.least), fmt.Sprintf("%.2f", a.most)
	scale := []rune(left + strings.Repeat(" ", columns-len(left)-len(right)) + right)
	one, _ := a.at(1)
	if at := int(one*(columns-1)) - 1; at > len(left) && at < columns-len(right)-4 {
		copy(scale[at:], []rune("1.00"))
	}
	s.table([]string{"PLACED BY", "", string(scale)}, rows)
}

// strip draws a histogram of one line. Any node at all is to be seen.
func (a axis) strip(parts []float64, columns int) string {
	nodes := make([]int, columns)
	for _, p := range parts {
		at, _ := a.at(p)
		nodes[int(at*float64(columns-1)+0.5)]++
	}
	steps, most := []rune("▁▂▃▄▅▆▇█"), slices.Max(nodes)
	var text strings.Builder
	for _, n := range nodes {
		if n == 0 {
			text.WriteRune('·')
			continue
		}
		text.WriteRune(steps[(n*len(steps)-1)/most])
	}
	return text.String()
}

// dotNodes is how many nodes get a dot each in a drawing; more are drawn as bars,
// the more of them the stronger.
const dotNodes = 200

// drawLoads has two rows for each placement.
func drawLoads(d *svg, y float64, in simulate.Input, results []simulate.Result) float64 {
	y = drawTitle(d, y, "Load of the nodes", "series of a node, in parts of what is due to it: 1.00 is even; the upper row before the change, the lower one after it")
	loads := loadsOf(in, results)
	a := axisOf(loads)
	top := y
	var rows svg
	for k, r := range results {
		rows.text(svgLeft-56, y+22, "name", r.Name)
		for i, when := range []string{"before", "after"} {
			line := y + 11 + 15*float64(i)
			rows.text(svgLeft-12, line+4, "side", when)
			drawParts(&rows, line, k, a, loads[k][i])
		}
		y += 40
	}
	step := 0.05
	if a.most-a.least > 0.4 {
		step = 0.1
	}
	for n := math.Ceil(a.least/step - 1e-9); n*step <= a.most+1e-9; n++ {
		part := n * step
		at, _ := a.at(part)
		x, class := svgLeft+at*(svgRight-svgLeft), "grid"
		if part > 1-1e-9 && part < 1+1e-9 {
			class = "one"
		}
		d.line(x, top, x, y, class)
		d.text(x, y+14, "tick", fmt.Sprintf("%.2f", part))
	}
	d.WriteString(rows.String())
	return y + svgGap + 12
}

// drawParts draws one row of nodes. Who is beyond the end is named there.
func drawParts(d *svg, y float64, k int, a axis, parts []float64) {
	far, farthest := 0, 0.0
	bins := map[int]int{}
	most := 0
	for _, p := range parts {
		at, beyond := a.at(p)
		if beyond {
			far, farthest = far+1, max(farthest, p)
		}
		x := svgLeft + at*(svgRight-svgLeft)
		if len(parts) <= dotNodes {
			d.add(`<circle cx="%.1f" cy="%.1f" r="4" class="%s dot"><title>%.3f</title></circle>`, x, y, placedBy(k), p)
			continue
		}
		bin := int(x) / 3
		bins[bin]++
		most = max(most, bins[bin])
	}
	for _, bin := range slices.Sorted(maps.Keys(bins)) {
		h := 2 + 11*float64(bins[bin])/float64(most)
		d.add(`<rect x="%d" y="%.1f" width="3" height="%.1f" class="%s"/>`, bin*3, y+6-h, h, placedBy(k))
	}
	if far > 0 {
		d.text(svgRight+12, y+4, "note", fmt.Sprintf("%s, up to %.2f", numbered(far, "node"), farthest))
	}
}

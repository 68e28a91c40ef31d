package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/muster-metrics/muster/ring/simulate"
)

// svg is a drawing in the making, in pixels from the upper left corner.
type svg struct{ strings.Builder }

func (d *svg) add(format string, args ...any) { fmt.Fprintf(&d.Builder, format+"\n", args...) }

func (d *svg) text(x, y float64, anchor, words string) {
	d.add(`<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, words)
}

func (d *svg) line(x1, y1, x2, y2 float64, color string) {
	d.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`, x1, y1, x2, y2, color)
}

// Measures of the drawing.
const (
	svgWidth  = 900.0
	svgLeft   = 170.0
	svgRight  = 880.0
	svgRow    = 26.0
	svgPanel  = 44.0
	svgLegend = 40.0
)

var svgColors = []string{"#1b6ca8", "#6aa84f", "#cc7a00", "#999999", "#b03a48", "#7a4fa8"}

// drawing is the whole simulation as an SVG file: how each node is loaded before
// and after, what each step moves, and what a loss of nodes touches.
func drawing(in simulate.Input, results []simulate.Result) string {
	var body svg
	y := svgLegend
	y = drawLoads(&body, y, "Load of each node in its fair parts, before (upper dots) and after (lower dots)", in, results)
	y = drawSteps(&body, y, in, results)
	y = drawLosses(&body, y, in, results)
	var d svg
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12">`, svgWidth, y+10)
	d.add(`<rect width="100%%" height="100%%" fill="white"/>`)
	d.text(10, 22, "start", fmt.Sprintf("%d nodes, replication factor %d, write quorum %d, %d slots, %s series",
		len(in.Nodes), in.RF, in.Quorum, in.Slots, count(in.Series)))
	d.WriteString(body.String())
	d.add(`</svg>`)
	return d.String()
}

// drawLoads has a row of dots for each placement, a dot for each node.
func drawLoads(d *svg, y float64, title string, in simulate.Input, results []simulate.Result) float64 {
	y = drawTitle(d, y, title)
	least, most := 0.9, 1.1
	for _, r := range results {
		least = min(least, r.EvenBefore.Least, r.EvenThen.Least)
		most = max(most, r.EvenBefore.Most, r.EvenThen.Most)
	}
	at := func(part float64) float64 { return svgLeft + (part-least)/(most-least)*(svgRight-svgLeft) }
	top := y
	for k, r := range results {
		d.text(svgLeft-10, y+16, "end", r.Name)
		weighted := k == 0
		dots(d, r.Before, y+8, k, fair(in, r.Before, weighted), at)
		dots(d, r.After, y+18, k, fair(in, r.After, weighted), at)
		y += svgRow
	}
	for _, part := range []float64{least, 1, most} {
		d.line(at(part), top, at(part), y, "#cccccc")
		d.text(at(part), y+14, "middle", fmt.Sprintf("%.2f", part))
	}
	return y + svgPanel
}

// fair is what is due to each node that has any load.
func fair(in simulate.Input, load []float64, weighted bool) []float64 {
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
	out := make([]float64, len(load))
	for i := range load {
		out[i] = sum * weight(i) / weights
	}
	return out
}

const ringUsualWeight = 100.0

func dots(d *svg, load []float64, y float64, k int, due []float64, at func(float64) float64) {
	for i, n := range load {
		if n > 0 {
			d.add(`<circle cx="%.1f" cy="%.1f" r="3" fill="%s" fill-opacity="0.6"><title>n%d: %s series</title></circle>`,
				at(n/due[i]), y, svgColors[k%len(svgColors)], i+1, count(n))
		}
	}
}

func drawTitle(d *svg, y float64, title string) float64 {
	d.text(10, y+14, "start", title)
	return y + 24
}

// drawSteps has a bar for each placement in each step; very many steps are drawn
// by their sum.
func drawSteps(d *svg, y float64, in simulate.Input, results []simulate.Result) float64 {
	if len(results[0].Steps) == 0 {
		return y
	}
	y = drawTitle(d, y, "Moved, in percent of all replicas, over all steps (dashes: each step)")
	most := 0.0
	for _, r := range results {
		most = max(most, sum(r.Steps))
	}
	for k, r := range results {
		y = drawBar(d, y, k, r.Name, sum(r.Steps)/most, percent(sum(r.Steps)/float64(in.RF)))
		x := svgLeft
		for _, m := range r.Steps[:len(r.Steps)-1] {
			x += m / most * barLength
			d.line(x, y-svgRow+4, x, y-6, "white")
		}
	}
	return y + svgPanel/2
}

func sum(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}

// barLength leaves room for the number behind the longest bar.
const barLength = svgRight - svgLeft - 70

func drawBar(d *svg, y float64, k int, name string, part float64, words string) float64 {
	if math.IsNaN(part) {
		part = 0
	}
	d.text(svgLeft-10, y+14, "end", name)
	d.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="16" fill="%s"/>`, svgLeft, y+2, part*barLength, svgColors[k%len(svgColors)])
	d.text(svgLeft+part*barLength+6, y+14, "start", words)
	return y + svgRow
}

// drawLosses has, for each number of nodes that are down, a bar for each
// placement: the requests that fail.
func drawLosses(d *svg, y float64, in simulate.Input, results []simulate.Result) float64 {
	for n := range results[0].Losses {
		if results[0].Losses[n].Nodes <= in.RF-in.Quorum {
			continue // nothing is ever below its quorum
		}
		y = drawTitle(d, y, fmt.Sprintf("%d nodes down: requests of %.0f series that fail", results[0].Losses[n].Nodes, in.Request))
		for k, r := range results {
			y = drawBar(d, y, k, r.Name, r.Losses[n].Requests, percent(r.Losses[n].Requests))
		}
		y += svgPanel / 2
	}
	return y
}

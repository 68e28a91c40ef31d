package main

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/muster-metrics/muster/ring/simulate"
)

// svg is a drawing in the making, in pixels from the upper left corner.
type svg struct{ strings.Builder }

func (d *svg) add(format string, args ...any) { fmt.Fprintf(&d.Builder, format+"\n", args...) }

func (d *svg) text(x, y float64, class, words string) {
	d.add(`<text x="%.1f" y="%.1f" class="%s">%s</text>`, x, y, class, html.EscapeString(words))
}

func (d *svg) line(x1, y1, x2, y2 float64, class string) {
	d.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

// Measures of the drawing.
const (
	svgWidth  = 1040.0
	svgLeft   = 240.0 // where bars begin; names stand before it
	svgRight  = 860.0 // where the longest bar ends; its number stands behind it
	svgMargin = 24.0
	svgRow    = 26.0
	svgGap    = 34.0 // below a panel
)

// svgStyle has the colours, for light and for dark surroundings; p0 to p4 are
// the ways of placing. They can be told apart with any eyesight.
const svgStyle = `<style>
  .ground { fill: #ffffff } text { fill: #1f2933; font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
  .head { font-size: 20px; font-weight: 600 } .title { font-size: 15px; font-weight: 600 }
  .note, .tick { fill: #5f6b7a; font-size: 12px } .tick, .mid { text-anchor: middle } .name { text-anchor: end }
  .side { fill: #5f6b7a; font-size: 11px; text-anchor: end }
  .grid { stroke: #dfe4ea } .one { stroke: #8a96a3; stroke-dasharray: 3 3 } .cut { stroke: #ffffff; stroke-width: 2 }
  .p0 { fill: #0072b2 } .p1 { fill: #009e73 } .p2 { fill: #d55e00 } .p3 { fill: #7f8790 } .p4 { fill: #aa4499 }
  .pale { fill-opacity: .28 } .dot { fill-opacity: .55 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #14181d } text { fill: #e6eaee } .note, .tick, .side { fill: #9aa6b2 }
    .grid { stroke: #2c343d } .one { stroke: #6b7785 } .cut { stroke: #14181d }
    .p0 { fill: #56b4e9 } .p1 { fill: #2fc79a } .p2 { fill: #f0813a } .p3 { fill: #a9b2bb } .p4 { fill: #d88cc8 }
  }
</style>`

func placedBy(k int) string { return fmt.Sprintf("p%d", k%5) }

// drawing is the whole simulation as an SVG file: how each node is loaded before
// and after, what each step moves, and what a loss of nodes touches.
func drawing(in simulate.Input, results []simulate.Result) string {
	var body svg
	y := drawLoads(&body, 92, in, results)
	y = drawSteps(&body, y, in, results)
	y = drawLosses(&body, y, in, results)
	var d svg
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f">`, svgWidth, y, svgWidth, y)
	d.add(svgStyle)
	d.add(`<rect width="100%%" height="100%%" class="ground"/>`)
	d.text(svgMargin, 38, "head", fmt.Sprintf("%s, %d copies, write quorum %d", numbered(len(in.Nodes), "node"), in.RF, in.Quorum))
	d.text(svgMargin, 60, "note", fmt.Sprintf("%s series of %s (Zipf %g), a table of %d slots; %s",
		count(in.Series), numbered(in.Tenants, "tenant"), in.Zipf, in.Slots, changesOf(in)))
	d.WriteString(body.String())
	d.add(`</svg>`)
	return d.String()
}

// changesOf is what the nodes do.
func changesOf(in simulate.Input) string {
	switch {
	case in.Add+in.Remove == 0:
		return "nobody joins or leaves"
	case in.Remove == 0:
		return fmt.Sprintf("then %d join", in.Add)
	case in.Add == 0:
		return fmt.Sprintf("then %d leave", in.Remove)
	default:
		return fmt.Sprintf("then %d join and %d leave", in.Add, in.Remove)
	}
}

func drawTitle(d *svg, y float64, title, note string) float64 {
	d.text(svgMargin, y+14, "title", title)
	d.text(svgMargin, y+33, "note", note)
	return y + 46
}

// drawSteps has a bar for each placement, with a part for each step.
func drawSteps(d *svg, y float64, in simulate.Input, results []simulate.Result) float64 {
	if len(results[0].Steps) == 0 {
		return y
	}
	note := "percent of all replicas"
	if n := len(results[0].Steps); n > 1 {
		note += fmt.Sprintf("; a part for each of the steps %s to %s", stepName(in, 0), stepName(in, n-1))
	} else {
		note += " that come to another node, by the step " + stepName(in, 0)
	}
	y = drawTitle(d, y, "What the change moves", note)
	most := 0.0
	for _, r := range results {
		most = max(most, sum(r.Steps))
	}
	for k, r := range results {
		x, scale := svgLeft, (svgRight-svgLeft)/max(most, 1e-9)
		d.text(svgLeft-12, y+17, "name", r.Name)
		for i, m := range r.Steps {
			d.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="18" class="%s"><title>%s: %s</title></rect>`,
				x, y+4, m*scale, placedBy(k), stepName(in, i), percent(m/float64(in.RF)))
			if x += m * scale; i+1 < len(r.Steps) && m*scale > 6 { // else the cuts would be all there is
				d.line(x, y+4, x, y+22, "cut")
			}
		}
		d.text(x+8, y+17, "", percent(sum(r.Steps)/float64(in.RF)))
		y += svgRow
	}
	return y + svgGap
}

func sum(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}

// drawLosses has, for each number of nodes that are down, a bar for each
// placement: how likely it is that any slot lacks its quorum, and in it the
// requests that fail.
func drawLosses(d *svg, y float64, in simulate.Input, results []simulate.Result) float64 {
	for n, l := range results[0].Losses {
		down := numbered(l.Nodes, "node") + " down at once"
		if l.Nodes <= in.RF-in.Quorum {
			y = drawTitle(d, y, down, "nothing is ever below its write quorum") + svgGap/2
			continue
		}
		y = drawTitle(d, y, down, fmt.Sprintf("pale: how likely some series lack their write quorum; full: requests of %.0f series that fail then", in.Request))
		d.text(svgRight+12, y-2, "note", "any / requests")
		top, length := y, svgRight-svgLeft
		var bars svg
		for k, r := range results {
			l := r.Losses[n]
			bars.text(svgLeft-12, y+17, "name", r.Name)
			bars.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="18" class="%s pale"/>`, svgLeft, y+4, l.Any*length, placedBy(k))
			bars.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="10" class="%s"/>`, svgLeft, y+8, l.Requests*length, placedBy(k))
			bars.text(svgRight+12, y+17, "", fmt.Sprintf("%s / %s", percent(l.Any), percent(l.Requests)))
			y += svgRow
		}
		for part := 0.0; part <= 1; part += 0.25 {
			x := svgLeft + part*length
			d.line(x, top, x, y+4, "grid")
			d.text(x, y+18, "tick", fmt.Sprintf("%.0f%%", 100*part))
		}
		d.WriteString(bars.String())
		y += svgGap + 12
	}
	return y
}

// axis is the range of loads that a drawing shows.
type axis struct{ least, most float64 }

// axisOf holds all loads but those of the rare far-off: these would squeeze all
// others, and are drawn at the end.
func axisOf(loads [][2][]float64) axis {
	a := axis{0.95, 1.05}
	for _, l := range loads {
		for _, parts := range l {
			for _, p := range parts {
				if p < 1.45 && p > 0.55 {
					a.least, a.most = min(a.least, p), max(a.most, p)
				}
			}
		}
	}
	return axis{math.Floor(a.least*20+1e-9) / 20, math.Ceil(a.most*20-1e-9) / 20}
}

// at is where a load stands, 0 to 1; beyond says that it is farther off.
func (a axis) at(part float64) (at float64, beyond bool) {
	at = (part - a.least) / (a.most - a.least)
	return min(1, max(0, at)), at < -1e-9 || at > 1+1e-9
}

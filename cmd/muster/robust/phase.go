package robust

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
	"github.com/muster-metrics/muster/cmd/muster/load"
)

// Phase is a part of a growth, and what was measured in it.
type Phase struct {
	Name string
	// Change says that a node joined or left in it.
	Change       bool
	Began, Ended time.Time
	Took         time.Duration
	// Writes that were due in it, Acked the samples that were acknowledged in it.
	Writes []load.Write
	Acked  int64
	// Refused are answers other than 2xx of nodes that stay, AtLeaver those of the
	// node whose removal was asked.
	Refused, AtLeaver []load.Refusal
	// Head is the series in all heads at the end, HeadMost the most of them.
	Head, HeadMost int64
	// CPU of all nodes.
	CPU time.Duration
	// Counts of the nodes' metrics, by what they tell.
	Counts map[string]float64
}

func (p Phase) quantile(q float64) time.Duration { return load.Quantile(p.Writes, q) }

// Repeats is how often requests were sent again.
func (p Phase) Repeats() int {
	n := 0
	for _, w := range p.Writes {
		n += w.Repeats
	}
	return n
}

// notes are all answers so far.
type notes struct {
	writes   []load.Write
	refusals []load.Refusal
	lost     int // requests refused for good
}

// note takes over what the load has noted.
func (g *growing) note() {
	writes, refusals := g.load.Taken()
	for _, w := range writes {
		g.acked[w.Tenant] += int64(w.Samples)
		if w.Samples == 0 {
			g.notes.lost++
		}
	}
	g.notes.writes = append(g.notes.writes, writes...)
	g.notes.refusals = append(g.notes.refusals, refusals...)
}

// phase does one part of the growth and measures it. It begins where the one
// before has ended.
func (g *growing) phase(ctx context.Context, name string, change bool, do func(context.Context) error) error {
	p := Phase{Name: name, Change: change, Began: time.Now()}
	first := g.probe.look(ctx)
	if n := len(g.report.Phases); n > 0 {
		p.Began, first = g.report.Phases[n-1].Ended, g.ended
	}
	g.Say("phase: %s", name)
	g.probe.begin()
	stop := g.profile(ctx, name, change || name == "before")
	err := g.telling(ctx, name, do)
	stop()
	if err != nil {
		return err
	}
	last := g.probe.look(ctx)
	g.ended, p.Ended = last, time.Now()
	p.Took = p.Ended.Sub(p.Began)
	p.Head, p.HeadMost, p.CPU = last.head, max(g.probe.most(), last.head), last.cpu-first.cpu
	p.Counts = map[string]float64{}
	for k := range last.counts {
		p.Counts[k] = last.counts[k] - first.counts[k]
	}
	g.report.Phases = append(g.report.Phases, p)
	return nil
}

// sort gives each phase what was due in it, and the refusals of its time.
func (g *growing) sort() {
	for i := range g.report.Phases {
		p := &g.report.Phases[i]
		in := func(t time.Time) bool { return !t.Before(p.Began) && t.Before(p.Ended) }
		for _, w := range g.notes.writes {
			if in(w.Due) {
				p.Writes = append(p.Writes, w)
			}
			if in(w.Due.Add(w.Took)) {
				p.Acked += int64(w.Samples)
			}
		}
		for _, r := range g.notes.refusals {
			switch {
			case !in(r.At):
			case g.probe.wasLeaving(r):
				p.AtLeaver = append(p.AtLeaver, r)
			default:
				p.Refused = append(p.Refused, r)
			}
		}
	}
}

// telling says every few seconds how it goes.
func (g *growing) telling(ctx context.Context, name string, do func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			since := time.Now().Add(-5 * time.Second)
			g.note()
			var lately []load.Write
			for _, w := range g.notes.writes {
				if w.Due.Add(w.Took).After(since) {
					lately = append(lately, w)
				}
			}
			st := g.probe.latest()
			g.Say("%s %3.0fs: %.0f samples/s, p99 %v, %d series in heads, %d slots moving, %d not 2xx", name, time.Since(began).Seconds(),
				float64(load.Samples(lately))/5, load.Quantile(lately, 0.99).Round(time.Millisecond), st.head, g.probe.moving.Load(), len(g.notes.refusals))
		}
	}
}

// String is what the metrics counted in the phase.
func (p Phase) String() string {
	var extra []string
	for _, k := range slices.Sorted(maps.Keys(p.Counts)) {
		if p.Counts[k] != 0 {
			extra = append(extra, fmt.Sprintf("%s %.4g", k, p.Counts[k]))
		}
	}
	return fmt.Sprintf("%s: %s", p.Name, strings.Join(extra, ", "))
}

// Print writes the report for people.
func (r *GrowthReport) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "phase\ttook\tacked/s\tp50\tp95\tp99\tmax\tnot 2xx\tat the leaver\trepeats\thead series\tat most\tCPU")
	for _, p := range append(slices.Clone(r.Phases), r.During()) {
		ms := func(q float64) time.Duration { return p.quantile(q).Round(100 * time.Microsecond) }
		fmt.Fprintf(w, "%s\t%.1fs\t%.0f\t%v\t%v\t%v\t%v\t%d\t%d\t%d\t%d\t%d\t%.1fs\n", p.Name, p.Took.Seconds(),
			float64(p.Acked)/p.Took.Seconds(), ms(0.5), ms(0.95), ms(0.99), ms(1),
			len(p.Refused), len(p.AtLeaver), p.Repeats(), p.Head, p.HeadMost, p.CPU.Seconds())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range r.Phases {
		printRefusals(out, p.Name, "", p.Refused)
		printRefusals(out, p.Name, " (leaving)", p.AtLeaver)
		fmt.Fprintln(out, p)
	}
	return nil
}

// printRefusals writes each kind of answer once, the most frequent first.
func printRefusals(out io.Writer, phase, what string, all []load.Refusal) {
	by := map[string]int{}
	for _, r := range all {
		by[fmt.Sprintf("%s%s: %d %s", r.Target, what, r.Status, r.Says)]++
	}
	kinds := slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Or(by[b]-by[a], strings.Compare(a, b)) })
	for _, k := range kinds[:min(len(kinds), 10)] {
		fmt.Fprintf(out, "%s: %d x %s\n", phase, by[k], k)
	}
}

func targetsOf(nodes []*fleet.Node) []load.Target {
	var t []load.Target
	for _, n := range nodes {
		t = append(t, load.Target{Name: n.Name, URL: "http://" + n.Write + "/api/v1/receive"})
	}
	return t
}

package robust

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
	"github.com/muster-metrics/muster/cmd/muster/load"
)

// StormPhase is a part of a storm, and what was measured in it.
type StormPhase struct {
	Name         string
	Began, Ended time.Time
	// Calm are the calm tenants' writes that were due in it, Refused the answers
	// to them other than 2xx.
	Calm    []load.Write
	Refused []load.Refusal
	// Storm is the samples of the storm that were acknowledged in it, Sent how
	// often it was told to come again.
	Storm int64
	Sent  int
	// Memory is the most of any node that no file backs, CPU the time of all.
	Memory int64
	CPU    time.Duration
}

// StormReport is what a storm came to.
type StormReport struct {
	Phases []StormPhase
	// Acknowledged samples by tenant, Counted what each node found of them.
	Acknowledged map[string]int64
	Counted      map[string]map[string]int64
	// Flooded are the new series' samples that were acknowledged, Drained the
	// nodes that had no memory for more, Ebbed how long after that all of them
	// took writes again.
	Flooded int64
	Drained int
	Ebbed   time.Duration
}

// Phase is the one of that name.
func (r *StormReport) Phase(name string) StormPhase {
	for _, p := range r.Phases {
		if p.Name == name {
			return p
		}
	}
	return StormPhase{}
}

// Late is a phase's 99th percentile of the calm tenants next to that of before.
func (r *StormReport) Late(name string) float64 {
	return float64(r.Phase(name).quantile(0.99)) / math.Max(float64(r.Phase("before").quantile(0.99)), 1)
}

func (p StormPhase) quantile(q float64) time.Duration { return load.Quantile(p.Calm, q) }

// wantsMemory says whether a refusal is for want of memory.
func wantsMemory(r load.Refusal) bool {
	return r.Status == 503 && strings.Contains(r.Says, "memory budget")
}

// note takes over what the loads have noted.
func (s *storming) note() (sent int) {
	writes, refusals := s.calm.Taken()
	s.count(writes)
	s.writes = append(s.writes, writes...)
	s.refusals = append(s.refusals, refusals...)
	writes, refusals = s.storm.Taken()
	s.count(writes)
	return len(refusals)
}

func (s *storming) count(writes []load.Write) {
	for _, w := range writes {
		s.acked[w.Tenant] += int64(w.Samples)
	}
}

// phase does one part and measures it.
func (s *storming) phase(ctx context.Context, name string, do func(context.Context) error) error {
	s.note()
	p := StormPhase{Name: name, Began: time.Now()}
	first, cpu := s.acked[stormTenant], s.cpu()
	s.take()
	s.Say("phase: %s", name)
	err := do(ctx)
	p.Ended = time.Now()
	p.Sent = s.note()
	p.Storm, p.CPU, p.Memory = s.acked[stormTenant]-first, s.cpu()-cpu, s.take()
	s.report.Phases = append(s.report.Phases, p)
	return err
}

// sort gives each phase what was due in it, and the refusals of its time.
func (s *storming) sort() {
	for i := range s.report.Phases {
		p := &s.report.Phases[i]
		in := func(t time.Time) bool { return !t.Before(p.Began) && t.Before(p.Ended) }
		for _, w := range s.writes {
			if in(w.Due) {
				p.Calm = append(p.Calm, w)
			}
		}
		for _, r := range s.refusals {
			if in(r.At) {
				p.Refused = append(p.Refused, r)
			}
		}
	}
}

// watch looks at the nodes' memory until ctx ends.
func (s *storming) watch(ctx context.Context) {
	for rest(ctx, 200*time.Millisecond) == nil {
		for _, n := range s.fleet.Nodes {
			own, err := fleet.OwnMemoryOf(n.PID())
			if err != nil {
				continue
			}
			s.mu.Lock()
			s.most[n.Name] = max(s.most[n.Name], own)
			s.mu.Unlock()
		}
	}
}

// take is the most memory of any node since it was asked last.
func (s *storming) take() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var most int64
	for _, own := range s.most {
		most = max(most, own)
	}
	clear(s.most)
	return most
}

func (s *storming) cpu() (all time.Duration) {
	for _, n := range s.fleet.Nodes {
		if u, err := fleet.UsageOf(n.PID()); err == nil {
			all += u.CPU()
		}
	}
	return all
}

// Verdicts holds what was measured against the bounds.
func (r *StormReport) Verdicts(budget int64) []Verdict {
	var all []Verdict
	for _, name := range []string{"storm", "hanging"} {
		all = append(all, Verdict{
			fmt.Sprintf("99th percentile of the calm tenants' writes: %v before, %v in %s, %.2f times of at most %.2f",
				r.Phase("before").quantile(0.99).Round(100*time.Microsecond), r.Phase(name).quantile(0.99).Round(100*time.Microsecond), name, r.Late(name), lateBound),
			r.Late(name) <= lateBound,
		})
	}
	refused, most := 0, int64(0)
	for _, p := range r.Phases {
		if p.Name != "flood" && p.Name != "ebb" { // there nobody is spared
			refused += len(p.Refused)
		}
		most = max(most, p.Memory)
	}
	missing := r.Missing()
	return append(all,
		Verdict{fmt.Sprintf("calm tenants' writes refused: %d of at most 0", refused), refused == 0},
		Verdict{fmt.Sprintf("memory of a node: %d MiB of at most %d", most>>20, budget>>20), most <= budget},
		Verdict{fmt.Sprintf("all that was acknowledged is found on every node; %d differ %s", len(missing), strings.Join(missing, ", ")), len(missing) == 0},
	)
}

// Missing tells which nodes did not find what was acknowledged. The storm may
// have more: what a flood was not told about is perhaps stored.
func (r *StormReport) Missing() []string {
	var found []string
	for _, node := range slices.Sorted(maps.Keys(r.Counted)) {
		for _, tenant := range slices.Sorted(maps.Keys(r.Acknowledged)) {
			got, want := r.Counted[node][tenant], r.Acknowledged[tenant]
			if more := tenant == stormTenant && r.Flooded > 0 && got > want; got != want && !more {
				found = append(found, fmt.Sprintf("%d samples of %s were acknowledged, %s finds %d", want, tenant, node, got))
			}
		}
	}
	return found
}

// Print writes the report for people.
func (r *StormReport) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "phase\ttook\tcalm writes\tp50\tp95\tp99\tmax\tnot 2xx\tstorm acked/s\tsent away\tmemory\tCPU")
	for _, p := range r.Phases {
		ms := func(q float64) time.Duration { return p.quantile(q).Round(100 * time.Microsecond) }
		took := p.Ended.Sub(p.Began)
		fmt.Fprintf(w, "%s\t%.1fs\t%d\t%v\t%v\t%v\t%v\t%d\t%.0f\t%d\t%d MiB\t%.1fs\n", p.Name, took.Seconds(), len(p.Calm),
			ms(0.5), ms(0.95), ms(0.99), ms(1), len(p.Refused), float64(p.Storm)/took.Seconds(), p.Sent, p.Memory>>20, p.CPU.Seconds())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range r.Phases {
		printRefusals(out, p.Name, "", p.Refused)
	}
	return nil
}

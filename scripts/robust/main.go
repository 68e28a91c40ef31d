// Robust does to clusters of muster processes what happens at night: it kills,
// freezes and cuts them off while clients change and read tenants and write
// samples, and judges what was answered. It prints how long changes wait when a
// leader is killed, and how long a tenant's change takes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fencing"
	"github.com/muster-metrics/muster/cmd/muster/robust"
)

type options struct {
	binary      string
	seeds       int
	first       uint64
	duration    time.Duration
	nodes       int
	kills       int
	rounds      int
	changes     int
	consistency string
	only        string
	keep        string

	limit   int
	series  int
	share   float64
	rate    float64
	pace    int
	before  time.Duration
	watch   time.Duration
	profile bool
}

// parts of a run, in their order. Those that take their time are run when they
// are asked for.
var parts = []struct {
	name  string
	run   func(context.Context, options) error
	asked bool
}{
	{"changes", timedChanges, false},
	{"leader", leaderKills, false},
	{"writes", writes, false},
	{"fencing", fencings, false},
	{"limits", limits, false},
	{"consistency", consistency, false},
	{"growth", growth, true},
	{"storm", storm, true},
}

func main() {
	var o options
	flag.StringVar(&o.binary, "muster", "build/muster", "the binary")
	flag.IntVar(&o.seeds, "seeds", 4, "runs of the consistency check; they take turns with three, four and five nodes")
	flag.Uint64Var(&o.first, "seed", 1, "the first seed")
	flag.DurationVar(&o.duration, "duration", time.Minute, "how long the faults of a seed last")
	flag.IntVar(&o.nodes, "nodes", 0, "nodes of the consistency check; 0: by turns")
	flag.IntVar(&o.kills, "kills", 20, "how many leaders are killed")
	flag.IntVar(&o.rounds, "rounds", 20, "how many times nodes are killed while samples are written")
	flag.IntVar(&o.changes, "changes", 300, "how many changes of a tenant are timed")
	flag.StringVar(&o.consistency, "reads", "", "local: judge reads of ?consistency=local, which must be found out")
	flag.StringVar(&o.only, "only", "", "parts to run, separated by commas: "+partNames())
	flag.IntVar(&o.limit, "limit", 5000, "limits: series that each tenant may have")
	flag.IntVar(&o.series, "series", 100_000, "growth: series that are written")
	flag.Float64Var(&o.share, "share", 0.7, "growth: the part of what the machine takes that is written")
	flag.Float64Var(&o.rate, "rate", 0, "growth: samples a second instead; 0: what the machine takes is found out")
	flag.IntVar(&o.pace, "pace", 0, "growth: move_series_per_second; 0: the cluster's default")
	flag.DurationVar(&o.before, "before", time.Minute, "growth: how long the cluster is watched before anything changes")
	flag.DurationVar(&o.watch, "watch", 10*time.Minute, "growth: how long the series in the heads may take to come back; less where the whole run would last more than 20 minutes")
	flag.BoolVar(&o.profile, "profile", false, "growth: keep CPU profiles of the nodes in --dir")
	flag.StringVar(&o.keep, "dir", "", "keep data folders, logs and pictures of bad histories there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "robust:", err)
		stop()
		os.Exit(1)
	}
}

func partNames() string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return strings.Join(names, ",")
}

func run(ctx context.Context, o options) error {
	if o.keep == "" {
		dir, err := os.MkdirTemp("", "muster-robust")
		if err != nil {
			return err
		}
		o.keep = dir
	}
	var failed error
	for _, p := range parts {
		if chosen := slices.Contains(strings.Split(o.only, ","), p.name); !chosen && (o.only != "" || p.asked) {
			continue
		}
		if ctx.Err() != nil {
			return errors.Join(failed, ctx.Err())
		}
		if err := p.run(ctx, o); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	if failed != nil {
		return fmt.Errorf("%w\nlogs are in %s", failed, o.keep)
	}
	return os.RemoveAll(o.keep)
}

func (o options) config(name string, nodes int, seed uint64) robust.Config {
	return robust.Config{
		Binary: o.binary, Dir: filepath.Join(o.keep, name), Nodes: nodes, Seed: seed,
		Duration: o.duration, Consistency: o.consistency, Say: say,
	}
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "  "+format+"\n", args...) }

func consistency(ctx context.Context, o options) error {
	var failed []error
	for i := range o.seeds {
		seed, nodes := o.first+uint64(i), o.nodes
		if nodes == 0 {
			nodes = 3 + i%3
		}
		say("seed %d, %d nodes:", seed, nodes)
		r, err := robust.Consistency(ctx, o.config(fmt.Sprintf("seed-%d", seed), nodes, seed))
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		fmt.Printf("consistency: seed %d, %d nodes, %v: %d faults, %d elections, %d messages held up; %d calls, %d of unknown outcome, %d not done; %s\n",
			seed, nodes, o.duration, r.Faults, r.Elections, r.Held, r.Calls, r.Unknown, r.Undone, verdict(r.Findings))
		for _, found := range r.Findings[:min(len(r.Findings), mostPrinted)] {
			say("%s", found) // at once: the next seed takes minutes
		}
		failed = append(failed, findings(fmt.Sprintf("seed %d: ", seed), r.Findings))
	}
	return errors.Join(failed...)
}

func leaderKills(ctx context.Context, o options) error {
	r, err := robust.KillLeaders(ctx, o.config("leader", 3, o.first), o.kills)
	if err != nil {
		return err
	}
	fmt.Printf("leader killed %d times: changes accepted again after %v in the median, %v at worst; %d samples acknowledged meanwhile, %d refused by living nodes; %s\n",
		len(r.Waits), r.Median().Round(time.Millisecond), r.Worst().Round(time.Millisecond), r.Acknowledged, len(r.Refused), verdict(r.Findings))
	return errors.Join(findings("refused: ", r.Refused), findings("", r.Findings))
}

// fenced are the clusters of the fencing stories and what happens to each.
var fenced = []struct {
	nodes, factor int
	stories       []fencing.Story
}{
	{5, 3, []fencing.Story{fencing.Frozen, fencing.CutOff, fencing.Muted, fencing.Deafened, fencing.TwoCoordinators, fencing.Minority, fencing.Restart, fencing.Removed}},
	{3, 3, []fencing.Story{fencing.Frozen, fencing.CutOff, fencing.Muted, fencing.Deafened, fencing.TwoCoordinators}},
	{3, 2, []fencing.Story{fencing.Silent}},
	{5, 2, []fencing.Story{fencing.Silent}},
}

// faultTime is how much longer than it must be a fault of the fencing stories
// lasts: a node waits ten seconds for a silent one before it answers a query.
const faultTime = 12 * time.Second

func fencings(ctx context.Context, o options) error {
	var failed []error
	for i := range max(1, o.seeds/4) { // one takes as long as four of the consistency check
		seed := o.first + uint64(i)
		for _, f := range fenced {
			found, err := fencingOn(ctx, o, seed, f.nodes, f.factor, f.stories)
			failed = append(failed, found...)
			if err != nil {
				return errors.Join(append(failed, err)...)
			}
		}
	}
	return errors.Join(failed...)
}

// fencingOn lets stories happen to one cluster, one after the other.
func fencingOn(ctx context.Context, o options, seed uint64, nodes, factor int, stories []fencing.Story) (failed []error, err error) {
	where := fmt.Sprintf("seed %d, %d nodes, %d copies", seed, nodes, factor)
	scene, err := fencing.Open(ctx, fencing.Config{
		Binary: o.binary, Dir: filepath.Join(o.keep, fmt.Sprintf("fencing-%d-%d-%d", seed, nodes, factor)),
		Nodes: nodes, Factor: factor, Seed: seed, Hold: faultTime,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	defer scene.Close()
	for _, story := range stories {
		r, err := scene.Play(ctx, story)
		if err != nil {
			return failed, fmt.Errorf("%s: %s: %w", where, story.Name, err)
		}
		fmt.Printf("fencing: %s: %s: %v; %s\n", where, r.Story, r, verdict(r.Findings))
		for _, found := range r.Findings[:min(len(r.Findings), mostPrinted)] {
			say("%s", found) // at once: the next story takes its time
		}
		failed = append(failed, findings(where+": "+r.Story+": ", r.Findings))
	}
	return failed, nil
}

func timedChanges(ctx context.Context, o options) error {
	r, err := robust.TimeChanges(ctx, o.config("changes", 3, o.first), o.changes)
	if err != nil {
		return err
	}
	fmt.Printf("a tenant's change is answered after %v in the median, %v in the 99th percentile (%d changes, three nodes, through each in turn)\n",
		r.Median().Round(100*time.Microsecond), r.Percentile(99).Round(100*time.Microsecond), len(r.Took))
	return nil
}

func writes(ctx context.Context, o options) error {
	r, err := robust.Writes(ctx, o.config("writes", 5, o.first), o.rounds)
	if err != nil {
		return err
	}
	fmt.Printf("writes: %d kills on five nodes and %d replaced, %d samples acknowledged, %d requests refused and repeated; %s\n",
		r.Kills, r.Replaced, r.Acknowledged, r.Refused, verdict(r.Findings))
	return findings("", r.Findings)
}

func verdict(found []string) string {
	if len(found) == 0 {
		return "nothing amiss"
	}
	return fmt.Sprintf("%d FINDINGS", len(found))
}

// mostPrinted findings of a kind tell enough.
const mostPrinted = 10

func findings(what string, found []string) error {
	var errs []error
	for _, f := range found[:min(len(found), mostPrinted)] {
		errs = append(errs, fmt.Errorf("%s%s", what, f))
	}
	return errors.Join(errs...)
}

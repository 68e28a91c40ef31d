// Bench measures what a cluster of muster processes needs for a million
// acknowledged samples, by the system's own accounting, on three and on five
// nodes at replication factor 3. A query afterwards counts the samples back.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
	"github.com/muster-metrics/muster/cmd/muster/load"
)

type options struct {
	binary   string
	nodes    []int
	series   int
	labels   int
	perReq   int
	inFlight int
	rounds   int
	factor   int
	keep     bool
	urls     string
	pids     string
}

func main() {
	var o options
	nodes := flag.String("nodes", "3,5", "sizes of the clusters")
	flag.StringVar(&o.binary, "muster", "build/muster", "the binary")
	flag.IntVar(&o.series, "series", 100_000, "active series")
	flag.IntVar(&o.labels, "labels", 10, "labels of each")
	flag.IntVar(&o.perReq, "samples-per-request", 2000, "samples in a request")
	flag.IntVar(&o.inFlight, "in-flight", 8, "requests under way")
	flag.IntVar(&o.rounds, "rounds", 60, "measured rounds; each sends one sample of every series")
	flag.IntVar(&o.factor, "replication-factor", 3, "copies of each sample")
	flag.BoolVar(&o.keep, "keep", false, "keep the data folders")
	flag.StringVar(&o.urls, "urls", "", "measure other receivers: the addresses that take remote write")
	flag.StringVar(&o.pids, "pids", "", "and their processes")
	flag.Parse()
	for n := range strings.SplitSeq(*nodes, ",") {
		i, err := strconv.Atoi(n)
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: --nodes:", err)
			os.Exit(2)
		}
		o.nodes = append(o.nodes, i)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	fmt.Printf("machine: %s; %s; servers and generator share it\n", machine(), runtime.Version())
	fmt.Printf("load: %d series, %d labels, %d samples a request, %d requests in flight, %d rounds, replication factor %d\n\n",
		o.series, o.labels, o.perReq, o.inFlight, o.rounds, o.factor)
	if o.urls != "" {
		return measureOthers(ctx, o)
	}
	var results []result
	for _, n := range o.nodes {
		fmt.Fprintf(os.Stderr, "%d nodes: ", n)
		r, err := measure(ctx, o, n)
		if err != nil {
			return fmt.Errorf("%d nodes: %w", n, err)
		}
		results = append(results, r)
	}
	if err := printResults(results); err != nil {
		return err
	}
	for _, r := range results {
		if r.counted != r.acked+r.warm {
			return fmt.Errorf("%d nodes: acknowledged %d samples, counted %d back", r.nodes, r.acked+r.warm, r.counted)
		}
	}
	return nil
}

func printResults(results []result) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "nodes\tacked samples\tCPU-s per M samples\tof it system\tacked/s\tp50\tp99\trefused\tcounted back\tRSS all\tfirst round CPU-s/M")
	for _, r := range results {
		fmt.Fprintf(w, "%d\t%d\t%.2f\t%.2f\t%.0f\t%v\t%v\t%d\t%d\t%d MiB\t%.1f\n", r.nodes, r.acked, r.cpu, r.system, r.rate,
			r.p50.Round(100*time.Microsecond), r.p99.Round(100*time.Microsecond), r.refused, r.counted, r.rss>>20, r.firstRound)
	}
	return w.Flush()
}

type result struct {
	nodes       int
	acked, warm int64
	refused     int64
	counted     int64
	cpu, system float64
	firstRound  float64
	rate        float64
	p50, p99    time.Duration
	rss         int64
}

const tenant = "bench"

func measure(ctx context.Context, o options, nodes int) (result, error) {
	dir, err := os.MkdirTemp("", "muster-bench")
	if err != nil {
		return result{}, err
	}
	if o.keep {
		fmt.Fprintln(os.Stderr, "data in", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	f, err := fleet.Start(ctx, fleet.Config{Binary: o.binary, Dir: dir, Nodes: nodes, Factor: o.factor, Network: "127.7.0"})
	if err != nil {
		return result{}, err
	}
	defer f.Stop()
	var urls []string
	for _, n := range f.Nodes {
		urls = append(urls, "http://"+n.Write+"/api/v1/receive")
	}
	l, err := newLoad(urls, o)
	if err != nil {
		return result{}, err
	}
	defer l.Close()
	start := time.Now().UnixMilli() - int64(o.rounds+4)*step
	r := measureLoad(ctx, l, o, start, func() fleet.Usage { return usage(f) })
	r.nodes = nodes
	r.counted, err = countBack(ctx, f, start, o.rounds+2)
	fmt.Fprintf(os.Stderr, "%d acknowledged, %d counted back\n", r.acked+r.warm, r.counted)
	return r, err
}

// measureOthers puts the same load on other receivers, to compare with.
func measureOthers(ctx context.Context, o options) error {
	l, err := newLoad(strings.Split(o.urls, ","), o)
	if err != nil {
		return err
	}
	start := time.Now().UnixMilli() - int64(o.rounds+4)*step
	r := measureLoad(ctx, l, o, start, func() fleet.Usage {
		var sum fleet.Usage
		for pid := range strings.SplitSeq(o.pids, ",") {
			if n, err := strconv.Atoi(pid); err == nil {
				add(&sum, n)
			}
		}
		return sum
	})
	r.nodes = len(strings.Split(o.urls, ","))
	return printResults([]result{r})
}

// step is the time between two samples of a series.
const step = 15_000

// measure sends the first round, which creates the series, a second that meets
// them, and then the rounds that count.
func measureLoad(ctx context.Context, l *load.Load, o options, start int64, usage func() fleet.Usage) result {
	at := func(round int) int64 { return start + int64(round)*step }
	before := usage()
	l.Closed(ctx, l.Rounds(0, 1, at))
	created := usage()
	l.Closed(ctx, l.Rounds(1, 2, at))
	warm, early := l.Taken()
	settled, began := usage(), time.Now()
	l.Closed(ctx, l.Rounds(2, 2+o.rounds, at))
	wall := time.Since(began)
	// Replicas that were not waited for finish theirs; that is counted, too.
	time.Sleep(time.Second)
	after := usage()
	writes, refusals := l.Taken()
	refusals = append(early, refusals...)
	r := result{warm: load.Samples(warm), acked: load.Samples(writes), refused: int64(len(refusals)), rss: after.RSS}
	millions := float64(r.acked) / 1e6
	r.cpu = (after.CPU() - settled.CPU()).Seconds() / millions
	r.system = (after.System - settled.System).Seconds() / millions
	r.firstRound = (created.CPU() - before.CPU()).Seconds() / (float64(o.series) / 1e6)
	r.rate = float64(r.acked) / wall.Seconds()
	r.p50, r.p99 = load.Quantile(writes, 0.5), load.Quantile(writes, 0.99)
	if len(refusals) > 0 {
		fmt.Fprintf(os.Stderr, "first refusal: %d %s; ", refusals[0].Status, refusals[0].Says)
	}
	return r
}

func newLoad(urls []string, o options) (*load.Load, error) {
	var targets []load.Target
	for _, u := range urls {
		targets = append(targets, load.Target{Name: u, URL: u})
	}
	return load.New(load.Config{Tenants: []string{tenant}, Series: o.series, Labels: o.labels, PerRequest: o.perReq, InFlight: o.inFlight}, targets)
}

func usage(f *fleet.Fleet) fleet.Usage {
	var sum fleet.Usage
	for _, n := range f.Nodes {
		add(&sum, n.PID())
	}
	return sum
}

// add leaves out a process that is gone.
func add(sum *fleet.Usage, pid int) {
	u, err := fleet.UsageOf(pid)
	if err != nil {
		return
	}
	sum.User += u.User
	sum.System += u.System
	sum.RSS += u.RSS
}

// countBack asks the last node for the number of samples of each metric name
// in the whole span: a name at a time keeps the query's memory small.
func countBack(ctx context.Context, f *fleet.Fleet, start int64, rounds int) (int64, error) {
	end := start + int64(rounds)*step
	span := int64(rounds+2) * step / 1000
	var sum int64
	node := f.Nodes[len(f.Nodes)-1]
	for name := range load.Names {
		expr := fmt.Sprintf(`sum(count_over_time(%s[%ds]))`, load.Name(name), span)
		n, err := node.Sum(ctx, tenant, expr, time.UnixMilli(end))
		if err != nil {
			return sum, fmt.Errorf("count back: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// machine names the processor and the number of cores.
func machine() string {
	name := "unknown processor"
	b, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if rest, ok := strings.CutPrefix(line, "model name"); ok {
				name = strings.TrimSpace(strings.TrimLeft(rest, "\t :"))
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores", name, runtime.NumCPU())
}

package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/ring/simulate"
)

// ringSimulate needs no server: it computes.
func ringSimulate(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "simulate",
		Usage: "what a cluster of some size would do: load, moves and losses, next to other ways of placing",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "nodes", Value: 30, Usage: "nodes before the change"},
			&cli.IntFlag{Name: "zones", Value: 3, Usage: "zones, which the nodes stand in by turns"},
			&cli.StringFlag{Name: "weights", Usage: "weights of the nodes, by turns: 100,100,200", DefaultText: "all alike"},
			&cli.IntFlag{Name: "add", Value: 1, Usage: "nodes that join, one after the other"},
			&cli.IntFlag{Name: "remove", Usage: "nodes that are removed after that, the first ones first"},
			&cli.IntFlag{Name: "replication-factor", Value: 3, Usage: "copies of each sample"},
			&cli.StringFlag{Name: "write-quorum", Value: "majority", Usage: "one, majority or all"},
			&cli.IntFlag{Name: "slots", Value: 4096, Usage: "slots of the table, a power of two"},
			&cli.StringFlag{Name: "series", Value: "10M", Usage: "active series of all tenants: 500k, 10M, 1G"},
			&cli.IntFlag{Name: "tenants", Value: 100, Usage: "tenants"},
			&cli.Float64Flag{Name: "zipf", Value: 1, Usage: "how unequal they are: the k-th has 1/k^zipf of the first one's series"},
			&cli.IntFlag{Name: "request-series", Value: 500, Usage: "series of one write request"},
			&cli.IntFlag{Name: "fail", Value: 3, Usage: "nodes that are down at once, at most"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "of chance: the same seed gives the same numbers"},
			&cli.StringFlag{Name: "svg", Usage: "draw it into this file as well"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError(fmt.Errorf("%s wants no argument", c.Command.HelpName))
			}
			in, err := simulation(c)
			if err != nil {
				return usageError(err)
			}
			results, err := simulate.Run(in)
			if err != nil {
				return usageError(err)
			}
			if f := c.String("svg"); f != "" {
				if err := os.WriteFile(f, []byte(drawing(in, results)), 0o600); err != nil {
					return fmt.Errorf("draw: %w", err)
				}
				std.notef("drawn into %s\n", f)
			}
			if wantsJSON(c) {
				return std.json(simulationJSON(in, results))
			}
			std.simulation(in, results)
			return nil
		},
	}
}

// lossTries is how many combinations of lost nodes are looked at, at most.
const lossTries = 20_000

// simulation is the input that the flags describe.
func simulation(c *cli.Context) (simulate.Input, error) {
	mode, err := ring.ParseMode(c.String("write-quorum"))
	if err != nil {
		return simulate.Input{}, err
	}
	series, err := parseCount(c.String("series"))
	if err != nil {
		return simulate.Input{}, fmt.Errorf("--series: %w", err)
	}
	weights, err := parseWeights(c.String("weights"))
	if err != nil {
		return simulate.Input{}, fmt.Errorf("--weights: %w", err)
	}
	nodes, zones := c.Int("nodes"), c.Int("zones")
	if !c.IsSet("zones") {
		zones = max(1, min(zones, nodes))
	}
	switch {
	case nodes < 1 || nodes > 100_000:
		return simulate.Input{}, fmt.Errorf("--nodes %d: want 1 to 2000", nodes)
	case zones < 1 || zones > nodes:
		return simulate.Input{}, fmt.Errorf("--zones %d: want 1 to as many as nodes, %d", zones, nodes)
	}
	in := simulate.Input{
		Nodes: make([]simulate.Node, nodes), Add: c.Int("add"), Remove: c.Int("remove"),
		RF: c.Int("replication-factor"), Slots: c.Int("slots"), Series: series, Tenants: c.Int("tenants"), Zipf: c.Float64("zipf"),
		Request: float64(c.Int("request-series")), Fail: c.Int("fail"), Tries: lossTries, Seed: c.Uint64("seed"),
	}
	in.Quorum = mode.Quorum(in.RF)
	for i := range in.Nodes {
		in.Nodes[i].Zone = i % zones
		if len(weights) > 0 {
			in.Nodes[i].Weight = weights[i%len(weights)]
		}
	}
	return in, nil
}

// parseCount is a number with k, M or G behind it.
func parseCount(s string) (float64, error) {
	unit := 1.0
	for suffix, u := range map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = rest, u
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n < 0 || math.IsInf(n*unit, 0) || math.IsNaN(n) {
		return 0, fmt.Errorf("%q: want a number such as 500k, 10M or 1G", s)
	}
	return n * unit, nil
}

func parseWeights(s string) ([]uint32, error) {
	if s == "" {
		return nil, nil
	}
	var out []uint32
	for w := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(w), 10, 32)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%q: want numbers from 1, with commas between", s)
		}
		out = append(out, uint32(n))
	}
	return out, nil
}

// simulation prints tables and bars.
func (s stdio) simulation(in simulate.Input, results []simulate.Result) {
	s.printf("%d nodes, replication factor %d, write quorum %d, %d slots, %s series of %d tenants (Zipf %g)\n",
		len(in.Nodes), in.RF, in.Quorum, in.Slots, count(in.Series), in.Tenants, in.Zipf)
	s.printf("\nLoad of a node in its fair parts: 1.00 is what its weight gives it. The two rings know no weights.\n")
	rows := make([][]string, 0, len(results))
	for _, r := range results {
		rows = append(rows, []string{
			r.Name, fmt.Sprint(r.Sets),
			fmt.Sprintf("%.3f", r.EvenBefore.Least), fmt.Sprintf("%.3f", r.EvenBefore.Most),
			fmt.Sprintf("%.3f", r.EvenThen.Least), fmt.Sprintf("%.3f", r.EvenThen.Most),
		})
	}
	s.table([]string{"PLACED BY", "REPLICA SETS", "LEAST", "MOST", "LEAST AFTER", "MOST AFTER"}, rows)
	s.simulatedLoads(in, results)
	s.simulatedSteps(in, results)
	s.simulatedLosses(in, results)
	s.simulatedBars(results[0])
}

func (s stdio) simulatedSteps(in simulate.Input, results []simulate.Result) {
	if len(results[0].Steps) == 0 {
		return
	}
	s.printf("\nMoved by each step, in percent of all replicas:\n")
	heading := []string{"STEP"}
	for _, r := range results {
		heading = append(heading, strings.ToUpper(r.Name))
	}
	var rows [][]string
	for k := range results[0].Steps {
		row := []string{stepName(in, k)}
		for _, r := range results {
			row = append(row, percent(r.Steps[k]/float64(in.RF)))
		}
		rows = append(rows, row)
	}
	s.table(heading, rows)
}

func stepName(in simulate.Input, k int) string {
	if k < in.Add {
		return fmt.Sprintf("+ n%d", len(in.Nodes)+k+1)
	}
	return fmt.Sprintf("- n%d", k-in.Add+1)
}

func (s stdio) simulatedLosses(in simulate.Input, results []simulate.Result) {
	if in.Fail == 0 {
		return
	}
	s.printf("\nNodes down at once, whichever: how likely it is that any series lacks its write quorum, how many series\n")
	s.printf("then do, how many requests of %.0f series fail, and how many tenants are touched (before the change):\n", in.Request)
	var rows [][]string
	for k := range results[0].Losses {
		for _, r := range results {
			l := r.Losses[k]
			rows = append(rows, []string{
				fmt.Sprint(l.Nodes), r.Name, percent(l.Any), percent(l.Part), percent(l.Requests), bar(int(math.Round(100*l.Requests)), 20), percent(l.Tenants), tried(l),
			})
		}
	}
	s.table([]string{"DOWN", "PLACED BY", "ANY", "SERIES", "REQUESTS", "", "TENANTS", "COMBINATIONS"}, rows)
	s.fewAndMany(in, results)
}

// fewAndMany says in a sentence what the number of replica sets is good for.
func (s stdio) fewAndMany(in simulate.Input, results []simulate.Result) {
	for k, many := range results[0].Losses {
		if many.Any == 0 {
			continue
		}
		s.printf("\n%d of %d nodes down: of requests of %.0f series %s fail with %d replica sets, %s with %d; of all series %s and %s lack\n",
			many.Nodes, len(in.Nodes), in.Request, percent(many.Requests), results[0].Sets, percent(results[1].Losses[k].Requests), results[1].Sets,
			percent(many.Part), percent(results[1].Losses[k].Part))
		s.printf("their quorum. Few sets bundle the same loss, and a change moves most of them.\n")
		return
	}
}

func tried(l simulate.Loss) string {
	if l.All {
		return fmt.Sprintf("all %d", l.Tries)
	}
	return fmt.Sprintf("%d at random", l.Tries)
}

// barNodes is how many nodes get a bar each in a terminal.
const barNodes = 40

func (s stdio) simulatedBars(r simulate.Result) {
	if len(r.Before) > barNodes {
		return
	}
	most := 0.0
	for i := range r.Before {
		most = max(most, r.Before[i], r.After[i])
	}
	s.printf("\nSeries of each node by the %s, before and after:\n", r.Name)
	rows := make([][]string, 0, len(r.Before))
	for i := range r.Before {
		rows = append(rows, []string{
			fmt.Sprintf("n%d", i+1), count(r.Before[i]), strings.Repeat("█", int(math.Round(24*r.Before[i]/most))),
			count(r.After[i]), strings.Repeat("█", int(math.Round(24*r.After[i]/most))),
		})
	}
	s.table([]string{"NODE", "BEFORE", "", "AFTER", ""}, rows)
}

// percent has as many digits as say something.
func percent(part float64) string {
	switch p := 100 * part; {
	case p == 0:
		return "0"
	case p < 0.01:
		return "<0.01%"
	case p < 10:
		return fmt.Sprintf("%.2f%%", p)
	default:
		return fmt.Sprintf("%.1f%%", p)
	}
}

// count is a large number for people.
func count(n float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if n >= u.size*0.99995 { // what four digits round up to it
			return fmt.Sprintf("%.4g%s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f", n)
}

// simulationJSON is the same for programs.
func simulationJSON(in simulate.Input, results []simulate.Result) any {
	type loss struct {
		Nodes        int     `json:"nodes"`
		Any          float64 `json:"any"`
		Series       float64 `json:"series"`
		Requests     float64 `json:"requests"`
		Tenants      float64 `json:"tenants"`
		Combinations int     `json:"combinations"`
		All          bool    `json:"all"`
	}
	type placement struct {
		PlacedBy     string    `json:"placed_by"`
		ReplicaSets  int       `json:"replica_sets"`
		SeriesBefore []float64 `json:"series_before"`
		SeriesAfter  []float64 `json:"series_after"`
		Moved        []float64 `json:"moved"`
		Losses       []loss    `json:"losses"`
	}
	out := struct {
		Nodes             int         `json:"nodes"`
		ReplicationFactor int         `json:"replication_factor"`
		WriteQuorum       int         `json:"write_quorum"`
		Slots             int         `json:"slots"`
		Placements        []placement `json:"placements"`
	}{len(in.Nodes), in.RF, in.Quorum, in.Slots, nil}
	for _, r := range results {
		p := placement{PlacedBy: r.Name, ReplicaSets: r.Sets, SeriesBefore: r.Before, SeriesAfter: r.After, Moved: []float64{}, Losses: []loss{}}
		for _, m := range r.Steps {
			p.Moved = append(p.Moved, m/float64(in.RF))
		}
		for _, l := range r.Losses {
			p.Losses = append(p.Losses, loss{l.Nodes, l.Any, l.Part, l.Requests, l.Tenants, l.Tries, l.All})
		}
		out.Placements = append(out.Placements, p)
	}
	return out
}

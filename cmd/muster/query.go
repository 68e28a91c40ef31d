package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/muster-metrics/muster/cluster"
)

func queryCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "query",
		Usage:     "ask for samples in PromQL",
		ArgsUsage: "'EXPR'",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "tenant", Aliases: []string{"t"}, Usage: "tenant whose series are asked"},
			&cli.BoolFlag{Name: "all-tenants", Usage: "ask all tenants; the tenant label is added"},
			&cli.BoolFlag{Name: "partial", Usage: "take an incomplete answer, with a warning"},
			&cli.StringFlag{Name: "time", Usage: "at this time (RFC 3339 or Unix seconds; default now)"},
			&cli.StringFlag{Name: "start", Usage: "first time of a range"},
			&cli.StringFlag{Name: "end", Usage: "last time of a range (default now)"},
			&cli.StringFlag{Name: "step", Usage: "step of a range", Value: "1m"},
		},
		Action: func(c *cli.Context) error {
			expr, err := oneArg(c, "an expression, in quotes")
			if err != nil {
				return err
			}
			if (c.String("tenant") == "") == !c.Bool("all-tenants") {
				return usageError(errors.New("muster query wants -t TENANT or --all-tenants"))
			}
			if err := oneTime(c); err != nil {
				return usageError(err)
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			path, q := queryParams(c, expr)
			raw, head, err := cl.raw(c.Context, request{method: http.MethodGet, path: path, query: q})
			if f := (*failure)(nil); errors.As(err, &f) && strings.HasPrefix(f.Text, "incomplete answer") {
				f.Next = "bring the missing nodes back; --partial shows what there is meanwhile"
				if strings.Contains(f.Text, cluster.ErrNoCluster.Error()) {
					f.Text, f.Next = cluster.ErrNoCluster.Error(), "run `muster cluster init` here, or `muster cluster join`"
				}
			}
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			if head.Get("Muster-Complete") != "true" {
				std.notef("the answer is incomplete\n")
			}
			return std.samples(raw)
		},
	}
}

// oneTime refuses flags that would be left out in silence.
func oneTime(c *cli.Context) error {
	switch {
	case c.IsSet("start") && c.IsSet("time"):
		return errors.New("--time and --start: want one of them")
	case !c.IsSet("start") && (c.IsSet("end") || c.IsSet("step")):
		return errors.New("--end and --step want --start")
	}
	return nil
}

func queryParams(c *cli.Context, expr string) (string, url.Values) {
	q := url.Values{"query": {expr}}
	path := "/api/v1/query"
	if c.IsSet("start") {
		path = "/api/v1/query_range"
		q.Set("start", c.String("start"))
		q.Set("step", c.String("step"))
		end := c.String("end")
		if end == "" {
			end = time.Now().UTC().Format(time.RFC3339)
		}
		q.Set("end", end)
	} else if c.IsSet("time") {
		q.Set("time", c.String("time"))
	}
	if t := c.String("tenant"); t != "" {
		q.Set("tenant", t)
	}
	if c.Bool("partial") {
		q.Set("partial_response", "true")
	}
	return path, q
}

// samples prints Prometheus' answer as a person reads it.
func (s stdio) samples(raw []byte) error {
	var a struct {
		Warnings []string `json:"warnings"`
		Data     struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	for _, w := range a.Warnings {
		s.notef("warning: %s\n", w)
	}
	switch a.Data.ResultType {
	case "vector":
		return s.vector(a.Data.Result)
	case "matrix":
		return s.matrix(a.Data.Result)
	default:
		var pair [2]any
		if err := json.Unmarshal(a.Data.Result, &pair); err != nil {
			return err
		}
		s.printf("%v\n", pair[1])
		return nil
	}
}

func (s stdio) vector(raw json.RawMessage) error {
	var v []struct {
		Metric    map[string]string `json:"metric"`
		Value     *answeredPoint    `json:"value"`
		Histogram *answeredPoint    `json:"histogram"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	for _, e := range v {
		for _, p := range []*answeredPoint{e.Value, e.Histogram} {
			if p != nil {
				s.printf("%s  %s\n", series(e.Metric), p.text)
			}
		}
	}
	if len(v) == 0 {
		s.notef("no series\n")
	}
	return nil
}

func (s stdio) matrix(raw json.RawMessage) error {
	var m []struct {
		Metric     map[string]string `json:"metric"`
		Values     []answeredPoint   `json:"values"`
		Histograms []answeredPoint   `json:"histograms"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	for _, e := range m {
		s.printf("%s\n", series(e.Metric))
		points := append(e.Values, e.Histograms...)
		slices.SortStableFunc(points, func(a, b answeredPoint) int { return cmp.Compare(a.at, b.at) })
		for _, p := range points {
			s.printf("  %s  %s\n", time.UnixMilli(int64(p.at*1000)).UTC().Format(time.RFC3339), p.text)
		}
	}
	return nil
}

// series writes a label set as PromQL does.
func series(metric map[string]string) string {
	var b strings.Builder
	b.WriteString(metric["__name__"])
	b.WriteByte('{')
	first := true
	for _, k := range sortedKeys(metric) {
		if k == "__name__" {
			continue
		}
		if !first {
			b.WriteString(", ")
		}
		first = false
		fmt.Fprintf(&b, "%s=%q", k, metric[k])
	}
	b.WriteByte('}')
	return b.String()
}

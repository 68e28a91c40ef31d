package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

const (
	refresh  = 2 * time.Second
	patience = 10 * time.Second // with the nodes' answers, for one look
)

// acceptedMetric counts the samples that a coordinator has acknowledged.
const acceptedMetric = "muster_ingest_samples_acknowledged_total"

// screen draws the cluster again and again.
type screen struct {
	demo  *demo
	began time.Time
	last  float64
	at    time.Time
}

func (s *screen) draw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var b bytes.Buffer
	if s.demo.cfg.Live {
		b.WriteString("\x1b[H\x1b[2J") // home, and clear
		b.WriteString(s.demo.introduction())
	}
	fmt.Fprintf(&b, "muster demo, %s", time.Since(s.began).Round(time.Second))
	if d := s.demo.cfg.Duration; d > 0 {
		fmt.Fprintf(&b, " of %s", d)
	}
	fmt.Fprintf(&b, "    accepted samples per second: %s\n\n", s.rate(ctx))
	b.Write(s.members(ctx))
	fmt.Fprintf(&b, "\ncount(up) by (tenant_id)\n")
	for _, n := range s.demo.fleet.Nodes {
		fmt.Fprintf(&b, "  on %s: %s\n", n.Name, s.counts(ctx, n))
	}
	fmt.Fprintln(&b)
	_, _ = s.demo.cfg.Out.Write(b.Bytes())
}

// members is the member table as a living node prints it.
func (s *screen) members(ctx context.Context) []byte {
	for _, n := range s.demo.fleet.Nodes {
		if !n.Running() {
			continue
		}
		if out, err := n.CLI(ctx, "cluster", "status"); err == nil {
			return out
		}
	}
	return []byte("no node answers\n")
}

func (s *screen) counts(ctx context.Context, n *fleet.Node) string {
	if !n.Running() {
		return "stopped"
	}
	counts, err := countUp(ctx, n)
	switch {
	case ctx.Err() != nil:
		return "no answer in time"
	case err != nil:
		return err.Error()
	}
	var b strings.Builder
	for _, t := range tenants {
		fmt.Fprintf(&b, "%s %d   ", t, counts[t])
	}
	return b.String()
}

// rate is the accepted samples per second since the last look.
func (s *screen) rate(ctx context.Context) string {
	sum := 0.0
	for _, n := range s.demo.fleet.Nodes {
		v, err := metric(ctx, n, acceptedMetric)
		if err == nil {
			sum += v
		}
	}
	now, last, at := time.Now(), s.last, s.at
	s.last, s.at = sum, now
	if at.IsZero() || sum < last {
		return "-"
	}
	return strconv.FormatFloat((sum-last)/now.Sub(at).Seconds(), 'f', 0, 64)
}

// metric sums the samples of a metric on the node's own metrics page.
func metric(ctx context.Context, n *fleet.Node, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTP+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return sumMetric(resp.Body, name)
}

func sumMetric(r io.Reader, name string) (float64, error) {
	sum := 0.0
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, lines.Err()
}

// countUp asks the node for count(up) by (tenant_id).
func countUp(ctx context.Context, n *fleet.Node) (map[string]int, error) {
	out, err := n.CLI(ctx, "query", "--all-tenants", "count(up) by (tenant_id)", "-o", "json")
	if err != nil {
		return nil, err
	}
	var a struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  [2]any            `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(out, &a); err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for _, r := range a.Data.Result {
		n, err := strconv.Atoi(fmt.Sprint(r.Value[1]))
		if err != nil {
			return nil, err
		}
		counts[r.Metric["tenant_id"]] = n
	}
	return counts, nil
}

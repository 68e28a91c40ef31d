package robust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// Config of a run.
type Config struct {
	Binary string // path of muster
	Dir    string // data folders, logs and pictures of bad histories go below it
	Nodes  int
	Seed   uint64
	// Duration of the faults.
	Duration time.Duration
	// Consistency of the reads: "", or "local", which is not linearizable and
	// must be found out.
	Consistency string
	// Say hears what happens; nil: nobody does.
	Say func(format string, args ...any)
}

// Report is what came of a run.
type Report struct {
	Calls, Unknown, Undone int
	// Faults that were made, Held messages at cuts, Elections that were won: a
	// run without them has shown nothing.
	Faults, Held, Elections int
	// Findings are what must not be, a line each.
	Findings []string
}

// start forms a fleet whose member doors can be cut.
func (c *Config) start(ctx context.Context) (*fleet.Fleet, error) {
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	return fleet.Start(ctx, fleet.Config{
		Binary: c.Binary, Dir: c.Dir, Nodes: c.Nodes, Factor: 3, Wired: true,
		Network: someNetwork(),
	})
}

// someNetwork is one of this machine's own, so that runs side by side do not meet.
func someNetwork() string { return fmt.Sprintf("127.%d.%d", 20+rand.IntN(200), rand.IntN(250)) }

// Consistency lets clients change and read tenants while faults happen, and
// judges what they saw and what is left. Its error means that it could not be
// judged.
func Consistency(ctx context.Context, c Config) (Report, error) {
	f, err := c.start(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("start the fleet: %w", err)
	}
	defer f.Stop()
	h := NewHistory()
	load := &traffic{history: h, consistency: c.Consistency}
	load.reach(f.Nodes)
	bad := &faults{
		fleet: f, rng: rand.New(rand.NewPCG(c.Seed, 0)), nodes: c.Nodes,
		reach: func(nodes []*fleet.Node) { load.reach(slices.Clone(nodes)) },
		say:   func(format string, args ...any) { c.Say("%6.1fs "+format, prepend(h.Now().Seconds(), args)...) },
	}
	suffering, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { load.run(suffering, c.Seed+1) })
	bad.run(suffering)
	wg.Wait()
	if err := bad.end(ctx); err != nil {
		return Report{}, fmt.Errorf("heal: %w", err)
	}
	if err := f.Settle(ctx); err != nil {
		return Report{}, err
	}
	if err := readAll(ctx, f, h); err != nil {
		return Report{}, err
	}
	r, err := judge(ctx, c, f, h)
	r.Faults, r.Held = bad.done, f.Wires.Held()
	return r, err
}

func prepend(first any, rest []any) []any { return append([]any{first}, rest...) }

// readAll reads every tenant on every node: what was acknowledged is there.
func readAll(ctx context.Context, f *fleet.Fleet, h *History) error {
	for _, id := range h.Tenants() {
		for _, n := range f.Nodes {
			op := newClient(n).read(ctx, h, id, "")
			if op.Outcome != OK {
				return fmt.Errorf("%v: the cluster is healthy again and does not answer", op)
			}
			h.Add(op)
		}
	}
	return nil
}

// judge stops the nodes and looks at everything.
func judge(ctx context.Context, c Config, f *fleet.Fleet, h *History) (Report, error) {
	if err := equalRevisions(ctx, f); err != nil {
		return Report{}, err
	}
	checks := verified(ctx, f)
	for _, n := range f.Nodes {
		n.Kill()
	}
	if err := h.Save(filepath.Join(c.Dir, "history.txt")); err != nil {
		return Report{}, fmt.Errorf("keep the history: %w", err)
	}
	ops := h.Ops()
	r := Report{Calls: len(ops), Undone: h.undone, Findings: append(h.odd, checks...)}
	for _, op := range ops {
		if op.Outcome == Unknown {
			r.Unknown++
		}
	}
	r.Findings = append(r.Findings, linearizable(ops, time.Minute, c.Dir)...)
	r.Findings = append(r.Findings, revisionsHold(ops)...)
	left, err := remainsAgree(f.Nodes)
	if err != nil { // what cannot be read back is found as well
		left = append(left, err.Error())
	}
	logs, elections, err := logsAgree(c.Dir)
	if err != nil {
		return r, err
	}
	r.Elections = elections
	r.Findings = append(r.Findings, append(left, logs...)...)
	return r, nil
}

// machines are the checks that judge this machine, not what the nodes agree on.
var machines = []string{"contact", "readiness", "clocks", "disks", "raft"}

// verified has every node look at everything, `cluster verify`: the states' hashes
// at one revision, Raft's servers and the members, and what else there is.
func verified(ctx context.Context, f *fleet.Fleet) (findings []string) {
	for _, n := range f.Nodes {
		a := newClient(n).do(ctx, http.MethodGet, "/cluster/verify", nil, nil)
		var v struct {
			Healthy bool
			Checks  []struct {
				Check, Detail string
				OK            bool
			}
		}
		if err := json.Unmarshal(a.body, &v); a.status != http.StatusOK || err != nil {
			findings = append(findings, fmt.Sprintf("verify on %s: %d %s", n.Name, a.status, a.body))
			continue
		}
		for _, c := range v.Checks {
			if !c.OK && !slices.Contains(machines, c.Check) {
				findings = append(findings, fmt.Sprintf("verify on %s: %s: %s", n.Name, c.Check, c.Detail))
			}
		}
	}
	return findings
}

// equalRevisions waits until all nodes have applied the same revision and call
// nothing amiss: their states' hashes are compared then, too.
func equalRevisions(ctx context.Context, f *fleet.Fleet) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		st, err := newClient(f.Nodes[0]).status(ctx)
		if err == nil {
			for _, n := range st.Nodes {
				if n.Applied != st.Revision {
					err = errors.Join(err, fmt.Errorf("%s is at revision %d of %d", n.Name, n.Applied, st.Revision))
				}
			}
			for _, p := range st.Problems {
				err = errors.Join(err, errors.New(p))
			}
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the nodes do not agree: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

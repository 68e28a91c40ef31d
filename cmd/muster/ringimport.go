package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// ringImport makes rings of a Thanos hashrings.json, all of them in one step.
func ringImport(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "import",
		Usage: "make rings of a Thanos hashrings.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the hashrings.json"},
			&cli.StringSliceFlag{Name: "node", Usage: "ENDPOINT=NODE: the member that an endpoint of the file becomes; may be repeated", DefaultText: "by address, host or name"},
			&cli.IntFlag{Name: "replication-factor", Value: 3, Usage: "copies of each sample; the file does not say", DefaultText: "3, or what a ring has already"},
			dryRunFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 || c.String("file") == "" {
				return usageError(errors.New("muster ring import wants -f FILE and no argument"))
			}
			raw, err := os.ReadFile(c.String("file"))
			if err != nil {
				return fmt.Errorf("read the hashrings: %w", err)
			}
			rings, err := parseHashrings(raw)
			if err != nil {
				return usageError(fmt.Errorf("%s: %w", c.String("file"), err))
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
			defer cancel()
			tr, err := newTranslator(ctx, c, cl)
			if err != nil {
				return err
			}
			t, err := tr.translate(rings)
			if err != nil {
				return usageError(err)
			}
			done, err := cl.importRings(ctx, t, tr, c.Bool("dry-run"))
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(struct {
					Rings  []importedRing `json:"rings"`
					Notes  []string       `json:"notes"`
					DryRun bool           `json:"dry_run,omitempty"`
				}{done, append([]string{}, t.notes...), c.Bool("dry-run")})
			}
			std.imported(t, done, c.Bool("dry-run"))
			return nil
		},
	}
}

// newTranslator asks for the members and reads what the operator says of them.
func newTranslator(ctx context.Context, c *cli.Context, cl *client) (*translator, error) {
	tr := &translator{named: map[string]string{}, factor: c.Int("replication-factor"), sole: c.IsSet("replication-factor")}
	for _, pair := range c.StringSlice("node") {
		endpoint, node, ok := strings.Cut(pair, "=")
		if !ok || endpoint == "" || node == "" {
			return nil, usageError(fmt.Errorf("--node %q: want ENDPOINT=NODE", pair))
		}
		tr.named[endpoint] = node
	}
	var a struct {
		Members []knownNode `json:"members"`
	}
	err := cl.do(ctx, request{method: http.MethodGet, path: "/api/v1/cluster/members"}, &a)
	if err != nil {
		return nil, err
	}
	tr.nodes = slices.DeleteFunc(a.Members, func(n knownNode) bool { return n.State != "active" && n.State != "draining" })
	var now struct {
		Rings []ringObject `json:"rings"`
	}
	err = cl.do(ctx, request{method: http.MethodGet, path: "/api/v1/rings"}, &now)
	tr.rings = now.Rings
	return tr, err
}

// importedRing is what became of a ring.
type importedRing struct {
	Ring string `json:"ring"`
	// Change is created, changed or unchanged.
	Change  string `json:"change"`
	Version uint64 `json:"version,omitempty"`
	// Rebalance says that its slots move only when they are told to.
	Rebalance bool `json:"rebalance,omitempty"`
}

// importRings writes the rings, all in one step: so no tenant passes through the
// wrong one. Each is written as the version that was looked at. What the file
// does not say of a ring that is there already stays as it is.
func (cl *client) importRings(ctx context.Context, t *translation, tr *translator, dry bool) ([]importedRing, error) {
	var out []importedRing
	var change struct {
		Rings  []ringObject `json:"rings"`
		Source string       `json:"source"`
	}
	change.Source = "hashrings.json"
	for k := range t.rings {
		want := &t.rings[k]
		if len(want.Nodes) == len(tr.nodes) {
			want.Nodes = nil // all there are, and those that join
		}
		done := importedRing{Ring: want.Name, Change: "created"}
		if i := slices.IndexFunc(tr.rings, func(o ringObject) bool { return o.Name == want.Name }); i >= 0 {
			old := tr.rings[i]
			want.Version, want.Slots, want.WriteQuorum = old.Version, old.Slots, old.WriteQuorum
			done.Change, done.Rebalance = "changed", !sameWords(old.Nodes, want.Nodes)
			if !done.Rebalance && sameWords(old.Tenants, want.Tenants) && old.ReplicationFactor == want.ReplicationFactor {
				done.Change = "unchanged"
			}
		}
		out = append(out, done)
		if done.Change != "unchanged" {
			change.Rings = append(change.Rings, *want)
		}
	}
	if len(change.Rings) == 0 {
		return out, nil
	}
	return out, cl.do(ctx, request{method: http.MethodPost, path: "/api/v1/rings", body: change, dryRun: dry}, nil)
}

func sameWords(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func (s stdio) imported(t *translation, done []importedRing, dry bool) {
	if dry {
		s.printf("dry run, nothing is changed; otherwise:\n")
	}
	rows := make([][]string, 0, len(done))
	for i, d := range done {
		r := t.rings[i]
		rows = append(rows, []string{d.Ring, d.Change, fmt.Sprint(r.ReplicationFactor), list(r.Tenants, "(all others)"), list(r.Nodes, "(all active)")})
	}
	s.table([]string{"RING", "CHANGE", "RF", "TENANTS", "NODES"}, rows)
	for _, n := range t.notes {
		s.notef("note: %s\n", n)
	}
	for _, d := range done {
		if d.Rebalance && !dry {
			s.notef("next: its slots stay where they are until `muster ring rebalance %s`\n", d.Ring)
		}
	}
}

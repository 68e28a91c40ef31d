package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/muster-metrics/muster/cluster"
)

// recoveryAnswer is the form of `cluster recover -o json`.
type recoveryAnswer struct {
	Plan      *cluster.RecoveryPlan  `json:"plan"`
	Recovered *cluster.RecoverResult `json:"recovered"`
}

func clusterRecover(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "recover",
		Usage: "most voters are lost for good: go on with the control state of this node",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "plan", Usage: "say what is left and what would be lost, change nothing"},
			dryRunFlag(), // the same word as everywhere
			&cli.BoolFlag{Name: "as-sole-voter", Usage: "make this node the only voter; the others must join again"},
			&cli.StringFlag{Name: "confirm", Usage: "the cluster's name: it is meant"},
		},
		Action: func(c *cli.Context) error {
			plan := c.Bool("plan") || c.Bool("dry-run")
			switch {
			case c.NArg() > 0:
				return usageError(fmt.Errorf("%s takes no argument: it recovers from the node that is asked", c.Command.HelpName))
			case plan == c.Bool("as-sole-voter") && !c.Bool("dry-run"):
				return usageError(errors.New("muster cluster recover wants --plan first, then --as-sole-voter --confirm NAME"))
			case !plan && c.String("confirm") == "":
				return usageError(errors.New("--as-sole-voter wants --confirm NAME, the cluster's name as --plan shows it"))
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
			defer cancel()
			raw, _, err := cl.raw(ctx, request{
				method: http.MethodPost, path: "/api/v1/cluster/recover", dryRun: plan,
				body: map[string]any{"as_sole_voter": c.Bool("as-sole-voter"), "confirm": c.String("confirm")},
			})
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			var a recoveryAnswer
			if err := json.Unmarshal(raw, &a); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if a.Plan != nil {
				std.planned(a.Plan)
			} else {
				std.recovered(a.Recovered)
			}
			return nil
		},
	}
}

func (s stdio) planned(p *cluster.RecoveryPlan) {
	rows := make([][]string, 0, len(p.Members))
	var silent []string
	for _, m := range p.Members {
		state, end, revision, incarnation := "answers", fmt.Sprintf("%d / %d", m.LastTerm, m.LastIndex), fmt.Sprint(m.Revision), fmt.Sprint(m.Incarnation)
		if !m.Answers {
			state, end, revision, incarnation = "unreachable", "-", "-", "-"
			silent = append(silent, m.Node)
		}
		role, note := "non-voter", ""
		if m.Voter {
			role = "voter"
		}
		switch {
		case m.Here && p.Refusal == "":
			note = "<- would become the only voter"
		case m.Here:
			note = "<- this node"
		case m.Node == p.Newest:
			note = "<- newest control state"
		}
		rows = append(rows, []string{m.Node, dash(m.Address), role, state, end, revision, incarnation, note})
	}
	s.table([]string{"NODE", "ADDRESS", "ROLE", "STATE", "LAST TERM/INDEX", "REVISION", "INCARNATION", "NOTE"}, rows)
	for _, m := range p.Members {
		if m.Why != "" {
			s.printf("%s is %s\n", m.Node, m.Why)
		}
	}
	s.printf("possible loss: %s\n", p.Loss)
	if p.Refusal != "" {
		s.printf("refused: %s\n", p.Refusal)
		return
	}
	if len(silent) > 0 {
		s.printf("Make sure that %s are off, and will not be started by anybody: together they may still elect a leader.\n", strings.Join(silent, ", "))
		s.printf("Those that return are refused (incarnation %d) until they join again; their samples are kept.\n", p.Incarnation)
	}
	s.printf("next: muster cluster recover --as-sole-voter --confirm %s\n", p.Cluster)
}

func (s stdio) recovered(r *cluster.RecoverResult) {
	s.printf("%s is the only voter of %s, incarnation %d, at revision %d; what was there is kept in %s\n", r.Node, r.Cluster, r.Incarnation, r.Revision, r.Backup)
	if len(r.Rejoin) == 0 {
		return
	}
	s.printf("Writes get 503 where their quorum needs %s. Bring them back, each with a token of its own:\n", strings.Join(r.Rejoin, ", "))
	s.printf("  %s$ muster token create --role node\n", r.Node)
	for _, n := range r.Rejoin {
		s.printf("  %s$ muster cluster join --reset-control-state --token T HOST:PORT of %s\n", n, r.Node)
	}
	s.printf("Or give one up that is gone for good: muster cluster remove NODE --force\n")
}

// initFromSnapshot begins the cluster of a snapshot anew.
func initFromSnapshot(c *cli.Context, std stdio, cl *client, file string) error {
	for _, own := range []string{"name", "replication-factor", "tenant-auth", "tenant-label", "replica-label"} {
		if c.IsSet(own) {
			return usageError(fmt.Errorf("--%s and --from-snapshot: the snapshot has that already", own))
		}
	}
	a, err := cluster.OpenArchive(file)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
	defer cancel()
	q := url.Values{}
	if n := c.Int("join-tokens"); n != 0 {
		q.Set("join_tokens", strconv.Itoa(n))
	}
	var made initAnswer
	r := request{method: http.MethodPost, path: "/api/v1/cluster/init", query: q, stream: f, dryRun: c.Bool("dry-run")}
	if err := cl.do(ctx, r, &made); err != nil {
		return err
	}
	if wantsJSON(c) {
		return std.json(made)
	}
	if r.dryRun {
		std.printf("dry run, nothing is changed; otherwise: cluster %s begins anew on %s from revision %d\n", made.Cluster, made.Node, a.Header.Revision)
		return nil
	}
	std.printf("Cluster %s (%s) begins anew on %s, incarnation %d, from the snapshot of %s, revision %d.\n", made.Cluster, made.ID, made.Node,
		a.Header.Incarnation+1, a.Header.Time.Format(time.RFC3339), a.Header.Revision)
	std.printf("It has a new CA: certificates and join tokens of before are worth nothing.\n")
	std.printf("\nOn each further node, start `muster server` and run one of these lines. A node that still has its data folder\nkeeps its samples: add --reset-control-state there.\n\n")
	address := memberDoor(ctx, cl, made.Node)
	for _, t := range made.JoinTokens {
		std.printf("  muster cluster join --token %s %s\n", t, address)
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

func clusterCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "cluster",
		Usage: "create it, join it, see how it is",
		Subcommands: []*cli.Command{
			clusterInit(std), clusterJoin(std), clusterStatus(std), clusterMembers(std),
			clusterEvents(std), clusterVerify(std), clusterRecover(std), clusterDrain(std), clusterUndrain(std), clusterRemove(std), clusterSet(std), clusterTransfer(std),
		},
	}
}

// mutationFlags are those of every command that changes something.
func mutationFlags(more ...cli.Flag) []cli.Flag {
	return append(more, dryRunFlag(), ifVersionFlag(), requestIDFlag())
}

func ifVersionFlag() cli.Flag {
	return &cli.Int64Flag{Name: "if-version", Usage: "change it only if this is its version (0: only if it does not exist)", DefaultText: "any"}
}

func dryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "check and say what would happen, change nothing"}
}

// mutation fills a request with what the mutation flags say.
func mutation(c *cli.Context, r request) request {
	r.dryRun, r.id = c.Bool("dry-run"), idOf(c)
	if c.IsSet("if-version") {
		v := c.Int64("if-version")
		r.ifVersion = &v
	}
	return r
}

// applied is the answer of every mutation.
type applied struct {
	Revision uint64   `json:"revision"`
	Applied  []string `json:"applied"`
	Pending  []string `json:"pending"`
	DryRun   bool     `json:"dry_run,omitempty"`
}

// said tells a person what a mutation did: "created ring hard".
func (s stdio) said(what string, a applied) {
	if a.DryRun {
		s.printf("dry run, nothing is changed; otherwise: %s\n", what)
		return
	}
	s.printf("%s at revision %d, applied on %s\n", what, a.Revision, list(a.Applied, "no node yet"))
	if len(a.Pending) > 0 {
		s.notef("not yet applied on %s\n", strings.Join(a.Pending, ", "))
	}
}

func list(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

// act sends one mutation and prints its answer.
func act(c *cli.Context, std stdio, what string, r request) error {
	cl, err := newClient(c)
	if err != nil {
		return err
	}
	timeout := commandTimeout
	if t := c.Duration("timeout"); t > 0 { // of the commands that have the flag
		timeout = t
	}
	ctx, cancel := context.WithTimeout(c.Context, timeout)
	defer cancel()
	raw, _, err := cl.raw(ctx, mutation(c, r))
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return std.json(json.RawMessage(raw))
	}
	var a applied
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &a); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
	}
	std.said(what, a)
	return nil
}

// oneArg is the command's only argument.
func oneArg(c *cli.Context, name string) (string, error) {
	if c.NArg() != 1 || c.Args().First() == "" {
		return "", usageError(fmt.Errorf("%s wants one argument: %s", c.Command.HelpName, name))
	}
	return c.Args().First(), nil
}

// maybeArg is the command's only argument, or otherwise where there is none.
func maybeArg(c *cli.Context, otherwise string) (string, error) {
	if c.NArg() > 1 {
		return "", usageError(fmt.Errorf("%s wants one argument at most: %s", c.Command.HelpName, c.Command.ArgsUsage))
	}
	if c.NArg() == 0 {
		return otherwise, nil
	}
	return c.Args().First(), nil
}

type initAnswer struct {
	Cluster    string   `json:"cluster"`
	ID         string   `json:"id"`
	Node       string   `json:"node"`
	JoinTokens []string `json:"join_tokens"`
	DryRun     bool     `json:"dry_run,omitempty"`
}

func clusterInit(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "create the cluster on this node, exactly once",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "name of the cluster (default: made up)"},
			&cli.IntFlag{Name: "replication-factor", Value: 3, Usage: "copies of each sample"},
			&cli.IntFlag{Name: "slots", Value: 4096, Usage: "slots of the ring default, a power of two; fixed from here on"},
			&cli.StringFlag{Name: "tenant-auth", Value: "token", Usage: "how a tenant proves who it is: token, header or certificate"},
			&cli.StringFlag{Name: "tenant-label", Value: "tenant_id", Usage: "label that names the tenant in blocks and for queriers; fixed from here on"},
			&cli.StringFlag{Name: "replica-label", Value: "receive_replica", Usage: "label that names the node; fixed from here on"},
			&cli.IntFlag{Name: "join-tokens", Usage: "join tokens to print (default: replication factor less one, at least 2)"},
			&cli.StringFlag{Name: "from-snapshot", Usage: "begin the cluster of this snapshot anew: all its nodes are lost"},
			dryRunFlag(), // a cluster that is not there has no version
		},
		Action: func(c *cli.Context) error {
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			if file := c.String("from-snapshot"); file != "" {
				if c.Bool("dry-run") {
					return usageError(errors.New("--from-snapshot has no dry run; `muster snapshot inspect` shows what the file holds"))
				}
				return initFromSnapshot(c, std, cl, file)
			}
			ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
			defer cancel()
			var a initAnswer
			err = cl.do(ctx, request{method: http.MethodPost, path: "/api/v1/cluster/init", dryRun: c.Bool("dry-run"), body: map[string]any{
				"name": c.String("name"), "replication_factor": c.Int("replication-factor"), "slots": c.Int("slots"),
				"tenant_auth": c.String("tenant-auth"), "tenant_label": c.String("tenant-label"),
				"replica_label": c.String("replica-label"), "join_tokens": c.Int("join-tokens"),
			}}, &a)
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(a)
			}
			if a.DryRun {
				std.said(fmt.Sprintf("created cluster %s with %s as its first node", dash(a.Cluster), a.Node), applied{DryRun: true})
				return nil
			}
			std.created(a, c.Int("replication-factor"), memberDoor(ctx, cl, a.Node))
			return nil
		},
	}
}

// memberDoor is where the others reach a node. That it is not known fails
// nothing: the join tokens have been made, and are shown this once.
func memberDoor(ctx context.Context, cl *client, node string) string {
	var st statusAnswer
	if err := cl.do(ctx, request{method: http.MethodGet, path: "/api/v1/cluster/status"}, &st); err != nil {
		return "HOST:19391"
	}
	for _, n := range st.Nodes {
		if n.Name == node {
			return n.Address
		}
	}
	return "HOST:19391"
}

// created prints one join line for each further node.
func (s stdio) created(a initAnswer, rf int, address string) {
	s.printf("Cluster %s (%s) created; %s is its first node.\n", a.Cluster, a.ID, a.Node)
	if rf > 1 {
		s.printf("Writes are refused until enough nodes for replication factor %d have joined.\n", rf)
	}
	s.printf("\nOn each further node, start `muster server` and run one of these lines (each token serves one node, for an hour):\n\n")
	for _, t := range a.JoinTokens {
		s.printf("  muster cluster join --token %s %s\n", t, address)
	}
	s.printf("\nMore tokens: muster token create --role node. How it is: muster cluster status.\n")
}

func clusterJoin(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "join",
		Usage:     "make this node a member; returns when it is active",
		ArgsUsage: "HOST:PORT",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "token", Usage: "join token that `cluster init` or `token create --role node` printed"},
			&cli.StringFlag{Name: "join-token-file", Usage: "file with the join token"},
			&cli.BoolFlag{Name: "replace", Usage: "this node had another data folder before; that one is lost"},
			&cli.BoolFlag{Name: "reset-control-state", Usage: "this node was a member: move what it has of the cluster to raft.bak-<time>, keep its samples"},
			&cli.DurationFlag{Name: "timeout", Value: 5 * time.Minute, Usage: "how long to wait until it is active"},
			dryRunFlag(), // a node that is no member yet has no version
		},
		Action: func(c *cli.Context) error {
			address, err := oneArg(c, "HOST:PORT of a member")
			if err != nil {
				return err
			}
			token := c.String("token")
			if f := c.String("join-token-file"); f != "" {
				b, err := os.ReadFile(f)
				if err != nil {
					return fmt.Errorf("read the join token: %w", err)
				}
				token = strings.TrimSpace(string(b))
			}
			if token == "" {
				return usageError(errors.New("muster cluster join wants --token or --join-token-file"))
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
			defer cancel()
			var a struct {
				Cluster string `json:"cluster"`
				Node    string `json:"node"`
			}
			if !wantsJSON(c) && !c.Bool("dry-run") {
				std.notef("joining through %s ...\n", address)
			}
			raw, _, err := cl.raw(ctx, request{method: http.MethodPost, path: "/api/v1/cluster/join", dryRun: c.Bool("dry-run"), body: map[string]any{
				"token": token, "address": address, "replace": c.Bool("replace"), "reset_control_state": c.Bool("reset-control-state"),
			}})
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			if err := json.Unmarshal(raw, &a); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if c.Bool("dry-run") {
				std.said(fmt.Sprintf("asked the member at %s, which shows the CA of the token, to let %s in", address, a.Node), applied{DryRun: true})
				return nil
			}
			std.printf("%s is an active member of %s.\n", a.Node, a.Cluster)
			return nil
		},
	}
}

func clusterMembers(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "members",
		Usage: "list the members as they are recorded",
		Action: func(c *cli.Context) error {
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			raw, _, err := cl.raw(c.Context, request{method: http.MethodGet, path: "/api/v1/cluster/members"})
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			var a struct {
				Members []struct {
					Name        string `json:"name"`
					Incarnation uint64 `json:"incarnation"`
					Address     string `json:"address"`
					Zone        string `json:"zone"`
					State       string `json:"state"`
					Weight      uint32 `json:"weight"`
					Store       string `json:"store"`
					Version     uint64 `json:"version"`
				} `json:"members"`
			}
			if err := json.Unmarshal(raw, &a); err != nil {
				return err
			}
			rows := make([][]string, 0, len(a.Members))
			for _, m := range a.Members {
				rows = append(rows, []string{m.Name, m.Address, dash(m.Zone), m.State, fmt.Sprint(m.Weight), fmt.Sprint(m.Incarnation), m.Store, fmt.Sprint(m.Version)})
			}
			std.table([]string{"NODE", "ADDRESS", "ZONE", "STATE", "WEIGHT", "INCARNATION", "STORE", "VERSION"}, rows)
			return nil
		},
	}
}

func clusterEvents(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "events",
		Usage: "who changed what, and when",
		Flags: []cli.Flag{&cli.StringFlag{Name: "since", Usage: "only the last such time, 24h or 7d"}},
		Action: func(c *cli.Context) error {
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			q := url.Values{}
			if s := c.String("since"); s != "" {
				q.Set("since", s)
			}
			raw, _, err := cl.raw(c.Context, request{method: http.MethodGet, path: "/api/v1/cluster/events", query: q})
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			var a struct {
				Events []struct {
					Revision uint64 `json:"revision"`
					Time     string `json:"time"`
					Actor    string `json:"actor"`
					Source   string `json:"source"`
					Action   string `json:"action"`
					Object   string `json:"object"`
					Detail   string `json:"detail"`
					Changes  []struct{ Field, Before, After string }
				} `json:"events"`
			}
			if err := json.Unmarshal(raw, &a); err != nil {
				return err
			}
			rows := make([][]string, 0, len(a.Events))
			for _, e := range a.Events {
				var lines []string
				if e.Detail != "" {
					lines = append(lines, e.Detail)
				}
				for _, c := range e.Changes {
					lines = append(lines, cluster.ChangeText(&clusterpb.FieldChange{Field: c.Field, Before: c.Before, After: c.After}))
				}
				rows = append(rows, []string{fmt.Sprint(e.Revision), e.Time, dash(e.Actor), dash(e.Source), e.Action, dash(e.Object), strings.Join(lines, "; ")})
			}
			std.table([]string{"REVISION", "TIME", "WHO", "FROM", "WHAT", "OBJECT", "CHANGE"}, rows)
			return nil
		},
	}
}

func clusterSet(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "set",
		Usage:     "change a node's weight or zone",
		ArgsUsage: "NODE",
		Flags: mutationFlags(
			&cli.UintFlag{Name: "weight", Usage: "relative share of slots; 100 is the usual one"},
			&cli.StringFlag{Name: "zone", Usage: "failure zone"},
		),
		Action: func(c *cli.Context) error {
			node, err := oneArg(c, "the node's name")
			if err != nil {
				return err
			}
			if !c.IsSet("weight") && !c.IsSet("zone") {
				return usageError(errors.New("muster cluster set wants --weight or --zone"))
			}
			body := map[string]any{}
			if c.IsSet("weight") {
				body["weight"] = c.Uint("weight")
			}
			if c.IsSet("zone") {
				body["zone"] = c.String("zone")
			}
			return act(c, std, "set "+node, request{method: http.MethodPut, path: "/api/v1/cluster/members/" + url.PathEscape(node), body: body})
		},
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

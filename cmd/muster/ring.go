package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"
)

func ringCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "ring",
		Usage: "which nodes keep which tenants",
		Subcommands: []*cli.Command{
			ringList(std), ringShow(std), ringPut(std, true), ringPut(std, false), ringDelete(std), ringPlan(std), ringRebalance(std), ringSimulate(std), ringImport(std),
		},
	}
}

type ringObject struct {
	Name              string   `json:"name"`
	Tenants           []string `json:"tenants"`
	ReplicationFactor int      `json:"replication_factor"`
	WriteQuorum       string   `json:"write_quorum"`
	Slots             int      `json:"slots"`
	Nodes             []string `json:"nodes"`
	Version           uint64   `json:"version,omitempty"`
	Changed           string   `json:"changed,omitempty"`
	ChangedBy         string   `json:"changed_by,omitempty"`
}

func ringPath(name string) string { return "/api/v1/rings/" + url.PathEscape(name) }

func ringList(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list the rings",
		Action: func(c *cli.Context) error {
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			raw, _, err := cl.raw(c.Context, request{method: http.MethodGet, path: "/api/v1/rings"})
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			var a struct {
				Rings []ringObject `json:"rings"`
			}
			if err := json.Unmarshal(raw, &a); err != nil {
				return err
			}
			rows := make([][]string, 0, len(a.Rings))
			for _, r := range a.Rings {
				rows = append(rows, []string{r.Name, fmt.Sprint(r.ReplicationFactor), r.WriteQuorum, fmt.Sprint(r.Slots), list(r.Tenants, "(all others)"), list(r.Nodes, "(all active)"), fmt.Sprint(r.Version), dash(r.Changed), dash(r.ChangedBy)})
			}
			std.table([]string{"RING", "RF", "QUORUM", "SLOTS", "TENANTS", "NODES", "VERSION", "CHANGED", "BY"}, rows)
			return nil
		},
	}
}

func ringShow(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "a ring and how its slots are spread",
		ArgsUsage: "[RING]",
		Action: func(c *cli.Context) error {
			name, err := maybeArg(c, "default")
			if err != nil {
				return err
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			raw, _, err := cl.raw(c.Context, request{method: http.MethodGet, path: ringPath(name) + "/slots"})
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			var ring ringObject
			if err := cl.do(c.Context, request{method: http.MethodGet, path: ringPath(name)}, &ring); err != nil {
				return err
			}
			return std.ring(ring, raw)
		},
	}
}

// ring draws a ring: how many slots each node holds, as a bar.
func (s stdio) ring(r ringObject, slots []byte) error {
	var a struct {
		Slots []struct {
			Replicas []string `json:"replicas"`
		} `json:"slots"`
		Move *move `json:"move"`
	}
	if err := json.Unmarshal(slots, &a); err != nil {
		return fmt.Errorf("read the slots: %w", err)
	}
	s.printf("RING %s  replication factor %d  write quorum %s  %d slots  version %d\n", r.Name, r.ReplicationFactor, r.WriteQuorum, r.Slots, r.Version)
	s.printf("tenants: %s\nnodes:   %s\nchanged: %s by %s\n\n", list(r.Tenants, "all that no other ring claims"), list(r.Nodes, "all active ones"), dash(r.Changed), dash(r.ChangedBy))
	held, short := map[string]int{}, 0
	for _, sl := range a.Slots {
		for _, n := range sl.Replicas {
			held[n]++
		}
		if len(sl.Replicas) < r.ReplicationFactor {
			short++
		}
	}
	heading, rows := []string{"NODE", "SLOTS", "SHARE"}, [][]string{}
	gains := a.Move.gains()
	for n := range gains {
		held[n] += 0 // it may hold none yet
	}
	if len(gains) > 0 {
		heading = []string{"NODE", "SLOTS", "TO COME", "SHARE"}
	}
	for _, n := range sortedKeys(held) {
		row := []string{n, fmt.Sprint(held[n])}
		if len(gains) > 0 {
			row = append(row, fmt.Sprint(gains[n]))
		}
		rows = append(rows, append(row, strings.Repeat("█", held[n]*40/max(1, len(a.Slots)))+strings.Repeat("░", gains[n]*40/max(1, len(a.Slots)))))
	}
	s.table(heading, rows)
	if short > 0 {
		s.printf("! %d of %d slots have fewer than %d replicas\n", short, len(a.Slots), r.ReplicationFactor)
	}
	s.move(a.Move, r.Name)
	if r.ReplicationFactor == 2 && r.WriteQuorum == "majority" {
		s.printf("With two copies one is enough to acknowledge a write: while a node is silent, answers about recent samples are incomplete.\n")
	}
	return nil
}

// ringPut is create and set: set reads the ring first and changes what is named.
func ringPut(std stdio, create bool) *cli.Command {
	flags := mutationFlags(
		&cli.StringFlag{Name: "tenants", Usage: "tenants it claims, names and patterns: a,team-*; none: all that no other ring claims"},
		&cli.StringFlag{Name: "nodes", Usage: "nodes it may use: n1,n2; none: all active ones"},
		&cli.IntFlag{Name: "replication-factor", Value: 3, Usage: "copies of each sample"},
		&cli.StringFlag{Name: "write-quorum", Value: "majority", Usage: "copies that must be stored before a write is acknowledged: one, majority or all"},
	)
	cmd, done := &cli.Command{Name: "set", Usage: "change a ring", ArgsUsage: "NAME"}, "changed"
	if create {
		cmd.Name, cmd.Usage, done = "create", "create a ring and place its slots", "created"
		flags = append(flags, &cli.IntFlag{Name: "slots", Value: 4096, Usage: "a power of two; fixed from here on"})
	}
	cmd.Flags = flags
	cmd.Action = func(c *cli.Context) error {
		name, err := oneArg(c, "the ring's name")
		if err != nil {
			return err
		}
		ring := ringObject{Name: name, ReplicationFactor: c.Int("replication-factor"), WriteQuorum: c.String("write-quorum"), Slots: c.Int("slots")}
		r := request{method: http.MethodPut, path: ringPath(name)}
		if create {
			var zero int64
			r.ifVersion = &zero
		} else if ring, r.ifVersion, err = currentRing(c, name); err != nil {
			return err
		}
		if c.IsSet("tenants") {
			ring.Tenants = words(c.String("tenants"))
		}
		if c.IsSet("nodes") {
			ring.Nodes = words(c.String("nodes"))
		}
		r.body = ring
		return act(c, std, done+" ring "+name, r)
	}
	return cmd
}

// currentRing is the ring as it is, with the flags that are set laid over it.
func currentRing(c *cli.Context, name string) (ringObject, *int64, error) {
	cl, err := newClient(c)
	if err != nil {
		return ringObject{}, nil, err
	}
	var ring ringObject
	if err := cl.do(c.Context, request{method: http.MethodGet, path: ringPath(name)}, &ring); err != nil {
		return ringObject{}, nil, err
	}
	if c.IsSet("replication-factor") {
		ring.ReplicationFactor = c.Int("replication-factor")
	}
	if c.IsSet("write-quorum") {
		ring.WriteQuorum = c.String("write-quorum")
	}
	v := int64(ring.Version)
	ring.Version, ring.Changed, ring.ChangedBy = 0, "", ""
	return ring, &v, nil
}

func ringDelete(std stdio) *cli.Command {
	return &cli.Command{
		Name: "delete", Usage: "delete a ring; its tenants go to the ring that claims them then", ArgsUsage: "NAME",
		Flags: mutationFlags(),
		Action: func(c *cli.Context) error {
			name, err := oneArg(c, "the ring's name")
			if err != nil {
				return err
			}
			return act(c, std, "deleted ring "+name, request{method: http.MethodDelete, path: ringPath(name)})
		},
	}
}

// words splits a comma-separated list; an empty text is no word.
func words(s string) []string {
	out := []string{}
	for w := range strings.SplitSeq(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

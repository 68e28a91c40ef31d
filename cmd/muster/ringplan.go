package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// ringPlan shows what a change of nodes would move, before it is made.
func ringPlan(std stdio) *cli.Command {
	return &cli.Command{
		Name: "plan", Usage: "what would move if nodes came, left or weighed otherwise; changes nothing", ArgsUsage: "[RING]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "add", Usage: "nodes that join, members or not: n4,n5"},
			&cli.StringFlag{Name: "remove", Usage: "nodes that leave: n1"},
			&cli.StringFlag{Name: "weight", Usage: "other weights: n2=200,n3=50; 100 is the usual one"},
			&cli.StringFlag{Name: "zone", Usage: "other zones: n2=b,n4=c; n2= is none"},
			&cli.IntFlag{Name: "replication-factor", Usage: "another number of copies", DefaultText: "the ring's"},
		},
		Action: func(c *cli.Context) error {
			name, err := maybeArg(c, "default")
			if err != nil {
				return err
			}
			weights, err := weightsOf(c.String("weight"))
			if err != nil {
				return usageError(err)
			}
			zones, err := zonesOf(c.String("zone"))
			if err != nil {
				return usageError(err)
			}
			body := map[string]any{
				"add": words(c.String("add")), "remove": words(c.String("remove")), "weight": weights, "zone": zones,
			}
			if c.IsSet("replication-factor") {
				body["replication_factor"] = c.Int("replication-factor")
			}
			return showMoves(c, std, request{method: http.MethodPost, path: ringPath(name) + "/plan", body: body})
		},
	}
}

func weightsOf(text string) (map[string]uint64, error) {
	out := map[string]uint64{}
	for _, w := range words(text) {
		node, weight, _ := strings.Cut(w, "=")
		n, err := strconv.ParseUint(weight, 10, 32)
		if _, twice := out[node]; err != nil || node == "" || twice {
			return nil, fmt.Errorf("--weight %q: want NODE=WEIGHT, each node once", w)
		}
		out[node] = n
	}
	return out, nil
}

// zonesOf reads --zone. A node may be put into no zone: n1=
func zonesOf(text string) (map[string]string, error) {
	out := map[string]string{}
	for _, w := range words(text) {
		node, zone, found := strings.Cut(w, "=")
		if _, twice := out[node]; !found || node == "" || twice {
			return nil, fmt.Errorf("--zone %q: want NODE=ZONE, each node once", w)
		}
		out[node] = zone
	}
	return out, nil
}

// showMoves prints a plan.
func showMoves(c *cli.Context, std stdio, r request) error {
	cl, err := newClient(c)
	if err != nil {
		return err
	}
	raw, _, err := cl.raw(c.Context, r)
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return std.json(json.RawMessage(raw))
	}
	var a plannedRing
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	std.plan(a)
	return nil
}

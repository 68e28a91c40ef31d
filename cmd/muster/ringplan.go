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
			return showMoves(c, std, request{method: http.MethodPost, path: ringPath(name) + "/plan", body: map[string]any{
				"add": words(c.String("add")), "remove": words(c.String("remove")), "weight": weights,
			}})
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

// plannedNode is a node of a plan.
type plannedNode struct {
	Name                     string
	Weight, Now, Then, Gains int
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
	var a struct {
		Name         string
		Moves, Slots int
		Nodes        []plannedNode
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	replicas, widest := 0, 1
	for _, n := range a.Nodes {
		replicas += n.Then
		widest = max(widest, n.Now, n.Then)
	}
	std.printf("dry run, nothing is changed; otherwise: %d of %d slot replicas of ring %s come to another node\n", a.Moves, replicas, a.Name)
	rows := make([][]string, 0, len(a.Nodes))
	for _, n := range a.Nodes {
		rows = append(rows, []string{
			n.Name, fmt.Sprint(n.Weight), fmt.Sprint(n.Now), fmt.Sprint(n.Then),
			fmt.Sprint(n.Gains), fmt.Sprint(n.Now + n.Gains - n.Then), strings.Repeat("█", n.Then*30/widest),
		})
	}
	std.table([]string{"NODE", "WEIGHT", "NOW", "THEN", "GAINS", "LOSES", "SHARE"}, rows)
	return nil
}

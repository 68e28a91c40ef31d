package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/urfave/cli/v2"
)

func clusterTransfer(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "transfer-leader",
		Usage:     "hand leadership to another voter",
		ArgsUsage: "[NODE]",
		Flags:     []cli.Flag{dryRunFlag()}, // who leads has no version
		Action: func(c *cli.Context) error {
			node, err := maybeArg(c, "")
			if err != nil {
				return err
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
			defer cancel()
			raw, _, err := cl.raw(ctx, mutation(c, request{method: http.MethodPost, path: "/api/v1/cluster/leader", body: map[string]any{"node": node}}))
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			var a struct {
				Leader string `json:"leader"`
			}
			if err := json.Unmarshal(raw, &a); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if c.Bool("dry-run") {
				std.printf("dry run, nothing is changed; otherwise %s would lead\n", a.Leader)
				return nil
			}
			std.printf("%s leads\n", a.Leader)
			return nil
		},
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/urfave/cli/v2"
)

// verifyAnswer is the form of `cluster verify -o json`.
type verifyAnswer struct {
	Cluster  string `json:"cluster"`
	Healthy  bool   `json:"healthy"`
	Revision uint64 `json:"revision"`
	Checks   []struct {
		Name   string `json:"check"`
		OK     bool   `json:"ok"`
		Detail string `json:"detail"`
		Next   string `json:"next"`
	} `json:"checks"`
}

func clusterVerify(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "look at everything: states, rings, voters, clocks, certificates, disks, versions; exits 3 where something is wrong",
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError(fmt.Errorf("%s wants no argument", c.Command.HelpName))
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
			defer cancel()
			raw, _, err := cl.raw(ctx, request{method: http.MethodGet, path: "/api/v1/cluster/verify"})
			if err != nil {
				return err
			}
			var v verifyAnswer
			if err := json.Unmarshal(raw, &v); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if wantsJSON(c) {
				if err := std.json(json.RawMessage(raw)); err != nil {
					return err
				}
			} else {
				std.verified(v)
			}
			if !v.Healthy {
				return errQuiet{exitUnhealthy}
			}
			return nil
		},
	}
}

// verified prints the checks, and after them what to do about those that failed.
func (s stdio) verified(v verifyAnswer) {
	failed := 0
	rows := make([][]string, 0, len(v.Checks))
	for _, c := range v.Checks {
		word := "ok"
		if !c.OK {
			word = "FAILED"
			failed++
		}
		rows = append(rows, []string{c.Name, word, c.Detail})
	}
	s.printf("CLUSTER %s  revision %d  %d checks, %d failed\n", v.Cluster, v.Revision, len(v.Checks), failed)
	s.table([]string{"CHECK", "RESULT", "DETAIL"}, rows)
	for _, c := range v.Checks {
		if !c.OK && c.Next != "" {
			s.printf("next for %s: %s\n", c.Name, c.Next)
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
)

// statusAnswer is the form of `cluster status -o json`.
type statusAnswer struct {
	Cluster          string       `json:"cluster"`
	Healthy          bool         `json:"healthy"`
	FailureTolerance int          `json:"failure_tolerance"`
	Leader           string       `json:"leader"`
	Revision         uint64       `json:"revision"`
	Rings            []ringStatus `json:"rings"`
	Nodes            []nodeStatus `json:"nodes"`
	Problems         []string     `json:"problems,omitempty"`
}

type ringStatus struct {
	Name              string `json:"name"`
	Revision          uint64 `json:"revision"`
	ReplicationFactor int    `json:"replication_factor"`
	Slots             int    `json:"slots"`
	Short             int    `json:"short"`
	Moving            int    `json:"moving"`
}

type nodeStatus struct {
	Name          string `json:"name"`
	Address       string `json:"address"`
	Zone          string `json:"zone"`
	State         string `json:"state"`
	Role          string `json:"role"`
	LastContactMS *int64 `json:"last_contact_ms"`
	Applied       uint64 `json:"applied"`
	Lag           int64  `json:"lag"`
	Slots         int    `json:"slots"`
	Series        int64  `json:"series"`
	DiskFreeBytes int64  `json:"disk_free_bytes"`
	Version       string `json:"version"`
	Leaving       string `json:"leaving,omitempty"`
}

func clusterStatus(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "how the cluster is; exits 3 where it is not healthy",
		Action: func(c *cli.Context) error {
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
			defer cancel()
			raw, _, err := cl.raw(ctx, request{method: http.MethodGet, path: "/api/v1/cluster/status"})
			if err != nil {
				return err
			}
			var st statusAnswer
			if err := json.Unmarshal(raw, &st); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if wantsJSON(c) {
				if err := std.json(json.RawMessage(raw)); err != nil {
					return err
				}
			} else {
				std.status(st)
			}
			if !st.Healthy {
				return errQuiet{exitUnhealthy}
			}
			return nil
		},
	}
}

// status prints the member table.
func (s stdio) status(st statusAnswer) {
	health := "HEALTHY"
	if !st.Healthy {
		health = "UNHEALTHY"
	}
	s.printf("CLUSTER %s  %s  failure tolerance %d  leader %s  revision %d\n", st.Cluster, health, st.FailureTolerance, dash(st.Leader), st.Revision)
	rows := make([][]string, 0, len(st.Nodes))
	for _, n := range st.Nodes {
		rows = append(rows, []string{
			n.Name, n.Address, dash(n.Zone), n.State, n.Role, contact(n), fmt.Sprint(n.Applied), fmt.Sprint(n.Lag),
			fmt.Sprint(n.Slots), thousands(n.Series), free(n.DiskFreeBytes), dash(n.Version),
		})
	}
	s.table([]string{"NODE", "ADDRESS", "ZONE", "STATE", "ROLE", "LAST CONTACT", "APPLIED", "LAG", "SLOTS", "SERIES", "DISK FREE", "VERSION"}, rows)
	for _, p := range st.Problems {
		s.printf("! %s\n", p)
	}
	for _, n := range st.Nodes {
		if n.Leaving != "" {
			s.printf("%s is %s\n", n.Name, n.Leaving)
		}
	}
	for _, r := range st.Rings {
		if r.Moving > 0 { // what is short is among the problems
			s.printf("ring %s: %d of %d slots are moving\n", r.Name, r.Moving, r.Slots)
		}
	}
}

func contact(n nodeStatus) string {
	if n.Role == "leader" {
		return "-"
	}
	if n.LastContactMS == nil || *n.LastContactMS < 0 {
		return "never"
	}
	d := time.Duration(*n.LastContactMS) * time.Millisecond
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return d.Round(time.Second).String()
}

func thousands(n int64) string {
	if n < 10_000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%dk", n/1000)
}

func free(bytes int64) string {
	if bytes <= 0 {
		return "-"
	}
	return humanize.IBytes(uint64(bytes))
}

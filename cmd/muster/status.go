package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
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
	Warnings         []string     `json:"warnings,omitempty"`
	Raft             struct {
		Voters int `json:"voters"`
		Heard  int `json:"heard"`
		Needed int `json:"needed"`
	} `json:"raft"`
	ClusterVersion uint32 `json:"cluster_version"`
	SpokenVersion  uint32 `json:"spoken_version"`
	Maintenance    bool   `json:"maintenance"`
	Local          bool   `json:"local"`
}

type ringStatus struct {
	Name              string `json:"name"`
	Revision          uint64 `json:"revision"`
	ReplicationFactor int    `json:"replication_factor"`
	Slots             int    `json:"slots"`
	Short             int    `json:"short"`
	Moving            int    `json:"moving"`
	Move              *move  `json:"move,omitempty"`
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
	ClockOffsetMS int64  `json:"clock_offset_ms"`
	// CertificateDays is -1 where it is not known.
	CertificateDays int   `json:"certificate_days"`
	RaftFreeBytes   int64 `json:"raft_free_bytes"`
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
	s.printf("%s\n", st.summary())
	for _, p := range st.Problems {
		s.printf("! %s\n", p)
	}
	for _, w := range st.Warnings {
		s.printf("* %s\n", w)
	}
	for _, n := range st.Nodes {
		if n.Leaving != "" {
			s.printf("%s is %s\n", n.Name, n.Leaving)
		}
	}
	for _, r := range st.Rings {
		if r.Move != nil { // what is short is among the problems
			s.printf("ring %s: %s %s\n", r.Name, bar(r.Move.Percent, 20), r.Move.Text)
		}
	}
}

// summary is the line of what else should be well.
func (st statusAnswer) summary() string {
	parts := []string{fmt.Sprintf("voters %d of %d heard, %d needed", st.Raft.Heard, st.Raft.Voters, st.Raft.Needed)}
	version := fmt.Sprintf("cluster version %d", st.ClusterVersion)
	if st.SpokenVersion > st.ClusterVersion {
		version += fmt.Sprintf(" (%d once all nodes speak it)", st.SpokenVersion)
	}
	parts = append(parts, version)
	var clock, room int64
	days := -1
	for _, n := range st.Nodes {
		if n.LastContactMS == nil || *n.LastContactMS < 0 {
			continue
		}
		clock = max(clock, n.ClockOffsetMS, -n.ClockOffsetMS)
		if n.RaftFreeBytes > 0 && (room == 0 || n.RaftFreeBytes < room) {
			room = n.RaftFreeBytes
		}
		if n.CertificateDays >= 0 && (days < 0 || n.CertificateDays < days) {
			days = n.CertificateDays
		}
	}
	parts = append(parts, fmt.Sprintf("clocks within %d ms", clock))
	if days >= 0 {
		parts = append(parts, fmt.Sprintf("certificates for %d days", days))
	}
	if room > 0 {
		parts = append(parts, "room for the control state "+free(room))
	}
	if st.Maintenance {
		parts = append(parts, "maintenance is on")
	}
	if st.Local {
		parts = append(parts, "there is no leader: this is what this node knows")
	}
	return strings.Join(parts, " · ")
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

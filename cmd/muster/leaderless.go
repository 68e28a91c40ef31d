package main

import (
	"fmt"
	"time"
)

// unreachable is a voter that is not heard, as the admin API names it.
type unreachable struct {
	Node    string `json:"node"`
	Address string `json:"address,omitempty"`
	Since   string `json:"since,omitempty"`
	Error   string `json:"error,omitempty"`
}

// leaderless says who is missing and what goes on meanwhile, a line each.
func (f *failure) leaderless(now time.Time) []string {
	if len(f.Voters) == 0 {
		return nil
	}
	var lines []string
	for _, u := range f.Unreachable {
		line := u.Node
		if u.Address != "" {
			line += " (" + u.Address + ")"
		}
		line += ": " + heardText(u.Since, now)
		if u.Error != "" {
			line += ", " + u.Error
		}
		lines = append(lines, line)
	}
	return append(lines, fmt.Sprintf("samples are still written and read, by revision %d; nothing can be changed", f.Serving))
}

// heardText is when a node was last heard, as people say it.
func heardText(since string, now time.Time) string {
	at, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return "never heard by this node"
	}
	return fmt.Sprintf("last heard %s ago", max(now.Sub(at).Round(time.Second), 0))
}

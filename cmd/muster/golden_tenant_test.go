package main

import "testing"

// TestWhatTenantCommandsPrint is the session of an operator, errors included.
func TestWhatTenantCommandsPrint(t *testing.T) {
	b := newBed(t, 1, 1)
	b.story(t, "tenant", 0,
		"tenant list",
		"tenant create team-a --retention 30d --active-series 1000",
		"tenant list",
		"tenant show team-a",
		"tenant create team-a",
		"tenant show team-b",
		"tenant set team-a --retention long",
		"tenant set team-a --state suspended --if-version 1",
	)
}

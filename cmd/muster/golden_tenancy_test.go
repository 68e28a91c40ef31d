package main

import (
	"errors"
	"strings"
	"testing"
)

// TestWhatMovingATenantPrints has the moves between rings, and each refusal.
func TestWhatMovingATenantPrints(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1)
	b.story(t, "tenant_ring", 0,
		"ring create a --tenants x,y,team-* --replication-factor 1 --slots 8",
		"ring create b --tenants z --replication-factor 1 --slots 8",
		"tenant create x",
		"tenant create y",
		"tenant create z",
		"tenant create team-1",
		"tenant ring x",
		"ring set b --tenants z,x",
		"ring set b --tenants z,team-*",
		"ring create soft --replication-factor 1",
		"tenant set x --ring b --dry-run",
		"tenant set x --ring b",
		"tenant set x --ring b --if-version 1",
		"tenant set x --ring a --if-version 1",
		"tenant set x --ring a -o json",
		"tenant set team-1 --ring default",
		"tenant set z --ring a",
		"tenant set z --ring a --delete-emptied",
		"tenant set x --ring nosuch",
		"tenant set nosuch --ring a",
		"tenant set x --delete-emptied",
		"tenant set x --ring a --retention 1d",
	)
	for _, id := range []string{"x", "z"} {
		b.eventually("the former routes of "+id+" are closed", func() error {
			if out := b.cli(0, "tenant", "ring", id); strings.Contains(out, "not yet") {
				return errors.New(out)
			}
			return nil
		})
	}
	b.story(t, "tenant_ring_show", 0,
		"tenant ring x -o json",
		"tenant ring z",
		"tenant ring nosuch",
		"tenant ring",
	)
}

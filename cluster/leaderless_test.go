package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func TestTheErrorNamesWhoIsMissing(t *testing.T) {
	at := time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)
	e := &NoLeaderError{Since: at, Voters: []Voter{{Name: "n1"}, {Name: "n2", Missing: true, Since: at}, {Name: "n3", Missing: true}}}
	if got, want := e.Error(), "no leader since 2026-11-22T15:00:00Z: 3 voters, 2 needed, 1 reachable; missing n2, n3"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got, want := e.Next(), "start n2 or n3; if they are lost for good: muster cluster recover --plan"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	e.Voters[1].Missing = false
	if got := e.Next(); !strings.HasPrefix(got, "an election is under way") {
		t.Errorf("with a quorum that is heard: %s", got)
	}
	if (&NoLeaderError{}).Next() == "" {
		t.Error("without voters nothing is advised")
	}
}

func TestWhyANodeCannotBeReachedIsSaidPlainly(t *testing.T) {
	for want, err := range map[string]error{
		"connect: connection refused": status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial n2 at 10.0.0.2:19391: connect: connection refused"`),
		"no route":                    status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: no route"`),
		"no answer in time":           status.Error(codes.DeadlineExceeded, "context deadline exceeded"),
		"it says no":                  status.Error(codes.PermissionDenied, "it says no"),
	} {
		if got := reachText("n2", err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

func TestSightingsSurviveARestart(t *testing.T) {
	var s, later sightings
	path := t.TempDir() + "/seen.json"
	at := time.UnixMilli(1_700_000_000_123)
	s.Saw("n2", at)
	s.SawLeader(at.Add(time.Second))
	s.Failed("n2", "refused")
	if s.Failure("n2") != "refused" {
		t.Error("the failure is forgotten")
	}
	if err := s.Save(path); err != nil {
		t.Fatal(err)
	}
	later.Load(path)
	later.Load(path + ".none")
	if !later.Last("n2").Equal(at) || !later.LastLeader().Equal(at.Add(time.Second)) {
		t.Errorf("n2 %s, leader %s", later.Last("n2"), later.LastLeader())
	}
	s.Saw("n2", at.Add(time.Minute))
	if s.Failure("n2") != "" {
		t.Error("a node that was heard failed before that")
	}
	if err := s.Save(t.TempDir() + "/gone/seen.json"); err != nil {
		t.Errorf("without a directory: %v", err)
	}
}

// TestTheLastVoterServesOn: two of three voters are gone, for many times what a
// leader that is stuck is given. The third does nothing about it, says since
// when, also after a restart, and goes on when one comes back.
func TestTheLastVoterServesOn(t *testing.T) {
	b := newBed(t)
	b.timing.Patience = 100 * time.Millisecond
	b.cluster(3, InitRequest{})
	b.voters(3)
	b.leader().propose(putTenant("a"))
	b.agree()
	last := b.nodes[0]
	b.nodes[1].stop()
	b.nodes[2].stop()
	before := last.node.State()
	alone := func() *NoLeaderError {
		var missing *NoLeaderError
		b.eventually("a change is refused", func() string {
			ctx, cancel := context.WithTimeout(t.Context(), 10*last.timing.Patience)
			defer cancel()
			_, err := last.node.Propose(ctx, putTenant("b"))
			if errors.As(err, &missing) && len(missing.Missing()) == 2 && missing.Missing()[0].Error != "" && missing.Missing()[1].Error != "" {
				return ""
			}
			return fmt.Sprint(err)
		})
		return missing
	}
	first := alone()
	e := last.node.engine.Load()
	for range 5 {
		alone()
	}
	if last.node.engine.Load() != e || last.node.restarts.Load() != 0 || len(last.node.Ailments()) != 0 {
		t.Errorf("a lost quorum is a reason to do something: %v", last.node.Ailments())
	}
	if last.node.State() != before || last.node.State().Tenant("a") == nil {
		t.Error("the state has changed")
	}
	if first.Since.IsZero() || first.Missing()[0].Since.IsZero() {
		t.Errorf("it does not say since when: %+v", first)
	}
	last.restart()
	again := alone()
	if again.Since.IsZero() || again.Since.After(first.Since.Add(time.Second)) || again.Missing()[0].Since.IsZero() {
		t.Errorf("after a restart there is no leader since %s, before it %s", again.Since, first.Since)
	}
	health := last.node.Health()
	if len(health) != 3 || slices.ContainsFunc(health, func(h *clusterpb.Health) bool { return h.GetRole() != roleVoter }) {
		t.Errorf("alone it knows %v", health)
	}
	b.nodes[1].start()
	last.propose(putTenant("b"))
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Voter is a node whose vote counts, and when this node last had word of it.
type Voter struct {
	Name, Address string
	Missing       bool
	// Since is when it was last heard, before this node's start included; zero:
	// never.
	Since time.Time
	// Error is why it could not be reached since; "": it was not tried.
	Error string
}

// NoLeaderError says who is missing. It wraps ErrNoLeader.
type NoLeaderError struct {
	Voters []Voter
	// Since is when this node last knew a leader, before its start included;
	// zero: never.
	Since time.Time
	// Node is who says so, and Revision the state it serves by meanwhile.
	Node     string
	Revision uint64
}

func (e *NoLeaderError) Unwrap() error { return ErrNoLeader }

// Needed is how many voters elect a leader.
func (e *NoLeaderError) Needed() int { return len(e.Voters)/2 + 1 }

// Missing are the voters that are not heard.
func (e *NoLeaderError) Missing() []Voter {
	var out []Voter
	for _, v := range e.Voters {
		if v.Missing {
			out = append(out, v)
		}
	}
	return out
}

func (e *NoLeaderError) Error() string {
	var missing []string
	for _, v := range e.Missing() {
		missing = append(missing, v.Name)
	}
	since := ""
	if !e.Since.IsZero() {
		since = " since " + e.Since.UTC().Format(time.RFC3339)
	}
	text := fmt.Sprintf("no leader%s: %d voters, %d needed, %d reachable", since, len(e.Voters), e.Needed(), len(e.Voters)-len(missing))
	if len(missing) > 0 {
		text += "; missing " + strings.Join(missing, ", ")
	}
	return text
}

// Next is what to do.
func (e *NoLeaderError) Next() string {
	var names []string
	for _, v := range e.Missing() {
		names = append(names, v.Name)
	}
	switch {
	case len(e.Voters) == 0:
		return "bring another member back: this node knows no voter yet"
	case len(e.Voters)-len(names) >= e.Needed():
		return "an election is under way or its messages do not arrive: ask again, then look at the log of " + e.Voters[0].Name
	default:
		return fmt.Sprintf("start %s; if they are lost for good: muster cluster recover --plan", strings.Join(names, " or "))
	}
}

// noLeader says who is missing.
func (n *Node) noLeader() error {
	e := n.engine.Load()
	switch {
	case e == nil:
		return n.outside()
	case n.Standing() != nil:
		return n.Standing()
	}
	err := &NoLeaderError{Since: n.sightings.LastLeader(), Node: n.cfg.Name, Revision: n.fsm.Applied()}
	now := time.Now()
	for _, server := range e.raft.GetConfiguration().Configuration().Servers {
		if server.Suffrage != raft.Voter {
			continue
		}
		v := Voter{Name: nodeOf(server.ID)}
		v.Address, _ = n.AddressOf(v.Name)
		if v.Name != n.cfg.Name {
			v.Since = n.sightings.Last(v.Name)
			// What was heard before this node's start says since when, no more.
			v.Missing = v.Since.Before(e.began) || now.Sub(v.Since) > n.cfg.Timing.Fresh
			v.Error = n.sightings.Failure(v.Name)
		}
		err.Voters = append(err.Voters, v)
	}
	return err
}

// hopeless says whether it makes no sense to hold a request until somebody
// leads: nobody has for a while, and too few voters are heard to elect one.
func (n *Node) hopeless() bool {
	e := n.engine.Load()
	if e == nil {
		return false
	}
	now := time.Now()
	if now.Sub(e.began) < n.cfg.Timing.Hold || now.Sub(n.sightings.LastLeader()) < n.cfg.Timing.Hold {
		return false
	}
	var alone *NoLeaderError
	return errors.As(n.noLeader(), &alone) && len(alone.Voters)-len(alone.Missing()) < alone.Needed()
}

// healthAlone is how the members are as far as this node knows without a
// leader: what the last leader told, what others have told since, and when they
// were last heard here.
func (n *Node) healthAlone(e *engine) []*clusterpb.Health {
	now, st := time.Now(), n.State()
	told := map[string]*clusterpb.Health{}
	for _, h := range n.view.Members(now) {
		told[h.GetReport().GetNode()] = h
	}
	roles := n.roles(e)
	out := make([]*clusterpb.Health, 0, len(st.Members()))
	for _, m := range st.Members() {
		h := told[m.GetName()]
		if h == nil {
			h = &clusterpb.Health{Report: &clusterpb.Report{Node: m.GetName()}, LastContactMs: -1}
		}
		if h.Role = roles[m.GetName()]; h.Role == "" {
			h.Role = roleNonVoter
		}
		if c, ok := n.health.Of(m); ok {
			h.Report = proto.CloneOf(c.report)
		}
		if seen := n.sightings.Last(m.GetName()); !seen.IsZero() {
			h.LastContactMs = max(now.Sub(seen).Milliseconds(), 0)
		}
		if m.GetName() == n.cfg.Name {
			h.Report, h.LastContactMs = n.ownReport(n.cfg.Clock()), 0
		}
		out = append(out, h)
	}
	return out
}

// remember writes down who was heard, now and then and at the end.
func (n *Node) remember(ctx context.Context) {
	tick := time.NewTicker(rememberEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if err := n.sightings.Save(n.raftPath("seen.json")); err != nil {
			n.log.Debug("who was heard is not kept", "err", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// reachText is why a call to a node failed, without what gRPC puts around it.
func reachText(node string, err error) string {
	text := status.Convert(err).Message()
	if _, dial, ok := strings.Cut(text, "Error while dialing: "); ok {
		dial = strings.TrimSuffix(dial, `"`)
		if _, cause, ok := strings.Cut(dial, ": "); ok && strings.HasPrefix(dial, "dial "+node+" at ") {
			return cause // the address is told anyway
		}
		return dial
	}
	if status.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return text
}

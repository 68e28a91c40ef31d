package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// handOver is what is wanted of a transfer of leadership.
type handOver struct {
	// to is who shall lead; "" leaves the choice to the leader.
	to string
	// room is how many bytes its disk must have left.
	room int64
	// staying wants a node that is not on its way out itself.
	staying bool
}

// lastTransfer is the transfer that failed last: whom it was for, and when.
type lastTransfer struct {
	to string
	at time.Time
}

// afterFailure is how long no transfer goes to a node that a transfer to has
// failed: two to a hung node can stop a leader for good (hashicorp/raft#696).
const afterFailure = 30 * time.Second

// TransferLeadership hands leadership to a voter that was heard a moment ago;
// "" leaves the choice to the node. Only the leader can. One transfer runs at a
// time, and none is tried twice.
func (n *Node) TransferLeadership(ctx context.Context, to string) error {
	return n.transfer(ctx, handOver{to: to})
}

// HandLeadership has the leader, wherever it is, hand over to the named voter,
// or to one of its choice; it is asked once. It answers who leads then, when
// this node knows it too. With dry it only says who would.
func (n *Node) HandLeadership(ctx context.Context, to string, dry bool) (string, error) {
	e := n.engine.Load()
	if e == nil {
		return "", n.outside()
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	var leader string
	var err error
	if e.raft.State() == raft.Leader {
		leader, err = n.handLeadershipHere(ctx, e, to, dry)
	} else {
		leader, err = n.askHandLeadership(ctx, e, to, dry)
	}
	if err != nil || dry {
		return leader, err
	}
	for {
		if now, ok := n.leaderOf(e); ok && now == leader {
			return leader, nil
		}
		if n.pause(ctx) != nil {
			return "", fmt.Errorf("%s took leadership over and has not been heard as the leader yet: `muster cluster status` shows who leads", leader)
		}
	}
}

// handLeadershipHere is the leader's part.
func (n *Node) handLeadershipHere(ctx context.Context, e *engine, to string, dry bool) (string, error) {
	if to == n.cfg.Name {
		return to, nil // it leads already
	}
	if to != "" && n.State().Member(to) == nil {
		return "", &RefusedError{notFound("%s is no member", quote(to))}
	}
	want := handOver{to: to, staying: true}
	server, err := n.successor(e, want)
	if err != nil {
		return "", &RefusedError{unsafe("node", "transfer leadership: %v", err)}
	}
	want.to = nodeOf(server.ID)
	if dry {
		return want.to, nil
	}
	return want.to, n.transfer(ctx, want)
}

func (n *Node) askHandLeadership(ctx context.Context, e *engine, to string, dry bool) (string, error) {
	control, leader, err := n.leaderControl(ctx, e)
	if errors.Is(err, ErrNoLeader) {
		return "", n.noLeader()
	}
	if err != nil {
		return "", err
	}
	answer, err := control.HandLeadership(ctx, &clusterpb.HandLeadershipRequest{To: to, DryRun: dry})
	if err != nil {
		return "", sortCallError(leader, err)
	}
	if r := answer.GetRefusal(); r != nil {
		return "", &RefusedError{r}
	}
	return answer.GetLeader(), nil
}

// HandLeadership hands over where this node leads. It does not forward.
func (c *control) HandLeadership(ctx context.Context, r *clusterpb.HandLeadershipRequest) (*clusterpb.HandLeadershipResponse, error) {
	_, e, err := c.caller(ctx)
	if err != nil {
		return nil, err
	}
	if e.raft.State() != raft.Leader {
		return nil, status.Error(codes.FailedPrecondition, c.node.cfg.Name+" does not lead")
	}
	leader, err := c.node.handLeadershipHere(ctx, e, r.GetTo(), r.GetDryRun())
	var refused *RefusedError
	switch {
	case err == nil:
		return &clusterpb.HandLeadershipResponse{Leader: leader}, nil
	case errors.As(err, &refused):
		return &clusterpb.HandLeadershipResponse{Refusal: refused.Refusal}, nil
	default:
		return &clusterpb.HandLeadershipResponse{Refusal: unsafe("", "%v", err)}, nil
	}
}

// transfer hands leadership over once.
func (n *Node) transfer(ctx context.Context, want handOver) error {
	e := n.engine.Load()
	if e == nil {
		return n.outside()
	}
	if e.raft.State() != raft.Leader {
		leader, _ := n.leaderOf(e)
		return fmt.Errorf("transfer leadership: %w: %s is", ErrNotLeader, quote(leader))
	}
	if !n.transferring.CompareAndSwap(false, true) {
		return errors.New("transfer leadership: a transfer is under way")
	}
	defer n.transferring.Store(false)
	server, err := n.successor(e, want)
	if err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	n.letHear(ctx, e)
	if err := e.wait(ctx, e.raft.LeadershipTransferToServer(server.ID, server.Address)); err != nil {
		n.failed.Store(&lastTransfer{nodeOf(server.ID), time.Now()})
		return fmt.Errorf("transfer leadership to %s: %w", nodeOf(server.ID), err)
	}
	n.log.Info("leadership handed over", "to", nodeOf(server.ID))
	return nil
}

// letHear lets the others hear of the last change before nobody leads for a
// moment. Where that fails, the next leader tells them.
func (n *Node) letHear(ctx context.Context, e *engine) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Report)
	defer cancel()
	if _, err := n.barrierHere(ctx, e); err != nil {
		n.log.Debug("barrier before a transfer", "err", err)
	}
}

// successor is the voter that may lead next: live, and as far as anybody. A
// transfer to it has not failed a moment ago.
func (n *Node) successor(e *engine, want handOver) (raft.Server, error) {
	st, now := n.State(), time.Now()
	found := n.compare(e, now)
	var best raft.Server
	var reached uint64
	why := ""
	for _, server := range e.raft.GetConfiguration().Configuration().Servers {
		name := nodeOf(server.ID)
		m := st.Member(name)
		if server.Suffrage != raft.Voter || name == n.cfg.Name || m == nil || want.to != "" && name != want.to {
			continue
		}
		c, ok := n.health.Of(m)
		if why = cmp.Or(n.unfit(m, c, ok, want, now), found.diverged[name]); why != "" {
			continue
		}
		if best.ID == "" || c.report.GetApplied() > reached {
			best, reached = server, c.report.GetApplied()
		}
	}
	switch {
	case best.ID != "":
		return best, nil
	case want.to != "" && st.Member(want.to) == nil:
		return best, fmt.Errorf("%s is no member: `muster cluster members` lists them", quote(want.to))
	case want.to != "" && why == "":
		return best, fmt.Errorf("%s has no vote: `muster cluster status` shows who has", quote(want.to))
	case want.to != "":
		return best, fmt.Errorf("%s %s", want.to, why)
	case want.room > 0:
		return best, fmt.Errorf("no other voter that was heard in the last %s has %d MiB of disk left", n.cfg.Timing.Fresh, want.room>>20)
	default:
		return best, fmt.Errorf("no other voter that stays was heard in the last %s", n.cfg.Timing.Fresh)
	}
}

// unfit is why a voter cannot lead next, in words that follow its name.
func (n *Node) unfit(m *clusterpb.Member, c contact, known bool, want handOver, now time.Time) string {
	switch last := n.failed.Load(); {
	case !known || now.Sub(c.heard) > n.cfg.Timing.Fresh:
		return fmt.Sprintf("was not heard in the last %s", n.cfg.Timing.Fresh)
	case c.report.GetGuards().GetRaftFreeBytes() < want.room:
		return fmt.Sprintf("has %d MiB of disk left", c.report.GetGuards().GetRaftFreeBytes()>>20)
	case c.report.GetGuards().GetHalted() != "":
		return "applies nothing more: " + c.report.GetGuards().GetHalted()
	case c.report.GetGuards().GetHealing() != "":
		return "is fetching its control state anew"
	case want.staying && m.GetState() == clusterpb.MemberState_DRAINING:
		return "is draining"
	case want.staying && m.GetState() == clusterpb.MemberState_REMOVING:
		return "is being removed"
	case last != nil && last.to == m.GetName() && now.Sub(last.at) < afterFailure:
		return fmt.Sprintf("did not take over %s ago: see how it is before it is asked again, %s later at the earliest", now.Sub(last.at).Round(time.Second), afterFailure)
	default:
		return ""
	}
}

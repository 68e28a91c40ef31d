package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// view is what a node last heard about all members.
type view struct {
	mu      sync.Mutex
	members []*clusterpb.Health
	heard   time.Time
	leader  string
	// led is when the leader itself has answered.
	led time.Time
	// offset is this node's clock minus the median of all.
	offset time.Duration
}

// Take keeps an answer that came at now, when this node's clock showed clock;
// roundTrip is how long it took.
func (v *view) Take(r *clusterpb.HeartbeatResponse, now, clock time.Time, roundTrip time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.members, v.heard, v.leader = r.GetMembers(), now, ""
	for _, h := range r.GetMembers() {
		if h.GetRole() == roleLeader {
			v.leader = h.GetReport().GetNode()
		}
	}
	if r.GetClockMs() != 0 {
		v.led = now
		mine := clock.Round(0).Add(-roundTrip / 2).Sub(time.UnixMilli(r.GetClockMs()))
		v.offset = mine - time.Duration(r.GetMedianOffsetMs())*time.Millisecond
	}
}

// Members are copies of what was heard, aged to now.
func (v *view) Members(now time.Time) []*clusterpb.Health {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make([]*clusterpb.Health, 0, len(v.members))
	for _, h := range v.members {
		h = proto.CloneOf(h)
		if h.GetLastContactMs() >= 0 {
			h.LastContactMs += now.Sub(v.heard).Milliseconds()
		}
		out = append(out, h)
	}
	return out
}

// Leader is who led, unless that was heard longer than limit ago.
func (v *view) Leader(now time.Time, limit time.Duration) (string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.leader, v.leader != "" && now.Sub(v.heard) <= limit
}

// FirstHand is who led, unless the leader itself last said so longer than limit
// ago. Only that is passed on: what others have heard would go round for ever.
func (v *view) FirstHand(now time.Time, limit time.Duration) (string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.leader == "" || now.Sub(v.led) > limit {
		return "", false
	}
	return v.leader, true
}

// Offset is this node's clock minus the median of the members' clocks.
func (v *view) Offset() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.offset
}

// SetOffset is the leader's, who asks nobody.
func (v *view) SetOffset(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.offset = d
}

// Announced tells the node that Local.Report names a newer announced revision:
// the leader hears of it at once.
func (n *Node) Announced() { n.reporting.Ring() }

// ClockOffset is this node's clock minus the median of the members' clocks, as
// of the last heartbeat; 0 before the first.
func (n *Node) ClockOffset() time.Duration { return n.view.Offset() }

// Health is how all members are: fresh on the leader, elsewhere as it last
// told, and without one as this node knows by itself. It is empty on a node
// without a cluster.
func (n *Node) Health() []*clusterpb.Health {
	e := n.engine.Load()
	switch {
	case e == nil:
		return nil
	case e.raft.State() == raft.Leader:
		n.reportHere(e)
		return n.healthHere(e)
	}
	if _, known := n.leaderOf(e); !known {
		return n.healthAlone(e)
	}
	return n.view.Members(time.Now())
}

// beat reports to the leader as often as the timing says, and whenever there is
// something new to tell.
func (n *Node) beat(ctx context.Context, e *engine) {
	tick := time.NewTicker(n.cfg.Timing.Report)
	defer tick.Stop()
	next := 0 // whom to ask for the leader
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.reporting:
		}
		leader, known := n.leaderOf(e)
		switch {
		case e.raft.State() == raft.Leader:
			n.reportHere(e)
		case known && leader != n.cfg.Name:
			n.tell(ctx, e, leader)
		default:
			next = n.askAround(ctx, e, next)
		}
	}
}

// reportHere is the leader's report to itself.
func (n *Node) reportHere(e *engine) {
	now := time.Now()
	n.sightings.SawLeader(now)
	clock := n.cfg.Clock()
	r := n.ownReport(clock)
	told := n.demand.Take(r, now)
	if n.health.Put(r, now, clock) {
		n.rounds.Ring()
	}
	n.share(told, n.demand.All(told, now), len(n.State().Members()))
	n.view.SetOffset(-n.health.MedianOffset(now))
	n.view.Take(&clusterpb.HeartbeatResponse{Members: n.healthHere(e)}, now, clock, 0)
}

// tell sends this node's report to a node and takes the answer for the view.
func (n *Node) tell(ctx context.Context, e *engine, node string) {
	conn, err := n.cfg.Door.Dial(ctx, node)
	if err != nil {
		n.sightings.Failed(node, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*n.cfg.Timing.Report)
	defer cancel()
	began, report := time.Now(), n.ownReport(n.cfg.Clock())
	answer, err := clusterpb.NewControlClient(conn).Heartbeat(ctx, &clusterpb.HeartbeatRequest{Report: report})
	if err != nil {
		n.sightings.Failed(node, reachText(node, err))
		n.log.Debug("heartbeat", "to", node, "err", err)
		return
	}
	if d := answer.GetDismissal(); d != nil {
		n.dismissed(d, node)
		return
	}
	now := time.Now()
	n.view.Take(answer, now, n.cfg.Clock(), now.Sub(began))
	n.mind(e, answer)
	n.sightings.Saw(node, now)
	var announced []*clusterpb.Announcement
	for _, h := range answer.GetMembers() {
		if a := announcementIn(h.GetReport()); a.Stamp != 0 {
			announced = append(announced, a)
		}
		if h.GetLastContactMs() >= 0 {
			n.sightings.Saw(h.GetReport().GetNode(), now.Add(-time.Duration(h.GetLastContactMs())*time.Millisecond))
		}
	}
	n.learn(announced)
	if answer.GetClockMs() != 0 {
		n.sightings.SawLeader(now)
		own := toldDemand{now, report.GetDemandTenants(), report.GetDemandSamples()}
		n.share(own, answer.GetDemandSamples(), len(answer.GetMembers()))
	}
}

// askAround tells one member after the other, while Raft names no leader: one
// of them may know it, and hears where this node is now.
func (n *Node) askAround(ctx context.Context, e *engine, next int) int {
	var others []string
	for _, name := range n.memberNames() {
		if name != n.cfg.Name {
			others = append(others, name)
		}
	}
	if len(others) == 0 {
		return 0
	}
	n.tell(ctx, e, others[next%len(others)])
	return (next + 1) % len(others)
}

// memberNames are the members of the state, or those that the join told of.
func (n *Node) memberNames() []string {
	st := n.State()
	if st.Cluster() == nil {
		return n.peers.Names()
	}
	names := make([]string, 0, len(st.Members()))
	for _, m := range st.Members() {
		names = append(names, m.GetName())
	}
	return names
}

// ownReport is what this node says of itself.
func (n *Node) ownReport(clock time.Time) *clusterpb.Report {
	// The applied revision is read before the state: a hash of a later one
	// would look like divergence.
	applied := n.fsm.Applied()
	st := n.State()
	r := &clusterpb.Report{
		Node:      n.cfg.Name,
		Applied:   applied,
		StoreId:   n.cfg.StoreID[:],
		Version:   n.cfg.Version,
		ClockMs:   clock.UnixMilli(),
		Ready:     true,
		Announced: applied,
		Process:   n.process,
	}
	me := n.announcement()
	r.Address, r.AddressStamp, r.ClusterIncarnation = me.GetAddress(), me.GetStamp(), st.Cluster().GetIncarnation()
	if st.Revision() == applied && n.fsm.Doubted() == "" {
		r.StateHash = st.Hash()
	}
	if c := n.fsm.checked.Load(); c != nil {
		r.CheckRevision, r.CheckHash = c.revision, c.hash
	}
	r.ClusterVersionMin, r.ClusterVersionMax = n.fsm.speaks.oldest, n.fsm.speaks.newest
	r.DiskFreeBytes = max(n.disk.Left(), 0)
	if at, _ := n.schedule.Last(); !at.IsZero() {
		r.SnapshotMs = at.UnixMilli()
	}
	r.Guards = n.guards(time.Now())
	if c := n.credentials(); c != nil {
		r.Incarnation = c.Identity.Incarnation
	}
	n.reportCredentials(r)
	if n.cfg.Local != nil {
		r.Announced = 0
		n.cfg.Local.Report(r)
	}
	if lines := n.Ailments(); len(lines) > 0 && r.GetReady() {
		r.Ready, r.NotReadyReason = false, lines[0]
	}
	return r
}

// guards is how this node's own safeguards are.
func (n *Node) guards(now time.Time) *clusterpb.Guards {
	g := &clusterpb.Guards{
		RaftFreeBytes: max(n.disk.Left(), 0), RaftWantedBytes: n.disk.full, BallastGivenUp: n.disk.missing() > 0,
		StalledMs: n.pulse.Silent(now).Milliseconds(), Halted: n.fsm.Halted(), Healing: n.fsm.Doubted(),
	}
	if c := n.credentials(); c != nil {
		g.CertificateExpiresMs = c.Expires().UnixMilli()
	}
	return g
}

package cluster

import (
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Roles of a member, as health and people call them.
const (
	roleLeader   = "leader"
	roleVoter    = "voter"
	roleNonVoter = "non-voter"
)

// hear takes a member's report. Only a leader remembers how members are; every
// node remembers where they are.
func (n *Node) hear(e *engine, r *clusterpb.Report) *clusterpb.HeartbeatResponse {
	now := time.Now()
	n.sightings.Saw(r.GetNode(), now)
	told := n.demand.Take(r, now)
	if n.health.Put(r, now, n.cfg.Clock()) {
		n.rounds.Ring()
	}
	n.learn([]*clusterpb.Announcement{announcementIn(r)})
	if e.raft.State() != raft.Leader {
		return n.hint(e, now)
	}
	n.sightings.SawLeader(now)
	return &clusterpb.HeartbeatResponse{
		ClockMs:        n.cfg.Clock().UnixMilli(),
		Revision:       n.fsm.Applied(),
		Members:        n.healthHere(e),
		MedianOffsetMs: n.health.MedianOffset(now).Milliseconds(),
		DemandSamples:  n.demand.All(told, now),
	}
}

// announcementIn is what a report says of its node's address.
func announcementIn(r *clusterpb.Report) *clusterpb.Announcement {
	return &clusterpb.Announcement{Node: r.GetNode(), Incarnation: r.GetIncarnation(), Address: r.GetAddress(), Stamp: r.GetAddressStamp()}
}

// hint is the answer of a node that does not lead: who does, as far as it knows.
func (n *Node) hint(e *engine, now time.Time) *clusterpb.HeartbeatResponse {
	members := n.view.Members(now)
	leader, known := n.view.FirstHand(now, n.cfg.Timing.Fresh)
	if _, id := e.raft.LeaderWithID(); id != "" {
		leader, known = nodeOf(id), true
	}
	for _, h := range members {
		if h.GetRole() == roleLeader && h.GetReport().GetNode() != leader {
			h.Role = roleVoter
		}
		if known && h.GetReport().GetNode() == leader {
			h.Role = roleLeader
			known = false
		}
	}
	if known {
		members = append(members, &clusterpb.Health{
			Report: &clusterpb.Report{Node: leader}, LastContactMs: -1, Role: roleLeader,
		})
	}
	return &clusterpb.HeartbeatResponse{Revision: n.fsm.Applied(), Members: members}
}

// healthHere is the leader's knowledge of all members.
func (n *Node) healthHere(e *engine) []*clusterpb.Health {
	now, st := time.Now(), n.State()
	roles := n.roles(e)
	found := n.compare(e, now)
	out := make([]*clusterpb.Health, 0, len(st.Members()))
	for _, m := range st.Members() {
		h := &clusterpb.Health{Report: &clusterpb.Report{Node: m.GetName()}, LastContactMs: -1, Role: roles[m.GetName()]}
		if h.Role == "" {
			h.Role = roleNonVoter
		}
		if c, ok := n.health.Of(m); ok {
			h.Report = proto.CloneOf(c.report)
			h.LastContactMs = max(now.Sub(c.heard).Milliseconds(), 0)
			h.ClockOffsetMs = c.offset.Milliseconds()
		}
		if m.GetName() == n.cfg.Name {
			h.LastContactMs = 0
		}
		h.Diverged, h.Disputed = found.diverged[m.GetName()], found.disputed[m.GetName()]
		if h.Diverged != "" {
			h.Report.Ready, h.Report.NotReadyReason = false, h.Diverged
		}
		out = append(out, h)
	}
	return out
}

// roles are the servers of Raft's configuration by node.
func (n *Node) roles(e *engine) map[string]string {
	roles := map[string]string{}
	for _, server := range e.raft.GetConfiguration().Configuration().Servers {
		switch {
		case server.ID == e.local && e.raft.State() == raft.Leader:
			roles[nodeOf(server.ID)] = roleLeader
		case server.Suffrage == raft.Voter:
			roles[nodeOf(server.ID)] = roleVoter
		default:
			roles[nodeOf(server.ID)] = roleNonVoter
		}
	}
	return roles
}

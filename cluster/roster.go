package cluster

import (
	"slices"

	"github.com/hashicorp/raft"
)

// Roster compares Raft's servers, as this node knows them, with the members.
type Roster struct {
	// Voters is how many servers vote, Wanted how many should.
	Voters, Wanted int
	// Absent are members that are no server, Stray servers that are no member.
	Absent, Stray []string
}

// Roster is empty on a node without a cluster.
func (n *Node) Roster() Roster {
	var r Roster
	e := n.engine.Load()
	if e == nil {
		return r
	}
	st := n.State()
	members := map[raft.ServerID]string{}
	active := 0
	for _, m := range st.Members() {
		members[serverOf(st, m)] = m.GetName()
		if eligible(m) {
			active++
		}
	}
	r.Wanted = votersWanted(active)
	for _, s := range e.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			r.Voters++
		}
		if _, ok := members[s.ID]; !ok {
			r.Stray = append(r.Stray, nodeOf(s.ID))
		}
		delete(members, s.ID)
	}
	for _, name := range members {
		r.Absent = append(r.Absent, name)
	}
	slices.Sort(r.Absent)
	slices.Sort(r.Stray)
	return r
}

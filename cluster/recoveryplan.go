package cluster

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Survivor is a member as a recovery sees it.
type Survivor struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
	// Here is the node that was asked.
	Here bool `json:"here"`
	// Answers says whether the node does, Why it does not.
	Answers bool   `json:"answers"`
	Why     string `json:"why,omitempty"`
	// LastTerm and LastIndex are the end of its log, Incarnation the cluster's in
	// its state.
	LastTerm    uint64 `json:"last_term,omitempty"`
	LastIndex   uint64 `json:"last_index,omitempty"`
	Revision    uint64 `json:"revision,omitempty"`
	Incarnation uint64 `json:"incarnation,omitempty"`
	// Leader is whom it takes for the leader.
	Leader string `json:"leader,omitempty"`
}

// RecoveryPlan is what is left of a cluster, and what a recovery here would do.
type RecoveryPlan struct {
	Cluster     string     `json:"cluster"`
	Incarnation uint64     `json:"incarnation"`
	Node        string     `json:"node"`
	Members     []Survivor `json:"members"`
	// Newest is the node that answers with the newest control state.
	Newest string `json:"newest"`
	// Loss says what would be lost.
	Loss string `json:"loss"`
	// Refusal is why it must not be done here; empty: it may.
	Refusal string `json:"refusal,omitempty"`
}

// RecoveryPlan asks all members how far their control state reaches. It changes
// nothing, and needs no leader.
func (n *Node) RecoveryPlan(ctx context.Context) (*RecoveryPlan, error) {
	e := n.engine.Load()
	st := n.State()
	if e == nil || st.Cluster() == nil {
		return nil, n.outside()
	}
	p := &RecoveryPlan{Cluster: st.Cluster().GetName(), Incarnation: st.Cluster().GetIncarnation(), Node: n.cfg.Name}
	voters := map[string]bool{}
	for _, s := range e.raft.GetConfiguration().Configuration().Servers {
		voters[nodeOf(s.ID)] = s.Suffrage == raft.Voter
	}
	p.Members = make([]Survivor, len(st.Members()))
	var wg sync.WaitGroup
	for i, m := range st.Members() {
		wg.Go(func() {
			p.Members[i] = n.survivor(ctx, e, m)
			p.Members[i].Voter = voters[m.GetName()]
		})
	}
	wg.Wait()
	p.judge()
	if why := n.fsm.Doubted(); why != "" && p.Refusal == "" {
		// The log lacks what this node has served by.
		p.Refusal = fmt.Sprintf("the control state of %s was being fetched anew (%s) and is not whole: recover on another node, or stop this one and put back what it set aside, %s or %s",
			n.cfg.Name, why, asideDir(n.raftDir()), filepath.Join(n.cfg.Dir, "raft.bak-<time>"))
	}
	return p, nil
}

// survivor is what a member says of its log.
func (n *Node) survivor(ctx context.Context, e *engine, m *clusterpb.Member) Survivor {
	s := Survivor{Node: m.GetName(), Here: m.GetName() == n.cfg.Name}
	s.Address, _ = n.AddressOf(s.Node)
	if s.Here {
		s.take(n.logHere(e))
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	conn, err := n.cfg.Door.Dial(ctx, s.Node)
	if err == nil {
		err = connected(ctx, conn)
	}
	var answer *clusterpb.LogResponse
	if err == nil {
		answer, err = clusterpb.NewControlClient(conn).Log(ctx, &clusterpb.LogRequest{})
	}
	if err != nil {
		s.Why = "unreachable: " + err.Error()
		if at := n.sightings.Last(s.Node); !at.IsZero() {
			s.Why += ", last heard " + at.UTC().Format(time.RFC3339)
		}
		return s
	}
	s.take(answer)
	return s
}

func (s *Survivor) take(r *clusterpb.LogResponse) {
	s.Answers = true
	s.LastTerm, s.LastIndex, s.Revision = r.GetLastTerm(), r.GetLastIndex(), r.GetRevision()
	s.Incarnation, s.Leader = r.GetClusterIncarnation(), r.GetLeader()
}

// logHere is how far this node's control state reaches.
func (n *Node) logHere(e *engine) *clusterpb.LogResponse {
	r := &clusterpb.LogResponse{
		Node: n.cfg.Name, LastIndex: e.raft.LastIndex(), Revision: n.fsm.Applied(),
		ClusterIncarnation: n.State().Cluster().GetIncarnation(), Role: strings.ToLower(e.raft.State().String()),
	}
	r.LastTerm, _ = strconv.ParseUint(e.raft.Stats()["last_log_term"], 10, 64)
	// Raft forgets a silent leader by itself; what others have said lasts longer.
	if _, id := e.raft.LeaderWithID(); id != "" {
		r.Leader = nodeOf(id)
	}
	return r
}

// judge says which node has the newest control state, what is lost, and whether
// a recovery on this node is right.
func (p *RecoveryPlan) judge() {
	var here, newest Survivor
	var lost, answer []string
	voters, leader := 0, ""
	for _, s := range p.Members {
		if s.Here {
			here = s
		}
		if s.Voter {
			voters++
		}
		switch {
		case !s.Answers:
			lost = append(lost, s.Node)
			continue
		case s.Voter:
			answer = append(answer, s.Node)
		}
		leader = cmp.Or(leader, s.Leader)
		if newest.Node == "" || fresher(s, newest) || s.Here && !fresher(newest, s) {
			newest = s
		}
	}
	p.Newest = newest.Node
	p.Loss = "nothing: every member answers"
	if len(lost) > 0 {
		p.Loss = fmt.Sprintf("changes of the control state that were acknowledged after index %d and are known to %s only; no samples", newest.LastIndex, strings.Join(lost, ", "))
	}
	switch {
	case here.Node == "":
		p.Refusal = p.Node + " is no member"
	case newest.Incarnation > here.Incarnation:
		p.Refusal = fmt.Sprintf("%s has incarnation %d of the cluster already, this node %d: `muster cluster join --reset-control-state` here", newest.Node, newest.Incarnation, here.Incarnation)
	case leader != "":
		p.Refusal = fmt.Sprintf("the cluster has a leader, %s: there is nothing to recover", leader)
	case len(answer) > voters/2:
		p.Refusal = fmt.Sprintf("%d of %d voters answer (%s), and %d elect a leader within seconds: wait, or look why they do not, `muster cluster status`",
			len(answer), voters, strings.Join(answer, ", "), voters/2+1)
	case newest.Node != here.Node:
		p.Refusal = fmt.Sprintf("%s has a newer control state, %d/%d against %d/%d: recover there", newest.Node, newest.LastTerm, newest.LastIndex, here.LastTerm, here.LastIndex)
	}
}

// fresher compares the ends of two logs as an election does.
func fresher(a, b Survivor) bool {
	return slices.Compare([]uint64{a.Incarnation, a.LastTerm, a.LastIndex}, []uint64{b.Incarnation, b.LastTerm, b.LastIndex}) > 0
}

package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func drain(name string) *clusterpb.Command {
	return &clusterpb.Command{Change: &clusterpb.Command_DrainMember{DrainMember: &clusterpb.DrainMember{Name: name}}}
}

func removal(name string) *clusterpb.Command {
	return &clusterpb.Command{Change: &clusterpb.Command_BeginRemoval{BeginRemoval: &clusterpb.BeginRemoval{Name: name}}}
}

// empty says of a leaver what its own node would: everything of it is in the
// bucket. It is repeated until the state takes it.
func (b *bed) empty(name string) {
	b.t.Helper()
	b.eventually(name+" is emptied", func() string {
		n := b.leader()
		m := n.node.State().Member(name)
		if m == nil {
			return ""
		}
		answer, err := n.node.Propose(n.ctx(), &clusterpb.Command{Change: &clusterpb.Command_EmptyStore{
			EmptyStore: &clusterpb.EmptyStore{Store: m.GetStore(), InBucket: true},
		}})
		if err != nil {
			return err.Error()
		}
		return answer.GetRefusal().GetMessage()
	})
}

// gone waits until a node is neither a member nor one of Raft's servers, on all
// that run.
func (b *bed) gone(name string) {
	b.t.Helper()
	b.eventually(name+" is gone", func() string {
		for _, n := range b.running() {
			if n.name == name {
				continue
			}
			if n.node.State().Member(name) != nil {
				return fmt.Sprintf("a member still on %s: %v", n.name, n.node.State().RemovalOf(name, n.node.Health()))
			}
			for _, s := range n.node.engine.Load().raft.GetConfiguration().Configuration().Servers {
				if nodeOf(s.ID) == name {
					return "one of raft's servers still"
				}
			}
		}
		return ""
	})
}

func (b *bed) named(name string) *bedNode {
	return b.nodes[slices.IndexFunc(b.nodes, func(n *bedNode) bool { return n.name == name })]
}

func TestTheLeaderItselfIsRemoved(t *testing.T) {
	b := newBed(t)
	b.cluster(4, InitRequest{})
	b.settled()
	b.voters(3)
	leader := b.leader()
	ask := b.nodes[(slices.Index(b.nodes, leader)+1)%4]
	ask.propose(removal(leader.name))
	b.eventually("another leads", func() string {
		if now, _ := ask.node.Leader(); now != leader.name && now != "" {
			return ""
		}
		return leader.name + " leads"
	})
	leader.reachesEmptiness()
	// It hands over first: a change that it makes just before is known to it alone
	// until another leads, and writes wait for that.
	st := ask.node.State()
	begun := uint64(0)
	for _, ev := range st.Events(0) {
		if ev.GetAction() == "member removal begun" {
			begun = ev.GetRevision()
		}
		if begun != 0 && ev.GetActor() == "leader" && ev.GetSource() == leader.name {
			t.Errorf("%s led on after its removal began at %d: %s at %d", leader.name, begun, ev.GetAction(), ev.GetRevision())
		}
	}
	b.empty(leader.name)
	store := storeOf(st.Member(leader.name).GetStore())
	leader.stop()
	b.gone(leader.name)
	b.voters(3)
	b.settled()
	b.agree()
	if now := ask.node.State(); now.Lost(store) || now.Duties(store).Slots > 0 || now.Removed(leader.name).GetForced() {
		t.Errorf("its store is %v", now.Store(store))
	}
}

// reachesEmptiness waits until the node holds no slot and no open epoch.
func (n *bedNode) reachesEmptiness() {
	n.bed.t.Helper()
	n.bed.eventually("all slots of "+n.name+" have moved", func() string {
		for _, o := range n.bed.running() {
			st := o.node.State()
			if m := st.Member(n.name); m != nil {
				if d := st.Duties(storeOf(m.GetStore())); d.Slots+d.Open > 0 {
					return fmt.Sprintf("%s says %+v: %v", o.name, d, st.RemovalOf(n.name, o.node.Health()))
				}
			}
		}
		return ""
	})
}

// TestTheNextLeaderFinishesARemoval: the one under which it began is killed.
func TestTheNextLeaderFinishesARemoval(t *testing.T) {
	b := newBed(t)
	b.cluster(5, InitRequest{})
	b.settled()
	b.voters(3)
	leader := b.leader()
	leaver := b.nodes[4]
	if leaver == leader {
		leaver = b.nodes[3]
	}
	leader.propose(removal(leaver.name))
	leader.stop()
	next := b.leader()
	if next == leader {
		t.Fatal("a stopped node leads")
	}
	leader.start()
	leaver.reachesEmptiness()
	if r := next.node.State().RemovalOf(leaver.name, next.node.Health()); r != nil && r.Stage != StageEmptying {
		t.Errorf("before it is emptied the removal is %v", r)
	}
	b.empty(leaver.name)
	b.gone(leaver.name)
	leaver.stop()
	b.settled()
	b.agree()
}

func TestADrainEndsWithTheProcess(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.settled()
	b.voters(3)
	leader := b.leader()
	ask := b.nodes[(slices.Index(b.nodes, leader)+1)%3]
	ask.propose(drain(leader.name))
	b.eventually("the drained leader may be stopped", func() string {
		d := ask.node.State().DrainOf(leader.name, ask.node.Health())
		if d == nil {
			return "it does not drain"
		}
		return strings.Join(d.Waits, ", ")
	})
	if now, _ := ask.node.Leader(); now == leader.name || !leader.node.Drains() {
		t.Errorf("%s leads, and %s drains: %v", now, leader.name, leader.node.Drains())
	}
	// Nobody may choose it meanwhile, and no second one may drain.
	// A leader that has just begun has to hear of them first.
	b.eventually("leadership is refused to the draining node", func() string {
		_, err := ask.node.HandLeadership(ask.ctx(), leader.name, false)
		if err == nil {
			b.t.Fatal("a draining node leads")
		}
		if !strings.Contains(err.Error(), "is draining") {
			return err.Error()
		}
		return ""
	})
	second := b.nodes[(slices.Index(b.nodes, leader)+2)%3]
	b.eventually("a second drain is refused", func() string {
		answer, err := ask.node.Propose(ask.ctx(), drain(second.name))
		if err != nil {
			return err.Error()
		}
		if answer.GetRefusal() == nil {
			b.t.Fatal("two of three drain")
		}
		if m := answer.GetRefusal().GetMessage(); !strings.Contains(m, leader.name+" is draining") {
			return m
		}
		return ""
	})
	leader.stop()
	leader.start()
	if leader.node.Drains() {
		t.Error("the next process drains, too")
	}
	b.eventually("it is active again", func() string {
		if s := ask.node.State().Member(leader.name).GetState(); s != clusterpb.MemberState_ACTIVE {
			return s.String()
		}
		return ""
	})
	b.agree()
}

func TestNoDrainBesideASilentNode(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.settled()
	b.voters(3)
	leader := b.leader()
	silent := b.nodes[(slices.Index(b.nodes, leader)+1)%3]
	other := b.nodes[(slices.Index(b.nodes, leader)+2)%3]
	silent.stop()
	b.eventually("a drain is refused for the silent node", func() string {
		answer, err := other.node.Rehearse(other.ctx(), drain(other.name))
		if err != nil {
			return err.Error()
		}
		if m := answer.GetRefusal().GetMessage(); strings.Contains(m, silent.name+" was last heard") {
			return ""
		}
		return fmt.Sprintf("answered %v", answer)
	})
	for what, cmd := range map[string]*clusterpb.Command{
		"no process to drain":    drain(silent.name),
		"cannot hand its data":   removal(silent.name),
		"ends by itself":         {Change: &clusterpb.Command_RemoveMember{RemoveMember: &clusterpb.RemoveMember{Name: other.name}}},
		"2 nodes for 3 replicas": removal(other.name),
	} {
		b.eventually("refused: "+what, func() string {
			answer, err := other.node.Propose(other.ctx(), cmd)
			if err != nil {
				return err.Error()
			}
			if m := answer.GetRefusal().GetMessage(); !strings.Contains(m, what) {
				return fmt.Sprintf("answered %v", answer)
			}
			return ""
		})
	}
}

func TestLeadershipIsHandedOverFromAnyNode(t *testing.T) {
	b := newBed(t)
	b.cluster(4, InitRequest{})
	b.voters(3)
	leader := b.leader()
	var voters []*bedNode
	var without *bedNode
	for _, s := range leader.node.engine.Load().raft.GetConfiguration().Configuration().Servers {
		switch n := b.named(nodeOf(s.ID)); {
		case s.Suffrage != 0:
			without = n
		case n != leader:
			voters = append(voters, n)
		}
	}
	to := voters[0]
	if would, err := without.node.HandLeadership(without.ctx(), to.name, true); err != nil || would != to.name {
		t.Fatalf("a rehearsal names %q: %v", would, err)
	}
	if now, _ := without.node.Leader(); now != leader.name {
		t.Fatalf("a rehearsal made %s lead", now)
	}
	if now, err := without.node.HandLeadership(without.ctx(), to.name, false); err != nil || now != to.name {
		t.Fatalf("%q leads: %v", now, err)
	}
	if now, err := to.node.HandLeadership(to.ctx(), to.name, false); err != nil || now != to.name {
		t.Errorf("who leads already: %q, %v", now, err)
	}
	for name, want := range map[string]string{"n9": "is no member", without.name: "has no vote"} {
		var refused *RefusedError
		if _, err := voters[1].node.HandLeadership(voters[1].ctx(), name, false); !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("to %s: %v, want %q", name, err, want)
		}
	}
	b.eventually("another voter takes over", func() string {
		now, err := without.node.HandLeadership(without.ctx(), "", false)
		if err != nil || now == to.name {
			return fmt.Sprintf("%s leads: %v", now, err)
		}
		return ""
	})
}

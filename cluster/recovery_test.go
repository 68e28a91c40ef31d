package cluster

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

func (n *bedNode) plan() *RecoveryPlan {
	n.bed.t.Helper()
	p, err := n.node.RecoveryPlan(n.ctx())
	if err != nil {
		n.bed.t.Fatal(err)
	}
	return p
}

func (n *bedNode) recover() *RecoverResult {
	n.bed.t.Helper()
	res, err := n.node.Recover(n.ctx(), RecoverRequest{Confirm: n.node.State().Cluster().GetName(), Actor: "alice"})
	if err != nil {
		n.bed.t.Fatalf("recover on %s: %v", n.name, err)
	}
	return res
}

// nodeTokenText makes a join token.
func (n *bedNode) nodeTokenText() string {
	n.bed.t.Helper()
	ca, err := n.node.pki.CA()
	if err != nil {
		n.bed.t.Fatal(err)
	}
	res := &InitResult{}
	tokens, err := res.addTokens(ca, InitRequest{JoinTokens: 1}, time.Now())
	if err != nil {
		n.bed.t.Fatal(err)
	}
	n.propose(&clusterpb.Command{Change: &clusterpb.Command_CreateToken{CreateToken: &clusterpb.CreateToken{Token: tokens[0]}}})
	return res.JoinTokens[0]
}

// rejoin gives the node's control state up and joins again.
func (n *bedNode) rejoin(via *bedNode) {
	n.bed.t.Helper()
	err := n.node.Join(n.ctx(), JoinRequest{Token: via.nodeTokenText(), Address: via.address, ResetControlState: true})
	if err != nil {
		n.bed.t.Fatalf("join of %s: %v", n.name, err)
	}
}

// Two of three are lost. The third goes on alone, with all that was told to
// anybody; the others come back by accident, and are strangers; then they join
// again, with the stores that they had.
func TestAClusterIsRecoveredFromOneNode(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{Name: "test", ReplicationFactor: 3})
	b.voters(3)
	b.settled()
	n1, n2, n3 := b.nodes[0], b.nodes[1], b.nodes[2]
	n1.reaches("n1", "n2", "n3")
	if p := n3.plan(); !strings.Contains(p.Refusal, "the cluster has a leader") || p.Loss != "nothing: every member answers" {
		t.Errorf("with a leader: %+v", p)
	}
	n1.propose(putTenant("kept"))
	b.agree()
	before := n3.node.State()
	n1.stop()
	n2.stop()
	b.eventually("nobody leads", func() string { return n3.plan().Refusal })
	why := "it differed"
	n3.node.fsm.doubted.Store(&why)
	if _, err := n3.node.Recover(n3.ctx(), RecoverRequest{Confirm: "test"}); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("recovered with a part of the log: %v", err)
	}
	n3.node.fsm.doubted.Store(nil)
	p := n3.plan()
	if p.Newest != "n3" || !strings.Contains(p.Loss, "known to n1, n2 only; no samples") || p.Members[0].Answers || p.Members[0].Why == "" {
		t.Errorf("plan %+v", p)
	}
	if _, err := n3.node.Recover(n3.ctx(), RecoverRequest{Confirm: "prod"}); err == nil || !strings.Contains(err.Error(), "--confirm test") {
		t.Errorf("recovered without confirmation: %v", err)
	}

	res := n3.recover()
	if res.Incarnation != 2 || strings.Join(res.Rejoin, " ") != "n1 n2" || !strings.HasPrefix(filepath.Base(res.Backup), "raft.bak-") {
		t.Errorf("result %+v", res)
	}
	if remains, err := OpenRemains(n3.dir); err == nil {
		remains.Close()
		t.Error("the store is not open")
	}
	if _, err := os.Stat(filepath.Join(res.Backup, "raft.db")); err != nil {
		t.Error(err)
	}
	st := n3.node.State()
	switch {
	case st.Tenant("kept").GetIncarnation() != before.Tenant("kept").GetIncarnation():
		t.Error("a tenant is lost")
	case !st.LostHistory(before.Revision() + 100), st.LostHistory(before.Tenant("kept").GetIncarnation()), st.LostHistory(st.Revision()):
		t.Errorf("lost history %v", st.Cluster().GetLostHistory())
	case st.Lost(ring.Store(st.Member("n1").GetStore())):
		t.Error("the store of n1 is given up")
	}
	n3.propose(putTenant("new"))

	// Its own memory is that of the new incarnation.
	n3.restart()
	b.eventually("n3 leads after a restart", func() string {
		if l, _ := n3.node.Leader(); l != "n3" {
			return "leader " + l
		}
		return ""
	})
	if got := n3.node.State().Cluster().GetIncarnation(); got != 2 {
		t.Errorf("incarnation %d after a restart", got)
	}

	n1.start()
	n2.start()
	for _, n := range []*bedNode{n1, n2} {
		m := n3.node.State().Member(n.name)
		creds := n.node.credentials()
		if err := n3.node.authorize(n.name, creds.Identity.Incarnation, m.GetKeyHash()); err == nil {
			t.Errorf("%s is let in with what it had", n.name)
		}
		n.rejoin(n3)
	}
	b.agree()
	b.voters(3)
	n3.reaches("n1", "n2", "n3")
	st = n1.node.State()
	for _, name := range []string{"n1", "n2", "n3"} {
		if was, is := before.Member(name).GetStore(), st.Member(name).GetStore(); was != is {
			t.Errorf("%s had store %d and has %d", name, was, is)
		}
	}
	b.settled()
	for _, n := range []*bedNode{n1, n2} {
		if found, _ := filepath.Glob(filepath.Join(n.dir, "raft.bak-*", "raft.db")); len(found) != 1 {
			t.Errorf("%s keeps %v", n.name, found)
		}
		if found, _ := filepath.Glob(filepath.Join(n.dir, "raft.bak-*", "pki", "ca*.key")); len(found) != 0 {
			t.Errorf("%s keeps a CA's key where nobody takes it away: %v", n.name, found)
		}
	}
	// Raft knows them as other servers, also after a restart.
	n1.restart()
	b.agree()
	b.voters(3)
}

// A member of a healthy cluster may give its control state up: its old server
// loses its vote before the new one begins.
func TestAVoterJoinsAgain(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{Name: "test", ReplicationFactor: 2})
	b.voters(3)
	leader := b.leader()
	n := b.nodes[0]
	if n == leader {
		n = b.nodes[1]
	}
	before := n.node.State().Member(n.name)
	n.rejoin(leader)
	b.agree()
	b.voters(3)
	after := n.node.State().Member(n.name)
	if after.GetStore() != before.GetStore() || after.GetIncarnation() <= before.GetIncarnation() || after.GetServer() == 0 {
		t.Errorf("member %v, it was %v", after, before)
	}
	for _, s := range leader.node.engine.Load().raft.GetConfiguration().Configuration().Servers {
		if nodeOf(s.ID) == n.name && s.ID != serverOf(n.node.State(), after) {
			t.Errorf("the server %s is still there", s.ID)
		}
	}
}

func TestARecoveryIsRefusedWhereAnotherKnowsMore(t *testing.T) {
	row := func(node string, here, answers bool, incarnation, term, index uint64) Survivor {
		return Survivor{Node: node, Voter: true, Here: here, Answers: answers, Incarnation: incarnation, LastTerm: term, LastIndex: index}
	}
	for want, members := range map[string][]Survivor{
		"":                              {row("n1", false, false, 0, 0, 0), row("n2", false, false, 0, 0, 0), row("n3", true, true, 1, 7, 41)},
		"2 of 3 voters answer (n2, n3)": {row("n1", false, false, 0, 0, 0), row("n2", false, true, 1, 7, 40), row("n3", true, true, 1, 7, 41)},
		"n4 has a newer control state, 7/42 against 7/41: recover there": {
			row("n1", false, false, 0, 0, 0), row("n2", false, false, 0, 0, 0), row("n3", true, true, 1, 7, 41),
			{Node: "n4", Answers: true, Incarnation: 1, LastTerm: 7, LastIndex: 42},
		},
		"n2 has incarnation 2 of the cluster already": {row("n1", false, false, 0, 0, 0), row("n2", false, true, 2, 3, 1<<20), row("n3", true, true, 1, 7, 41)},
	} {
		p := &RecoveryPlan{Node: "n3", Members: members}
		p.judge()
		if !strings.Contains(p.Refusal, want) || want == "" && p.Refusal != "" {
			t.Errorf("refused with %q, want %q", p.Refusal, want)
		}
	}
}

// All is lost but a snapshot and one node's samples.
func TestAClusterIsFoundedFromASnapshot(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{Name: "test", ReplicationFactor: 3})
	b.settled()
	n1, n2 := b.nodes[0], b.nodes[1]
	n1.propose(putTenant("kept"))
	n1.propose(&clusterpb.Command{Change: &clusterpb.Command_CreateToken{CreateToken: &clusterpb.CreateToken{
		Token: &clusterpb.Token{Id: "alice", Role: clusterpb.TokenRole_ROLE_ADMIN, Hash: hashOf("alice")},
	}}})
	b.agree()
	var file bytes.Buffer
	if _, err := n1.node.WriteSnapshot(n1.ctx(), &file, true); err != nil {
		t.Fatal(err)
	}
	a, err := ReadArchive(&file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n1.node.Init(n1.ctx(), InitRequest{FromSnapshot: a}); !errors.Is(err, ErrExists) {
		t.Errorf("a member founds a cluster: %v", err)
	}
	for _, n := range b.nodes {
		n.stop()
	}

	n4 := b.add("n4")
	made := n4.init(InitRequest{FromSnapshot: a})
	st := n4.node.State()
	switch c := st.Cluster(); {
	case c.GetName() != "test" || c.GetId() != a.Header.ID || c.GetIncarnation() != 2 || made.Name != "test" || len(made.JoinTokens) != 2:
		t.Errorf("cluster %v, %v", c, made)
	case len(st.Members()) != 1 || st.Removed("n2") == nil:
		t.Errorf("members %v", st.Members())
	case st.Tenant("kept").GetIncarnation() != a.State.Tenant("kept").GetIncarnation():
		t.Error("the tenant is another one now")
	case st.Token("alice") == nil || st.TokenByHash(hashOf("alice")) == nil:
		t.Error("people's tokens are lost")
	case st.Ring(DefaultRing).BelowQuorum() != 64:
		t.Errorf("%d slots are below their quorum", st.Ring(DefaultRing).BelowQuorum())
	}

	// The old n2 comes back with its samples, n3 never does.
	n2.start()
	token := func(i int) JoinRequest { return JoinRequest{Token: made.JoinTokens[i], Address: n4.address} }
	if err := n2.node.Join(n2.ctx(), token(0)); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "--reset-control-state") {
		t.Errorf("joined with control state of before: %v", err)
	}
	again := token(0)
	again.ResetControlState = true
	if err := n2.node.Join(n2.ctx(), again); err != nil {
		t.Fatal(err)
	}
	n5 := b.add("n5")
	if err := n5.node.Join(n5.ctx(), token(1)); err != nil {
		t.Fatal(err)
	}
	b.agree()
	b.settled()
	if got, want := n4.node.State().Member("n2").GetStore(), a.State.Member("n2").GetStore(); got != want {
		t.Errorf("n2 has store %d, it was %d", got, want)
	}
	if old := n4.node.State().Store(ring.Store(a.State.Member("n3").GetStore())); old.GetAwaited() == 0 || old.GetLost() != 0 {
		t.Errorf("the store of n3 is %v", old)
	}
}

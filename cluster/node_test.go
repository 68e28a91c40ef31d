package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func TestInitMakesAClusterOfOneNode(t *testing.T) {
	b := newBed(t)
	n := b.add("n1")
	res := n.init(InitRequest{Name: "prod", Slots: 64, Actor: "root"})
	if len(res.JoinTokens) != 2 {
		t.Errorf("%d join tokens, want 2", len(res.JoinTokens))
	}
	st := n.node.State()
	if got := st.Cluster().GetName(); got != "prod" {
		t.Errorf("cluster %q, want prod", got)
	}
	m := st.Member("n1")
	if m.GetState() != clusterpb.MemberState_ACTIVE || m.GetAddress() != n.address {
		t.Errorf("member %v", m)
	}
	if id := n.node.credentials().Identity; id.Name != "n1" || id.Incarnation != m.GetIncarnation() || id.Cluster != res.ID {
		t.Errorf("certificate of %v, want n1 in incarnation %d of %s", id, m.GetIncarnation(), res.ID)
	}
	if r := st.Ring("default"); r == nil || r.RF() != 3 || r.Table.Slots() != 64 {
		t.Errorf("ring default: %v", r)
	}
	if _, err := n.node.Init(n.ctx(), InitRequest{}); !errors.Is(err, ErrExists) {
		t.Errorf("second init: %v, want ErrExists", err)
	}
	answer := n.propose(putTenant("sre"))
	if !slices.Equal(answer.GetApplied(), []string{"n1"}) || len(answer.GetPending()) > 0 {
		t.Errorf("applied %v, pending %v", answer.GetApplied(), answer.GetPending())
	}
	n.restart()
	if n.node.State().Tenant("sre") == nil {
		t.Error("the tenant is gone after a restart")
	}
	if _, err := n.node.Init(n.ctx(), InitRequest{}); !errors.Is(err, ErrExists) {
		t.Errorf("init after a restart: %v, want ErrExists", err)
	}
}

func TestInitIsRefusedBeforeAnythingIsMade(t *testing.T) {
	b := newBed(t)
	n := b.add("n1")
	var refused *RefusedError
	if _, err := n.node.Init(n.ctx(), InitRequest{Slots: 63}); !errors.As(err, &refused) || refused.Refusal.GetField() != "slots" {
		t.Fatalf("init with 63 slots: %v, want a refusal of slots", err)
	}
	n.restart()
	n.init(InitRequest{Slots: 64})
}

func TestThreeNodesAgree(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{})
	b.voters(3)
	b.settled()
	b.agree()
	for _, n := range nodes {
		n.reaches("n1", "n2", "n3")
	}
	b.agree()
}

func TestAFollowerForwardsOnceAndAnswersWithWhatItApplied(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	leader := b.leader()
	for _, n := range b.nodes {
		if n == leader {
			continue
		}
		cmd := putTenant("of-" + n.name)
		cmd.RequestId = bytes.Repeat([]byte{n.name[1]}, 16)
		first := n.propose(cmd)
		again := n.propose(cmd)
		if first.GetRevision() != again.GetRevision() || first.GetVersion() != again.GetVersion() {
			t.Errorf("the same request id: first %v, again %v", first, again)
		}
		if n.node.State().Revision() < first.GetRevision() {
			t.Errorf("%s answered with revision %d, at %d", n.name, first.GetRevision(), n.node.State().Revision())
		}
	}
	// A refusal is an answer, on every node.
	for _, n := range b.nodes {
		cmd := putTenant("of-n2")
		cmd.ExpectedVersion = proto.Int64(1)
		answer, err := n.node.Propose(n.ctx(), cmd)
		if err != nil || answer.GetRefusal().GetKind() != clusterpb.Refusal_CONFLICT_VERSION {
			t.Errorf("%s: %v, %v; want a conflict of versions", n.name, answer, err)
		}
	}
}

func TestABarrierSeesWhatWasAnsweredElsewhere(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{})
	for i := range 20 {
		writer, reader := nodes[i%3], nodes[(i+1)%3]
		id := fmt.Sprintf("t%d", i)
		// The leader's answer does not wait for the reader here.
		if _, err := writer.node.Propose(writer.ctx(), putTenant(id)); err != nil {
			t.Fatal(err)
		}
		rev, err := reader.node.Barrier(reader.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if st := reader.node.State(); st.Tenant(id) == nil || st.Revision() < rev {
			t.Fatalf("%s does not see %s after a barrier at %d (state at %d)", reader.name, id, rev, st.Revision())
		}
	}
}

func TestBarriersAreShared(t *testing.T) {
	b := newBed(t)
	n := b.cluster(1, InitRequest{})[0]
	before := n.node.engine.Load().raft.LastIndex()
	var wg sync.WaitGroup
	const readers = 200
	for range readers {
		wg.Go(func() {
			if _, err := n.node.Barrier(n.ctx()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := n.node.engine.Load().raft.LastIndex() - before; got >= readers {
		t.Errorf("%d readers wrote %d log entries", readers, got)
	}
}

func TestEveryNodeComesBackWithItsState(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{})
	b.settled()
	b.voters(3)
	for i := range 30 {
		nodes[i%3].propose(putTenant(fmt.Sprintf("t%d", i)))
	}
	b.agree()
	for _, n := range nodes {
		before := n.node.State()
		n.restart()
		if st := n.node.State(); st.Revision() < before.Revision() {
			t.Errorf("%s came back at %d, was at %d", n.name, st.Revision(), before.Revision())
		}
		b.leader()
		nodes[0].propose(putTenant("after-" + n.name))
	}
	b.agree()

	// All at once; the first of them is alone for a while, without a leader.
	was := map[string]*State{}
	for _, n := range nodes {
		was[n.name] = n.node.State()
		n.stop()
	}
	nodes[1].start()
	st := nodes[1].node.State()
	if st.Revision() != was["n2"].Revision() || st.Hash() != was["n2"].Hash() {
		t.Fatalf("without a leader n2 is at %d (%x), was at %d (%x)", st.Revision(), st.Hash(), was["n2"].Revision(), was["n2"].Hash())
	}
	if _, ok := nodes[1].node.Leader(); ok {
		t.Error("n2 alone claims a leader")
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := nodes[1].node.Propose(short, putTenant("held"))
	var missing *NoLeaderError
	if !errors.As(err, &missing) || !errors.Is(err, ErrNoLeader) {
		t.Fatalf("a change without a leader: %v, want ErrNoLeader", err)
	}
	if len(missing.Voters) != 3 || !strings.Contains(err.Error(), "n1") || !strings.Contains(err.Error(), "n3") {
		t.Errorf("the error names the wrong voters: %v", err)
	}
	// A change that is held until a leader is there is made.
	held := make(chan error, 1)
	go func() {
		_, err := nodes[1].node.Propose(nodes[1].ctx(), putTenant("held"))
		held <- err
	}()
	nodes[0].start()
	nodes[2].start()
	if err := <-held; err != nil {
		t.Errorf("the held change: %v", err)
	}
	b.agree()
	if nodes[2].node.State().Tenant("held") == nil {
		t.Error("the held change is not there")
	}
}

func TestAnotherNodeLeadsWhenTheLeaderIsKilled(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.voters(3)
	old := b.leader()
	old.stop()
	answer := b.running()[0].propose(putTenant("meanwhile"))
	if slices.Contains(answer.GetApplied(), old.name) || !slices.Contains(answer.GetPending(), old.name) {
		t.Errorf("applied %v, pending %v, with %s killed", answer.GetApplied(), answer.GetPending(), old.name)
	}
	if l := b.leader(); l == old {
		t.Error("the killed node leads")
	}
	old.start()
	b.agree()
	if old.node.State().Tenant("meanwhile") == nil {
		t.Error("the old leader has not followed")
	}
}

func TestChangesGoOnWhileLeadersAreKilled(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{})
	b.voters(3)
	stop := make(chan struct{})
	made := make(chan int, 1)
	writer := nodes[0]
	old := b.leader()
	if old == writer {
		writer = nodes[1]
	}
	go func() {
		n := 0
		defer func() { made <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := writer.node.Propose(writer.ctx(), putTenant(fmt.Sprintf("w%d", n))); err != nil {
				t.Errorf("change %d: %v", n, err)
				return
			}
			n++
		}
	}()
	old.stop()
	b.leader()
	before := writer.node.State().Revision()
	b.eventually("changes go on", func() string {
		if writer.node.State().Revision() > before {
			return ""
		}
		return "no newer revision"
	})
	old.start()
	close(stop)
	n := <-made
	b.agree()
	for _, node := range nodes {
		for i := range n {
			if node.node.State().Tenant(fmt.Sprintf("w%d", i)) == nil {
				t.Fatalf("%s lacks the answered change %d of %d", node.name, i, n)
			}
		}
	}
}

func TestLeadershipIsHandedOverWhenRunEnds(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.voters(3)
	old := b.leader()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- old.node.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.eventually("another leads", func() string {
		if l := b.leader(); l != old {
			return ""
		}
		return old.name + " leads still"
	})
	for _, n := range b.nodes {
		err := n.node.TransferLeadership(n.ctx(), "nobody")
		if n == b.leader() && (err == nil || errors.Is(err, ErrNotLeader)) {
			t.Errorf("transfer to nobody: %v", err)
		}
		if n != b.leader() && !errors.Is(err, ErrNotLeader) {
			t.Errorf("transfer on %s: %v, want ErrNotLeader", n.name, err)
		}
	}
}

func TestTheClusterTellsHowItsMembersAre(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.voters(3)
	for _, n := range b.nodes {
		b.eventually(n.name+" knows how all are", func() string {
			health := n.node.Health()
			if len(health) != 3 {
				return fmt.Sprintf("%d members", len(health))
			}
			roles := map[string]int{}
			for _, h := range health {
				roles[h.GetRole()]++
				if h.GetLastContactMs() < 0 || h.GetReport().GetApplied() != n.node.State().Revision() {
					return fmt.Sprintf("%s: %v", h.GetReport().GetNode(), h)
				}
				if !h.GetReport().GetReady() {
					return h.GetReport().GetNotReadyReason()
				}
			}
			if roles[roleLeader] != 1 || roles[roleVoter] != 2 {
				return fmt.Sprint(roles)
			}
			if d := n.node.ClockOffset(); d > time.Second || d < -time.Second {
				return fmt.Sprintf("its clock is %s off", d)
			}
			return ""
		})
	}
}

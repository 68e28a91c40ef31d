package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

func TestATokenLetsOneNodeInAndThatOneAgain(t *testing.T) {
	b := newBed(t)
	n1 := b.add("n1")
	tokens := n1.init(InitRequest{Slots: 64}).JoinTokens
	n2, n3 := b.add("n2"), b.add("n3")
	n2.join(tokens[0], n1)
	n2.join(tokens[0], n1) // harmless
	n2.restart()
	n2.join(tokens[0], n1)

	var refused *RefusedError
	err := n3.node.Join(n3.ctx(), JoinRequest{Token: tokens[0], Address: n1.address})
	if !errors.As(err, &refused) || refused.Refusal.GetKind() != clusterpb.Refusal_DENIED || !strings.Contains(err.Error(), "n2") {
		t.Errorf("n3 with the token of n2: %v, want DENIED, naming n2", err)
	}
	unknown, err := pki.NewToken(n1.node.credentials().CAs.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	err = n3.node.Join(n3.ctx(), JoinRequest{Token: unknown.Text(), Address: n1.address})
	if !errors.As(err, &refused) || refused.Refusal.GetKind() != clusterpb.Refusal_DENIED {
		t.Errorf("n3 with a token that nobody made: %v, want DENIED", err)
	}
	if n1.node.State().Member("n3") != nil {
		t.Error("a refused node is a member")
	}
	// Through a node that has not the CA's key and does not lead.
	n3.join(tokens[1], n2)
	b.agree()
	if err := n3.node.Join(n3.ctx(), JoinRequest{Token: otherCluster(t), Address: n1.address}); !errors.Is(err, ErrExists) {
		t.Errorf("a member with another cluster's token: %v, want ErrExists", err)
	}
}

// otherCluster is a token of a cluster that nobody knows.
func otherCluster(t *testing.T) string {
	t.Helper()
	ca, err := pki.NewCA("c0ffee", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	token, err := pki.NewToken(ca.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	return token.Text()
}

func TestATokenOfAnotherClusterIsNotSent(t *testing.T) {
	b := newBed(t)
	n1 := b.add("n1")
	n1.init(InitRequest{Slots: 64})
	n2 := b.add("n2")
	var mismatch *door.MismatchError
	err := n2.node.Join(n2.ctx(), JoinRequest{Token: otherCluster(t), Address: n1.address})
	if !errors.As(err, &mismatch) {
		t.Errorf("join with another cluster's token: %v, want a mismatch of CAs", err)
	}
}

func TestANodeThatCannotBeReachedIsNoMember(t *testing.T) {
	b := newBed(t)
	n1 := b.add("n1")
	tokens := n1.init(InitRequest{Slots: 64}).JoinTokens
	n2 := b.add("n2")
	n2.node.cfg.Advertise = func() string { return freeAddress(t) }
	var refused *RefusedError
	err := n2.node.Join(n2.ctx(), JoinRequest{Token: tokens[0], Address: n1.address})
	if !errors.As(err, &refused) || refused.Refusal.GetField() != "address" || !strings.Contains(err.Error(), "n2 has reached n1, but n1 cannot reach n2 back at") ||
		!strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), "--advertise-address") {
		t.Fatalf("join at a closed port: %v, want a refusal of the address", err)
	}
	// A port that another joiner listens at, one of a stranger, and the wrong way.
	n3 := b.add("n3")
	for address, says := range map[string]string{n3.address: "without a word", stranger(t): "refused"} {
		n2.node.cfg.Advertise = func() string { return address }
		err = n2.node.Join(n2.ctx(), JoinRequest{Token: tokens[0], Address: n1.address})
		if !errors.As(err, &refused) || refused.Refusal.GetField() != "address" || !strings.Contains(err.Error(), says) && says != "refused" {
			t.Fatalf("join at somebody's address: %v, want a refusal of the address", err)
		}
	}
	err = n2.node.Join(n2.ctx(), JoinRequest{Token: tokens[0], Address: freeAddress(t)})
	if err == nil || !strings.Contains(err.Error(), "n2 cannot reach the member at") || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("join through a closed port: %v", err)
	}
	n2.node.cfg.Advertise = func() string { return n1.address }
	err = n2.node.Join(n2.ctx(), JoinRequest{Token: tokens[0], Address: n1.address})
	if !errors.As(err, &refused) || refused.Refusal.GetField() != "address" {
		t.Fatalf("join at another's address: %v, want a refusal of the address", err)
	}
	if n1.node.State().Member("n2") != nil || len(n1.node.engine.Load().raft.GetConfiguration().Configuration().Servers) != 1 {
		t.Error("a node that cannot be reached left a trace")
	}
	n2.node.cfg.Advertise = func() string { return n2.address }
	n2.join(tokens[0], n1)
}

// stranger is an address where something listens that is no member door.
func stranger(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestSlotsFollowTheNodesThatJoin(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			b := newBed(t)
			n1 := b.add("n1")
			var moves moveWatch
			n1.node.OnChange(moves.see)
			tokens := n1.init(InitRequest{Slots: 256, JoinTokens: nodes}).JoinTokens
			for i := 1; i < nodes; i++ {
				b.add(fmt.Sprintf("n%d", i+1)).join(tokens[i], b.nodes[i-1])
			}
			b.settled()
			b.agree()
			b.voters(3)
			if moves.wrong != "" {
				t.Error(moves.wrong)
			}
			if moves.steps == 0 {
				t.Error("no slot has moved")
			}
		})
	}
}

// moveWatch holds every change of a slot against the rules of a move.
type moveWatch struct {
	steps int
	wrong string
}

func (w *moveWatch) see(c Change) {
	for _, r := range c.New.Rings() {
		old := c.Old.RingByID(r.Spec.GetId())
		if old == nil {
			continue
		}
		for i := range r.Table.Slots() {
			before, after := old.Table.At(i), r.Table.At(i)
			if before.Changed == after.Changed {
				continue
			}
			w.steps++
			come := 0
			for k := range after.Replicas.Len() {
				st := after.Replicas.At(k)
				if before.Replicas.Has(st) {
					continue
				}
				come++
				if m := c.Old.Holder(st); m == nil || m.GetActivated() == 0 {
					w.wrong = fmt.Sprintf("slot %d was given to store %d, which was not active", i, st)
				}
			}
			if come > 1 {
				w.wrong = fmt.Sprintf("slot %d got %d replicas in one step", i, come)
			}
			if !old.Table.Settled(i) {
				w.wrong = fmt.Sprintf("slot %d moved with an open epoch", i)
			}
		}
	}
}

func TestARemovedNodeIsRefusedByName(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(4, InitRequest{})
	b.settled()
	b.voters(3)
	b.agree()
	victim := b.nodes[3]
	if victim == b.leader() {
		victim = b.nodes[2]
	}
	others := slices.DeleteFunc(slices.Clone(nodes), func(n *bedNode) bool { return n == victim })
	store := others[0].node.State().Member(victim.name).GetStore()

	remove := &clusterpb.Command{Actor: "rosa", Change: &clusterpb.Command_RemoveMember{RemoveMember: &clusterpb.RemoveMember{Name: victim.name, Force: true}}}
	answer, err := others[0].node.Propose(others[0].ctx(), remove)
	if err != nil || answer.GetRefusal().GetKind() != clusterpb.Refusal_UNSAFE {
		t.Fatalf("removing a node that runs: %v, %v; want UNSAFE", answer, err)
	}
	victim.stop()
	b.eventually("the stopped node may be removed", func() string {
		answer, err := others[0].node.Propose(others[0].ctx(), remove)
		if err != nil {
			return err.Error()
		}
		return answer.GetRefusal().GetMessage()
	})
	b.settled()
	b.agree()
	st := others[0].node.State()
	if st.Member(victim.name) != nil || !st.Lost(ring.Store(store)) || st.Removed(victim.name) == nil {
		t.Error("the node is not removed")
	}
	b.eventually("raft has forgotten the node", func() string {
		for _, s := range b.leader().node.engine.Load().raft.GetConfiguration().Configuration().Servers {
			if nodeOf(s.ID) == victim.name {
				return string(s.ID)
			}
		}
		return ""
	})
	b.voters(3)

	victim.start()
	id := victim.node.credentials().Identity
	keyHash := victim.node.credentials().KeyHash()
	gone := st.Removed(victim.name)
	want := fmt.Sprintf("node %s was removed at revision %d on %s, by rosa", victim.name, gone.GetRevision(), time.UnixMilli(gone.GetTimeMs()).UTC().Format(time.RFC3339))
	for _, n := range others {
		if err := n.node.authorize(id.Name, id.Incarnation, keyHash); err == nil || err.Error() != want {
			t.Errorf("%s about the removed node: %v, want %q", n.name, err, want)
		}
		conn, err := victim.door.DialALPN(victim.ctx(), door.ProtocolRaft, n.address, n.name)
		if err == nil {
			// TLS lets the client finish first: the refusal shows with the first read.
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		if err == nil {
			t.Errorf("%s lets the removed node in", n.name)
		}
	}
	others[1].propose(putTenant("goes-on"))
	out := func() *DismissedError {
		t.Helper()
		var e *DismissedError
		b.eventually("the removed node hears of it", func() string {
			if !errors.As(victim.node.Standing(), &e) {
				return "it takes part"
			}
			return ""
		})
		return e
	}
	said := fmt.Sprintf("%s was removed from cluster %s by force at revision %d on %s, by rosa",
		victim.name, st.Cluster().GetName(), gone.GetRevision(), time.UnixMilli(gone.GetTimeMs()).UTC().Format(time.RFC3339))
	if e := out(); e.Error() != said || !strings.Contains(e.Next(), "data directory away") {
		t.Errorf("it says %q, want %q", e, said)
	}
	if _, err := victim.node.Propose(victim.ctx(), putTenant("x")); err == nil || err.Error() != said {
		t.Errorf("a change on it: %v", err)
	}
	if _, err := victim.node.Barrier(victim.ctx()); err == nil || err.Error() != said {
		t.Errorf("a read on it: %v", err)
	}
	// It stays out where it reaches nobody.
	for _, n := range others {
		n.stop()
	}
	victim.restart()
	if e := out(); e.Error() != said {
		t.Errorf("after a restart it says %q, want %q", e, said)
	}
}

func TestANodeMayMove(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{})
	b.voters(3)
	b.agree()
	for _, n := range nodes {
		n.stop()
		n.address = fmt.Sprintf("127.41.%d.%d:0", b.net, 100+slices.Index(nodes, n))
		n.start()
		b.eventually("the new address of "+n.name, func() string {
			for _, other := range nodes {
				if got := other.node.State().Member(n.name).GetAddress(); got != n.address {
					return fmt.Sprintf("%s has %s, want %s", other.name, got, n.address)
				}
			}
			return ""
		})
		nodes[0].propose(putTenant("moved-" + n.name))
	}
	b.agree()
}

// TestAllNodesMoveAtOnce: no address that anybody knew is good any more. Two of
// the three are told of one of them, as --join does; the rest they tell each
// other.
func TestAllNodesMoveAtOnce(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{})
	b.voters(3)
	b.agree()
	for _, n := range nodes {
		n.stop()
	}
	for i, n := range nodes {
		n.address = fmt.Sprintf("127.41.%d.%d:0", b.net, 100+i)
		if i > 0 {
			n.hint = nodes[0].address
		}
		n.start()
	}
	b.leader()
	nodes[2].propose(putTenant("moved"))
	b.eventually("the new addresses are committed", func() string {
		for _, n := range nodes {
			for _, other := range nodes {
				if got := other.node.State().Member(n.name).GetAddress(); got != n.address {
					return fmt.Sprintf("%s has %s for %s, want %s", other.name, got, n.name, n.address)
				}
			}
		}
		return ""
	})
	// Without a hint they find each other where they were.
	for _, n := range nodes {
		n.stop()
		n.hint = ""
	}
	for _, n := range nodes {
		n.start()
	}
	b.leader()
	nodes[1].propose(putTenant("there-again"))
}

// TestADeadVoterIsReplacedAndComesBackInPeace: its vote goes to another, and it
// comes back to a cluster that has voters enough: nothing flaps.
func TestADeadVoterIsReplacedAndComesBackInPeace(t *testing.T) {
	b := newBed(t)
	b.timing.Spare = 2 * time.Second
	nodes := b.cluster(5, InitRequest{})
	b.voters(3)
	votes := func() string {
		var names []string
		for name, role := range b.leader().node.roles(b.leader().node.engine.Load()) {
			if role != roleNonVoter {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	before := votes()
	i := slices.IndexFunc(nodes, func(n *bedNode) bool { return n != b.leader() && strings.Contains(before, n.name) })
	dead := nodes[i]
	dead.stop()
	var after string
	b.eventually("another has its vote", func() string {
		after = votes()
		if len(strings.Fields(after)) != 3 || strings.Contains(after, dead.name) {
			return after
		}
		return ""
	})
	dead.start()
	b.eventually("it is heard again, long enough for a vote", func() string {
		l := b.leader().node
		c, ok := l.health.Of(l.State().Member(dead.name))
		if !ok || time.Since(c.heard) > l.cfg.Timing.Fresh || time.Since(c.since) < 2*l.cfg.Timing.Stable {
			return fmt.Sprintf("heard %v ago, since %v", time.Since(c.heard), time.Since(c.since))
		}
		return ""
	})
	for range 3 { // rounds of the leader
		nodes[i].propose(putTenant("x"))
	}
	if got := votes(); got != after {
		t.Errorf("votes of %s before, %s after, %s now: who comes back takes no vote away", before, after, got)
	}
}

// TestAWrongClockIsSeen: by the node itself, and by all in its health.
func TestAWrongClockIsSeen(t *testing.T) {
	b := newBed(t)
	b.skew = map[string]time.Duration{"n2": 40 * time.Second}
	nodes := b.cluster(3, InitRequest{})
	near := func(d, want time.Duration) bool { return d > want-5*time.Second && d < want+5*time.Second }
	b.eventually("the clocks are compared", func() string {
		for _, n := range nodes {
			if d := n.node.ClockOffset(); !near(d, b.skew[n.name]) {
				return fmt.Sprintf("%s takes itself to be %v off", n.name, d)
			}
			for _, h := range n.node.Health() {
				name := h.GetReport().GetNode()
				leader := b.leader().name
				if d := time.Duration(h.GetClockOffsetMs()) * time.Millisecond; !near(d, b.skew[name]-b.skew[leader]) {
					return fmt.Sprintf("%s takes %s to be %v off", n.name, name, d)
				}
			}
		}
		return ""
	})
}

func TestAnEmptyDirectoryReplacesANode(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{JoinTokens: 4})
	b.settled()
	b.voters(3)
	leader := b.leader()
	lost := nodes[2]
	if lost == leader {
		lost = nodes[1]
	}
	tok, cmd := newNodeToken(t, leader.node)
	leader.propose(cmd)
	// A second server under its name, while the first one answers.
	twin := b.add(lost.name)
	var refused *RefusedError
	err := twin.node.Join(twin.ctx(), JoinRequest{Token: tok, Address: leader.address, Replace: true})
	if !errors.As(err, &refused) || refused.Refusal.GetKind() != clusterpb.Refusal_UNSAFE || !strings.Contains(err.Error(), "without a break since") {
		t.Fatalf("replacing a node that answers: %v, want UNSAFE", err)
	}
	twin.stop()
	old := lost.dir
	oldStore, oldServer := lost.store, serverOf(leader.node.State(), leader.node.State().Member(lost.name))
	lost.stop()
	lost.dir = filepath.Join(t.TempDir(), "empty")
	lost.store = storeID(77)
	lost.last.Store(0)
	lost.start()
	err = lost.node.Join(lost.ctx(), JoinRequest{Token: tok, Address: leader.address})
	if !errors.As(err, &refused) || refused.Refusal.GetKind() != clusterpb.Refusal_EXISTS || !strings.Contains(err.Error(), "muster cluster join --replace --token T") {
		t.Fatalf("an empty directory under a member's name: %v, want EXISTS", err)
	}
	if err := lost.node.Join(lost.ctx(), JoinRequest{Token: tok, Address: leader.address, Replace: true}); err != nil {
		t.Fatal(err)
	}
	b.settled()
	b.voters(3)
	b.agree()
	for _, s := range b.leader().node.engine.Load().raft.GetConfiguration().Configuration().Servers {
		if s.ID == oldServer {
			t.Errorf("raft still counts %s", s.ID)
		}
	}
	// The old directory comes back, elsewhere: it is told, and stays out.
	lost.stop()
	lost.dir, lost.store, lost.address = old, oldStore, fmt.Sprintf("127.41.%d.200:0", b.net)
	lost.last.Store(0)
	lost.start()
	b.eventually("the old directory hears of it", func() string {
		var e *DismissedError
		if !errors.As(lost.node.Standing(), &e) {
			return "it takes part"
		}
		if e.Dismissal.GetKind() != clusterpb.Dismissal_REPLACED || !strings.Contains(e.Error(), "was replaced by another") {
			return e.Error()
		}
		return ""
	})
}

func newNodeToken(t *testing.T, n *Node) (string, *clusterpb.Command) {
	t.Helper()
	token, err := pki.NewToken(n.credentials().CAs.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	return token.Text(), &clusterpb.Command{Change: &clusterpb.Command_CreateToken{CreateToken: &clusterpb.CreateToken{
		Token: &clusterpb.Token{
			Id: token.ID, Hash: token.Hash(), Role: clusterpb.TokenRole_ROLE_NODE,
			ExpiresMs: time.Now().Add(time.Hour).UnixMilli(),
		},
	}}}
}

func TestANodeListMovesSlotsOnlyWhenAsked(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(4, InitRequest{})
	b.settled()
	put := func(list ...string) *clusterpb.Command {
		return &clusterpb.Command{Change: &clusterpb.Command_PutRing{PutRing: &clusterpb.PutRing{
			Name: "hard", Tenants: []string{"tenant-a"}, ReplicationFactor: 2, Nodes: list, Slots: 64,
		}}}
	}
	nodes[1].propose(put("n1", "n2"))
	on := func(list ...string) string {
		st := nodes[2].node.State()
		r := st.Ring("hard")
		for i := range r.Table.Slots() {
			s := r.Table.At(i).Replicas
			for k := range s.Len() {
				if name := st.Holder(s.At(k)).GetName(); !slices.Contains(list, name) {
					return fmt.Sprintf("slot %d is on %s", i, name)
				}
			}
			if s.Len() != 2 {
				return fmt.Sprintf("slot %d has %d replicas", i, s.Len())
			}
		}
		return ""
	}
	b.agree()
	if wrong := on("n1", "n2"); wrong != "" {
		t.Fatal(wrong)
	}
	nodes[1].propose(put("n3", "n4"))
	// A few rounds of the leader later nothing has moved.
	for range 5 {
		nodes[2].propose(putTenant("x"))
		b.agree()
	}
	if wrong := on("n1", "n2"); wrong != "" {
		t.Fatal("moved without being asked: " + wrong)
	}
	follower := nodes[0]
	if follower == b.leader() {
		follower = nodes[1]
	}
	follower.propose(rebalance("hard"))
	b.eventually("the move is over", func() string {
		if m := follower.node.State().Ring("hard").Spec.GetMove(); m != nil {
			return m.String()
		}
		return ""
	})
	b.agree()
	if wrong := on("n3", "n4"); wrong != "" {
		t.Fatal("after the rebalance: " + wrong)
	}
}

func TestAHigherReplicationFactorIsKept(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{})
	put := func(rf uint32, q clusterpb.WriteQuorum) *clusterpb.Command {
		return &clusterpb.Command{Change: &clusterpb.Command_PutRing{PutRing: &clusterpb.PutRing{
			Name: "hard", Tenants: []string{"tenant-a"}, ReplicationFactor: rf, WriteQuorum: q, Slots: 64,
		}}}
	}
	nodes[1].propose(put(1, clusterpb.WriteQuorum_ALL))
	b.settled()
	nodes[2].propose(put(3, clusterpb.WriteQuorum_ALL))
	quorum := func(want int) {
		t.Helper()
		b.eventually(fmt.Sprintf("quorum %d", want), func() string {
			r := nodes[0].node.State().Ring("hard")
			for i := range r.Table.Slots() {
				if s := r.Table.At(i); s.Quorum != want || s.Replicas.Len() != want {
					return fmt.Sprintf("slot %d has %d replicas and quorum %d", i, s.Replicas.Len(), s.Quorum)
				}
			}
			return ""
		})
	}
	quorum(3)
	b.settled()
	nodes[2].propose(put(1, clusterpb.WriteQuorum_ALL))
	quorum(1)
	b.settled()
	b.agree()
}

// What a node hears first of all is the past, in which another one of its name was
// active.
func TestANodeThatComesAgainWithANewDirectoryHasJoinedWhenItIsActive(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{})
	b.voters(3)
	nodes[2].stop()
	b.eventually("n3 is removed", func() string {
		answer, err := b.leader().node.Propose(nodes[0].ctx(), &clusterpb.Command{Change: &clusterpb.Command_RemoveMember{RemoveMember: &clusterpb.RemoveMember{Name: "n3", Force: true}}})
		if err != nil {
			return err.Error()
		}
		return answer.GetRefusal().GetMessage()
	})
	b.add("n3").join(nodes[0].nodeTokenText(), nodes[0])
	b.agree()
}

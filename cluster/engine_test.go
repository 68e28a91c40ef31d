package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

func TestRaftRunsAsDecided(t *testing.T) {
	n := &Node{cfg: Config{Timing: Timing{}.withDefaults()}}
	c := n.raftConfig("n1")
	if err := raft.ValidateConfig(c); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		what      string
		got, want any
	}{
		{"heartbeat", c.HeartbeatTimeout, 2 * time.Second},
		{"election", c.ElectionTimeout, 2 * time.Second},
		{"lease", c.LeaderLeaseTimeout, time.Second},
		{"trailing logs", c.TrailingLogs, uint64(2048)},
		{"snapshot interval", c.SnapshotInterval, 30 * time.Second},
		{"snapshot threshold", c.SnapshotThreshold, uint64(1024)},
		{"shutdown on remove", c.ShutdownOnRemove, false},
		{"no snapshot restore", c.NoSnapshotRestoreOnStart, false},
		{"no legacy telemetry", c.NoLegacyTelemetry, true},
		{"pre-vote disabled", c.PreVoteDisabled, false},
	} {
		if x.got != x.want {
			t.Errorf("%s is %v, want %v", x.what, x.got, x.want)
		}
	}
}

func TestASnapshotIsTakenRightAfterAMembershipChange(t *testing.T) {
	b := newBed(t)
	b.cluster(2, InitRequest{})
	b.voters(2)
	leader := b.leader()
	if _, err := leader.node.Barrier(leader.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := leader.node.engine.Load().raft.Snapshot().Error(); err != nil {
		t.Errorf("snapshot after a membership change: %v", err)
	}
}

func TestASnapshotIsTakenRightAfterARestart(t *testing.T) {
	b := newBed(t)
	b.cluster(1, InitRequest{})
	only := b.leader()
	only.propose(putTenant("a"))
	only.restart()
	only = b.leader()
	if _, err := only.node.Barrier(only.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := only.node.engine.Load().raft.Snapshot().Error(); err != nil {
		t.Errorf("snapshot after a restart: %v", err)
	}
	only.propose(putTenant("b"))
	want := only.node.State()
	only.restart()
	if st := only.node.State(); st.Revision() < want.Revision() || st.Tenant("a") == nil || st.Tenant("b") == nil {
		t.Errorf("the snapshot and the log after it give revision %d, want %d with both tenants", st.Revision(), want.Revision())
	}
}

func TestRaftIsMadeAnewInTheProcess(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.voters(3)
	leader := b.leader()
	e := leader.node.engine.Load()
	e.noteTransfer(raft.ErrLeadershipTransferInProgress)
	if e.isStuck(time.Now(), 10*time.Second) || !e.isStuck(time.Now().Add(11*time.Second), 10*time.Second) {
		t.Error("a leader is stuck after ten seconds of transfers, not before")
	}
	e.noteTransfer(nil)
	if e.isStuck(time.Now().Add(time.Hour), 10*time.Second) {
		t.Error("a change that went through does not count")
	}
	before := leader.node.State()
	leader.node.replaceEngine(e)
	if leader.node.engine.Load() == e {
		t.Fatal("the engine is the same")
	}
	if st := leader.node.State(); st.Revision() < before.Revision() {
		t.Errorf("the state went back from %d to %d", before.Revision(), st.Revision())
	}
	leader.node.replaceEngine(e) // no longer the engine: nothing happens
	for i, n := range b.nodes {
		n.propose(putTenant(fmt.Sprintf("t%d", i)))
	}
	b.agree()
}

func TestAWatcherThatComesLateHearsTheState(t *testing.T) {
	b := newBed(t)
	n := b.cluster(1, InitRequest{})[0]
	n.propose(putTenant("a"))
	var heard []Change
	n.node.OnChange(func(c Change) { heard = append(heard, c) })
	if len(heard) != 1 || heard[0].New != n.node.State() || heard[0].Old.Revision() != 0 || !heard[0].Keys.AllTenants {
		t.Fatalf("heard %v", heard)
	}
}

func TestAJoinWhoseAnswerWasLostIsRepeated(t *testing.T) {
	b := newBed(t)
	n1 := b.add("n1")
	tokens := n1.init(InitRequest{Slots: 64}).JoinTokens
	n2 := b.add("n2")
	token, err := pki.ParseClusterToken(tokens[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n2.node.askToJoin(n2.ctx(), JoinRequest{Token: tokens[0], Address: n1.address}, token); err != nil {
		t.Fatal(err)
	}
	if n1.node.State().Member("n2").GetState() != clusterpb.MemberState_JOINING {
		t.Fatal("n2 is not joining")
	}
	n2.restart()
	n2.join(tokens[0], n1)
	b.agree()

	// Cut off later, with the certificate on disk, it goes on by itself.
	n3 := b.add("n3")
	if token, err = pki.ParseClusterToken(tokens[1]); err != nil {
		t.Fatal(err)
	}
	answer, err := n3.node.askToJoin(n3.ctx(), JoinRequest{Token: tokens[1], Address: n1.address}, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n3.node.keepMembership(answer, token); err != nil {
		t.Fatal(err)
	}
	n3.restart()
	b.eventually("n3 is active", func() string {
		return strings.TrimPrefix(n3.node.State().Member("n3").GetState().String(), clusterpb.MemberState_ACTIVE.String())
	})
}

func TestLeadershipLostAndGainedAtOnceBeginsAnew(t *testing.T) {
	leads := make(chan bool)
	ctx, cancel := context.WithCancel(t.Context())
	var story []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		whileLeading(ctx, leads, func(context.Context) func() {
			story = append(story, "begin")
			return func() { story = append(story, "stop") }
		})
	}()
	for _, word := range []bool{false, true, true, false, false, true} {
		leads <- word
	}
	cancel()
	<-done
	if got, want := strings.Join(story, " "), "begin stop begin stop begin stop"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func TestADirectoryBelongsToOneName(t *testing.T) {
	b := newBed(t)
	n := b.cluster(1, InitRequest{})[0]
	n.stop()
	n.name = "other"
	if err := n.tryStart(); err == nil {
		t.Error("n1's directory starts as other")
	}
	n.name = "n1"
	n.start()
}

func TestTheCAKeyIsOnVotersOnly(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(4, InitRequest{JoinTokens: 4})
	b.voters(3)
	leader := b.leader()
	e := leader.node.engine.Load()
	for _, n := range nodes {
		role := leader.node.roles(e)[n.name]
		_, err := n.node.pki.CA()
		if (role == roleNonVoter) != errors.Is(err, pki.ErrAbsent) {
			t.Errorf("%s is a %s: its CA key: %v", n.name, role, err)
		}
		// Each gets a certificate, whether it can sign or not.
		before := n.node.credentials().Certificate.Leaf.SerialNumber
		if err := n.node.RenewCertificate(n.ctx()); err != nil {
			t.Errorf("%s: %v", n.name, err)
		}
		if n.node.credentials().Certificate.Leaf.SerialNumber.Cmp(before) == 0 {
			t.Errorf("%s has its old certificate", n.name)
		}
	}
	nodes[3].propose(putTenant("after-renewal"))

	// A key that is not the cluster's is not kept.
	strange, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := strange.PEM()
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes[3].node.keepCAKey(text); !errors.Is(err, pki.ErrForeignKey) {
		t.Errorf("a strange CA key: %v, want ErrForeignKey", err)
	}
}

func TestMembersSpeakForThemselves(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	leader := b.leader()
	liar := b.nodes[1]
	if liar == leader {
		liar = b.nodes[2]
	}
	conn, err := liar.door.Dial(liar.ctx(), leader.name)
	if err != nil {
		t.Fatal(err)
	}
	control := clusterpb.NewControlClient(conn)
	_, err = control.Heartbeat(liar.ctx(), &clusterpb.HeartbeatRequest{Report: &clusterpb.Report{Node: leader.name, Applied: 1 << 40}})
	if err == nil {
		t.Error("a member reports as another")
	}
	if _, err = control.HandOver(liar.ctx(), &clusterpb.HandOverRequest{}); err == nil {
		t.Error("a follower takes the leader's CA key away")
	}
	if _, err := leader.node.pki.CA(); err != nil {
		t.Errorf("the leader's CA key: %v", err)
	}
	strange, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(strange, liar.name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Renew(liar.ctx(), &clusterpb.RenewRequest{Csr: csr}); err == nil {
		t.Error("a key that is no member's gets a certificate")
	}
}

func TestANodeThatDivergesIsShown(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.voters(3)
	b.settled()
	leader := b.leader()
	follower := b.nodes[1]
	if follower == leader {
		follower = b.nodes[2]
	}
	b.agree()
	shown := func() string {
		for _, h := range leader.node.Health() {
			if h.GetReport().GetNode() == follower.name {
				return h.GetReport().GetNotReadyReason()
			}
		}
		return "not a member"
	}
	if got := shown(); got != "" {
		t.Fatalf("before it diverges: %s", got)
	}
	b.eventually("the leader shows it", func() string {
		// A change that comes in between puts the state right: break it again.
		bad := *leader.node.State()
		bad.sum++
		if follower.node.State().Revision() == bad.Revision() {
			follower.node.fsm.published.Store(&bad)
		}
		if strings.Contains(shown(), "differs from the majority") {
			return ""
		}
		return "it looks well"
	})
	leader.propose(putTenant("next"))
	b.eventually("it is well again", shown)
}

func TestANodeWithoutAClusterSaysSo(t *testing.T) {
	b := newBed(t)
	n := b.add("n1")
	if _, err := n.node.Propose(n.ctx(), putTenant("a")); !errors.Is(err, ErrNoCluster) {
		t.Errorf("propose: %v, want ErrNoCluster", err)
	}
	if _, err := n.node.Barrier(n.ctx()); !errors.Is(err, ErrNoCluster) {
		t.Errorf("barrier: %v, want ErrNoCluster", err)
	}
	if len(n.node.Health()) != 0 || n.node.State().Revision() != 0 {
		t.Error("it has a state")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.node.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := n.node.Close(); err != nil {
		t.Error(err)
	}
	if _, err := n.node.Init(n.ctx(), InitRequest{}); !errors.Is(err, ErrClosed) {
		t.Errorf("init after Close: %v, want ErrClosed", err)
	}
}

func TestNewWantsWhatANodeNeeds(t *testing.T) {
	d := door.New(door.Config{})
	defer d.Close()
	whole := Config{Dir: t.TempDir(), Name: "n1", Door: d, Advertise: func() string { return "127.0.0.1:1" }, StoreID: storeID(1)}
	for what, spoil := range map[string]func(*Config){
		"dir": func(c *Config) { c.Dir = "" }, "name": func(c *Config) { c.Name = "a/b" }, "door": func(c *Config) { c.Door = nil },
		"advertise": func(c *Config) { c.Advertise = nil }, "store": func(c *Config) { c.StoreID = [16]byte{} },
	} {
		c := whole
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("a node without a right %s is made", what)
		}
	}
	reg := prometheus.NewRegistry()
	whole.Reg = reg
	for range 2 { // a closed node leaves the registry as it was
		n, err := New(whole)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := reg.Gather(); err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestHealthRemembersWhoWasHeard(t *testing.T) {
	h := newHealth(3 * time.Second)
	m := &clusterpb.Member{Name: "a", Incarnation: 4}
	now := time.UnixMilli(1_000_000)
	report := func(applied uint64, at time.Time, skew time.Duration) *clusterpb.Report {
		return &clusterpb.Report{Node: "a", Incarnation: 4, StoreId: []byte("s"), Applied: applied, ClockMs: at.Add(skew).UnixMilli()}
	}
	if !h.Put(report(5, now, time.Second), now, now) || h.Put(report(5, now, time.Second), now, now) || !h.Put(report(6, now, time.Second), now, now) {
		t.Error("news is a newer revision, nothing else")
	}
	if h.MedianOffset(now) != time.Second {
		t.Errorf("offset %s, want 1s", h.MedianOffset(now))
	}
	if !h.Live(m, now.Add(3*time.Second)) || h.Live(m, now.Add(4*time.Second)) {
		t.Error("live is heard within three seconds")
	}
	since := func() time.Time { c, _ := h.Of(m); return c.since }
	h.Put(report(6, now, 0), now.Add(2*time.Second), now.Add(2*time.Second))
	if !since().Equal(now) {
		t.Error("heard without a break since the first time")
	}
	h.Put(report(6, now, 0), now.Add(10*time.Second), now.Add(10*time.Second))
	if !since().Equal(now.Add(10 * time.Second)) {
		t.Error("after a break it counts anew")
	}
	if _, ok := h.OfStore(m, []byte("other")); ok {
		t.Error("another store was heard")
	}
	if _, ok := h.Of(&clusterpb.Member{Name: "a", Incarnation: 5}); ok {
		t.Error("another incarnation was heard")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	applied, pending := h.WaitApplied(ctx, 6, []*clusterpb.Member{m, {Name: "b"}})
	if len(applied) != 1 || len(pending) != 1 || pending[0] != "b" {
		t.Errorf("applied %v, pending %v", applied, pending)
	}
}

func TestTheClockIsHeldAgainstTheMedian(t *testing.T) {
	var v view
	now := time.UnixMilli(10_000_000)
	// The leader's clock is 4 s behind this one, the median 3 s ahead of it.
	v.Take(&clusterpb.HeartbeatResponse{ClockMs: now.Add(-4 * time.Second).UnixMilli(), MedianOffsetMs: 3000}, now, now, 0)
	if v.Offset() != time.Second {
		t.Errorf("offset %s, want 1s", v.Offset())
	}
	v.Take(&clusterpb.HeartbeatResponse{Members: []*clusterpb.Health{{Report: &clusterpb.Report{Node: "x"}, Role: roleLeader, LastContactMs: 5}}}, now, now, 0)
	if leader, ok := v.Leader(now.Add(time.Second), 3*time.Second); !ok || leader != "x" || v.Offset() != time.Second {
		t.Errorf("leader %q, offset %s", leader, v.Offset())
	}
	if _, ok := v.Leader(now.Add(time.Minute), 3*time.Second); ok {
		t.Error("an old word about the leader counts")
	}
	if got := v.Members(now.Add(time.Second))[0].GetLastContactMs(); got != 1005 {
		t.Errorf("last contact %d ms, want 1005", got)
	}
}

func TestPeersSurviveARestart(t *testing.T) {
	path := t.TempDir() + "/peers.json"
	p := openPeers(path)
	members := []*clusterpb.Member{{Name: "b", Address: "b:1", Version: 4}, {Name: "a", Address: "a:1", Version: 3}}
	if err := p.Follow(members); err != nil {
		t.Fatal(err)
	}
	announced := func(node, address string, stamp int64) []*clusterpb.Announcement {
		return []*clusterpb.Announcement{{Node: node, Address: address, Stamp: stamp}}
	}
	for _, a := range [][]*clusterpb.Announcement{
		announced("b", "b:2", 7), announced("b", "b:0", 6), announced("b", "not an address", 9),
		announced("a", "a:0", 8), announced("c", "c:1", 9), // a itself knows better, and c is nobody
	} {
		if err := p.Learn("a", a); err != nil {
			t.Fatal(err)
		}
	}
	if stamp, err := p.Announce("a", "a:2", time.UnixMilli(5)); stamp != 5 || err != nil {
		t.Fatalf("stamp %d, %v", stamp, err)
	}
	if stamp, _ := p.Announce("a", "a:3", time.UnixMilli(2)); stamp != 6 {
		t.Errorf("stamp %d, want 6: it rises, whatever the clock says", stamp)
	}
	if stamp, _ := p.Announce("a", "a:3", time.UnixMilli(99)); stamp != 6 || len(p.Announcements()) != 2 {
		t.Errorf("stamp %d, want 6: the address is the same", stamp)
	}
	p = openPeers(path)
	if q, ok := p.Of("b"); !ok || q.Address != "b:2" {
		t.Errorf("b is at %v, want b:2: it said so itself", q)
	}
	if err := p.Follow(members); err != nil {
		t.Fatal(err)
	}
	if q, _ := p.Of("b"); q.Address != "b:2" {
		t.Errorf("b is at %v, want b:2: the state is older", q)
	}
	members[0].Version = 8
	if err := p.Follow(members); err != nil {
		t.Fatal(err)
	}
	if q, _ := p.Of("b"); q.Address != "b:2" {
		t.Errorf("b is at %v, want b:2: no other address was committed", q)
	}
	members[0].Address = "b:3"
	if err := p.Follow(members[:1]); err != nil {
		t.Fatal(err)
	}
	if q, _ := p.Of("b"); q.Address != "b:3" {
		t.Errorf("b is at %v, want b:3: the state is newer", q)
	}
	if _, ok := p.Of("a"); ok {
		t.Error("a, who is gone, is kept")
	}
	if !bytes.Equal([]byte(serverID("a.b", []byte{1, 2}, 0)), []byte("a.b/0102")) || nodeOf("a.b/0102") != "a.b" || nodeOf(serverID("a.b", []byte{1, 2}, 7)) != "a.b" {
		t.Error("a server's id is name/store")
	}
}

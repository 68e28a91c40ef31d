package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// nextVersion is the one that the next release brings.
const nextVersion = newestVersion + 1

// future is a command that only software of the next cluster version knows.
func future() *clusterpb.Command {
	cmd := &clusterpb.Command{}
	cmd.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1))
	return cmd
}

// newer makes a node one of the next release: it speaks one version more, and
// takes a command that it alone knows for the creation of the tenant "future".
func newer(n *Node) {
	n.fsm.speaks = versions{1, nextVersion}
	right := n.fsm.speaks.stepper()
	n.fsm.step = func(st *State, entry *raft.Log) (*State, Result, error) {
		cmd, err := ParseCommand(entry.Data)
		if err == nil && hasUnknown(cmd.ProtoReflect()) {
			cmd = putTenant("future")
			cmd.TimeMs = st.Cluster().GetCreatedMs()
			next, result := st.Apply(entry.Index, cmd)
			return next, result, nil
		}
		return right(st, entry)
	}
}

func TestVersionsAreNamed(t *testing.T) {
	if v := spoken(0, 0); v != (versions{1, 1}) || v.String() != "1" || !v.Speaks(1) || v.Speaks(2) {
		t.Errorf("one who names none speaks %v", v)
	}
	if v := spoken(2, 4); v.String() != "2 to 4" || v.Speaks(1) || !v.Speaks(4) || v.Speaks(5) {
		t.Errorf("2 to 4 is %v", v)
	}
	if !EmptyState().Supports(Feature(1)) || EmptyState().Supports(Feature(2)) {
		t.Error("a cluster begins with version 1")
	}
}

func TestTheClusterVersionNeverFalls(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.RaiseVersion{Version: 3})
	if !h.state.Supports(Feature(3)) || h.state.Supports(Feature(4)) {
		t.Errorf("version %d", h.state.Version())
	}
	for _, v := range []uint32{0, 2, 3} {
		if res := h.apply(&clusterpb.RaiseVersion{Version: v}); res.Refusal == nil || h.state.Version() != 3 {
			t.Errorf("raised to %d: %v, version %d", v, res.Refusal, h.state.Version())
		}
	}
	// A check changes nothing but the revision.
	sum := h.state.sum
	if res := h.apply(&clusterpb.CheckState{}); res.Refusal != nil || !res.Check || h.state.sum != sum {
		t.Errorf("check: %+v", res)
	}
}

func TestANodeHaltsAtWhatItIsTooOldFor(t *testing.T) {
	f := openDisk(t, t.TempDir()).fsm
	before := created(t, 1, 1).state
	f.publish(Change{Old: f.State(), New: before, Keys: everything})
	f.replay = before
	entry := func(i uint64, cmd *clusterpb.Command) *raft.Log {
		cmd.TimeMs = 1000
		text, err := EncodeCommand(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return &raft.Log{Index: before.Revision() + i, Type: raft.LogCommand, Data: text}
	}
	answers := f.ApplyBatch([]*raft.Log{entry(1, putTenant("a")), entry(2, future()), entry(3, putTenant("b"))})
	if _, ok := answers[0].(Result); !ok {
		t.Errorf("what comes before is applied: %v", answers[0])
	}
	for _, a := range answers[1:] {
		if _, ok := a.(error); !ok {
			t.Errorf("answer %v, want an error", a)
		}
	}
	st := f.State()
	if st.Tenant("a") == nil || st.Tenant("b") != nil || st.Revision() != before.Revision()+1 || f.Halted() == "" {
		t.Errorf("halted %q at revision %d", f.Halted(), st.Revision())
	}
	if _, err := f.Snapshot(); err == nil {
		t.Error("a snapshot is taken over what was not applied")
	}

	// A field that is not known is as unknown as a command.
	deep := putTenant("c")
	deep.GetPutTenant().ProtoReflect().SetUnknown(future().ProtoReflect().GetUnknown())
	if err := f.speaks.understands(deep); !errors.Is(err, ErrVersion) {
		t.Errorf("an unknown field: %v", err)
	}
	raise := &clusterpb.Command{Change: &clusterpb.Command_RaiseVersion{RaiseVersion: &clusterpb.RaiseVersion{Version: nextVersion}}}
	if err := f.speaks.understands(raise); !errors.Is(err, ErrVersion) {
		t.Errorf("a newer version: %v", err)
	}
	born := &clusterpb.Command{Change: &clusterpb.Command_Init{Init: &clusterpb.InitCluster{ClusterVersion: nextVersion}}}
	if err := f.speaks.understands(born); !errors.Is(err, ErrVersion) {
		t.Errorf("a cluster that begins with a newer version: %v", err)
	}
}

// logged puts a command into the log, whatever the leader thinks of it.
func (b *bed) logged(cmd *clusterpb.Command) {
	b.t.Helper()
	text, err := EncodeCommand(cmd)
	if err != nil {
		b.t.Fatal(err)
	}
	b.eventually("the command is in the log", func() string {
		if err := b.leader().node.engine.Load().raft.Apply(text, patience).Error(); err != nil {
			return err.Error()
		}
		return ""
	})
}

// versionBed is three nodes, those of the indices of the next release.
func versionBed(t *testing.T, next ...int) *bed {
	b := newBed(t)
	b.timing.Upgrade = 300 * time.Millisecond
	b.adjust = func(n *Node, i int) {
		if slices.Contains(next, i) {
			newer(n)
		}
	}
	return b
}

func TestTheClusterVersionRisesWhenAllSpeakTheNewer(t *testing.T) {
	b := versionBed(t)
	upgraded := map[int]bool{1: true, 2: true} // n1, which is there from the beginning, is old
	b.adjust = func(n *Node, i int) {
		if upgraded[i] {
			newer(n)
		}
	}
	b.cluster(3, InitRequest{})
	b.voters(3)
	leader := b.leader()
	b.eventually("the leader has heard what all speak", func() string {
		if leader.node.common(time.Now()) == newestVersion {
			return ""
		}
		return "not yet"
	})
	if v := leader.node.State().Version(); v != newestVersion { // which it was created with
		t.Fatalf("cluster version %d with a node that speaks %d", v, newestVersion)
	}
	upgraded[0] = true
	b.nodes[0].restart()
	b.eventually("the version rises", func() string {
		for _, n := range b.nodes {
			if !n.node.State().Supports(Feature(nextVersion)) {
				return n.name + " does not speak it"
			}
		}
		return ""
	})
	// Now the new command may be used, and the state is the same everywhere.
	b.logged(future())
	b.agree()
	if b.nodes[2].node.State().Tenant("future") == nil {
		t.Error("the new command did nothing")
	}

	// Older software is not let in, and does not start on newer state.
	leader = b.leader()
	token, make := newNodeToken(t, leader.node)
	leader.propose(make)
	old := b.add("n4")
	err := old.node.Join(old.ctx(), JoinRequest{Token: token, Address: leader.address})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("speaks cluster version %s, this cluster speaks %d", versions{oldestVersion, newestVersion}, nextVersion)) {
		t.Errorf("an old node joins: %v", err)
	}
	if leader.node.State().Member("n4") != nil {
		t.Error("n4 is a member")
	}
	old.stop()
	b.nodes[2].stop()
	upgraded[2] = false
	if err := b.nodes[2].tryStart(); !errors.Is(err, ErrVersion) {
		t.Errorf("an old node starts on newer state: %v", err)
	}
	upgraded[2] = true
	b.nodes[2].start()
	b.agree()
}

func TestAnOldNodeStopsApplyingAndSaysSo(t *testing.T) {
	b := versionBed(t)
	b.cluster(3, InitRequest{})
	b.voters(3)
	leader := b.leader()
	// An old leader refuses what it does not know; somebody newer sent it.
	answer, err := leader.node.Propose(leader.ctx(), future())
	if err != nil || answer.GetRefusal() == nil {
		t.Fatalf("an old leader takes a new command: %v, %v", answer, err)
	}
	// It gets into the log all the same: all nodes are too old for it.
	b.logged(future())
	for _, n := range b.nodes {
		b.eventually(n.name+" says that it applies nothing more", func() string {
			if lines := n.node.Ailments(); len(lines) > 0 && strings.Contains(lines[0], "does not know") {
				return ""
			}
			return "it says nothing"
		})
	}
	before := b.nodes[0].node.State().Revision()
	// With newer software all of them go on.
	b.adjust = func(n *Node, _ int) { newer(n) }
	for _, n := range b.nodes {
		n.stop()
	}
	for _, n := range b.nodes {
		n.start()
	}
	b.leader().propose(putTenant("goes-on"))
	b.agree()
	st := b.nodes[0].node.State()
	if st.Tenant("future") == nil || st.Revision() <= before {
		t.Error("the command was skipped")
	}
}

func TestALeaderThatIsTooOldHandsOver(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.voters(3)
	old := b.leader()
	for _, n := range b.nodes {
		if n != old {
			n.stop()
		}
	}
	b.adjust = func(n *Node, _ int) { newer(n) }
	for _, n := range b.nodes {
		if n != old {
			n.start()
		}
	}
	b.agree()
	// Whoever leads now: the log gets what one of them cannot apply.
	b.logged(future())
	b.eventually("one leads who can", func() string {
		if l := b.leader(); l == old {
			return old.name + " leads"
		}
		if old.node.fsm.Halted() == "" {
			return old.name + " is not halted"
		}
		return ""
	})
	l := b.leader()
	l.propose(putTenant("goes-on"))
	if l.node.State().Tenant("future") == nil {
		t.Error("the command was skipped")
	}
}

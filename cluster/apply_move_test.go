package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

func rebalance(name string) *clusterpb.Command {
	return &clusterpb.Command{Change: &clusterpb.Command_RebalanceRing{RebalanceRing: &clusterpb.RebalanceRing{Name: name}}}
}

// lead does what a leader does next for the default ring, at most so many steps
// of it; what it did, "" where nothing is left.
func (h *story) lead(most int) string {
	h.t.Helper()
	r := h.state.Ring(DefaultRing)
	if !h.state.moves(r) {
		return ""
	}
	move, target := r.Spec.GetMove(), ring.Plan(r.Table, h.state.Eligible(r), r.RF())
	if away(r, target) == 0 {
		members, _ := follows(h.state, r)
		h.do(&clusterpb.EndMove{Ring: r.Spec.GetId(), Asked: move.GetAsked(), Followed: members})
		return "end"
	}
	if begin := h.state.due(r); !isUnderWay(move) {
		h.do(begin)
		return "begin"
	}
	h.closeAll(r)
	r = h.state.Ring(DefaultRing)
	steps := ring.NextSteps(r.Table, target, r.Quorum())
	h.do(moveOf(r, steps[:min(most, len(steps))]))
	return "move"
}

// leadOn leads until nothing is left, and counts the steps.
func (h *story) leadOn() (moved int) {
	h.t.Helper()
	for range 100 {
		switch h.lead(2) {
		case "":
			return moved
		case "move":
			moved = int(h.move().GetMoved())
		}
	}
	h.t.Fatal("the slots do not come to rest")
	return 0
}

func (h *story) move() *clusterpb.Move { return h.state.Ring(DefaultRing).Spec.GetMove() }

func TestAJoinMovesByItselfAndEnds(t *testing.T) {
	h := created(t, 2, 3)
	h.leadOn() // the ones that have joined before
	h.join("n4")
	if got := h.lead(2); got != "begin" || h.move().GetCause() != clusterpb.MoveCause_MOVE_JOIN || causeText(h.move()) != "n4 joined" {
		t.Fatalf("%s: %v", got, h.move())
	}
	want := h.state.Moving(h.state.Ring(DefaultRing))
	if moved := h.leadOn(); moved != want || moved == 0 {
		t.Errorf("%d steps, %d slots had to move", moved, want)
	}
	if r := h.state.Ring(DefaultRing); r.Spec.GetMove() != nil || r.Spec.GetFollowed() < h.state.Member("n4").GetActivated() {
		t.Errorf("after it: %v, followed %d", r.Spec.GetMove(), r.Spec.GetFollowed())
	}
	ev := h.state.Event(h.rev)
	if ev.GetAction() != "ring move done" || len(ev.GetChanges()) != 1 || ChangeText(ev.GetChanges()[0]) != "move was n4 joined" {
		t.Errorf("event %v", ev)
	}
}

func TestARebalanceIsAskedFor(t *testing.T) {
	h := created(t, 2, 3)
	h.leadOn()
	h.do(&clusterpb.UpdateMember{Name: "n3", Weight: ref(uint32(300))})
	if h.lead(1) != "" {
		t.Fatal("a weight moves slots by itself")
	}
	h.version(1).refused(clusterpb.Refusal_CONFLICT_VERSION, "version", &clusterpb.RebalanceRing{Name: DefaultRing})
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.RebalanceRing{Name: "nosuch"})
	h.refused(clusterpb.Refusal_INVALID, "name", &clusterpb.RebalanceRing{Name: "a/b"})
	version := h.state.Ring(DefaultRing).Spec.GetVersion()
	if res := h.version(int64(version)).do(&clusterpb.RebalanceRing{Name: DefaultRing}); res.Version != version {
		t.Errorf("the ring's version became %d", res.Version)
	}
	if m := h.move(); m.GetBy() != "alice@test" || m.GetSince() != h.rev || m.GetCause() != clusterpb.MoveCause_MOVE_REBALANCE {
		t.Errorf("move %v", m)
	}
	if h.lead(1) != "move" {
		t.Fatal("nothing moves")
	}
	// The end that a leader has seen is not that of what was asked for since.
	asked := h.move().GetAsked()
	h.do(&clusterpb.RebalanceRing{Name: DefaultRing})
	h.refused(clusterpb.Refusal_CONFLICT_VERSION, "asked", &clusterpb.EndMove{Ring: h.state.Ring(DefaultRing).Spec.GetId(), Asked: asked})
	if h.leadOn() == 0 || h.move() != nil {
		t.Errorf("after it: %v", h.move())
	}
	held := h.state.Ring(DefaultRing).Table.Held()
	if held[3] != 8 {
		t.Errorf("n3 holds %d slots of 8 with three times the weight", held[3])
	}
}

func TestAMoveIsCancelledAndStaysSo(t *testing.T) {
	h := created(t, 2, 3)
	h.leadOn()
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RebalanceRing{Name: DefaultRing, Cancel: true})
	h.join("n4")
	for h.lead(1) != "move" {
	}
	h.do(&clusterpb.RebalanceRing{Name: DefaultRing, Cancel: true})
	if m := h.move(); m.GetCancelled() != h.rev || m.GetCancelledBy() != "alice@test" || m.GetMoved() != 1 {
		t.Fatalf("move %v", m)
	}
	r := h.state.Ring(DefaultRing)
	h.closeAll(r)
	r = h.state.Ring(DefaultRing)
	late := moveOf(r, ring.NextSteps(r.Table, ring.Plan(r.Table, h.state.Eligible(r), r.RF()), r.Quorum()))
	h.refused(clusterpb.Refusal_CONFLICT_VERSION, "steps", late)
	if h.lead(1) != "" || h.state.Moving(r) != 0 {
		t.Error("it goes on")
	}
	if p := h.state.ProgressOf(r, nil, h.now); !p.Cancelled || p.Moved != 1 || p.Left == 0 || !strings.Contains(p.String(), "cancelled at") {
		t.Errorf("progress %+v", p)
	}
	h.do(&clusterpb.RebalanceRing{Name: DefaultRing, Cancel: true}) // asked again
	// Asked again to move, or joined by another node, it goes on.
	again := *h
	again.do(&clusterpb.RebalanceRing{Name: DefaultRing})
	if again.leadOn() == 0 || again.move() != nil {
		t.Errorf("asked again: %v", again.move())
	}
	h.join("n5")
	if h.leadOn() == 0 || h.state.Ring(DefaultRing).Table.Held()[4] < 3 {
		t.Errorf("another node joined: %v", h.state.Ring(DefaultRing).Table.Held())
	}
	// A node that has just become active, before the leader has begun.
	h.join("n6")
	h.do(&clusterpb.RebalanceRing{Name: DefaultRing, Cancel: true})
	if h.lead(1) != "" || causeText(h.move()) != "n6 joined" {
		t.Errorf("it moves: %v", h.move())
	}
}

func TestWhatIsOwedIsNotCancelled(t *testing.T) {
	cancel := &clusterpb.RebalanceRing{Name: DefaultRing, Cancel: true}
	h := created(t, 2, 4)
	h.leadOn()
	h.do(&clusterpb.BeginRemoval{Name: "n4"})
	h.lead(1)
	if r := h.refused(clusterpb.Refusal_UNSAFE, "", cancel); !strings.Contains(r.GetMessage(), "`muster cluster remove n4 --cancel`") {
		t.Errorf("refused with %q", r.GetMessage())
	}
	h.do(&clusterpb.RemoveMember{Name: "n4", Force: true})
	h.closeAll(h.state.Ring(DefaultRing))
	if r := h.refused(clusterpb.Refusal_UNSAFE, "", cancel); !strings.Contains(r.GetMessage(), "a repair is not cancelled") {
		t.Errorf("refused with %q", r.GetMessage())
	}
	h.leadOn()
	if n := h.state.unkept(h.state.Ring(DefaultRing)); n > 0 {
		t.Errorf("%d slots lack something", n)
	}
}

// TestWhoLeavesWhileAnotherJoins: one move does both, and tells of the leaver.
func TestWhoLeavesWhileAnotherJoins(t *testing.T) {
	h := created(t, 2, 3)
	h.leadOn()
	h.join("n4")
	for h.lead(1) != "move" {
	}
	since := h.move().GetSince()
	h.do(&clusterpb.BeginRemoval{Name: "n1"})
	h.do(h.state.due(h.state.Ring(DefaultRing)))
	if m := h.move(); m.GetSince() != since || m.GetMoved() != 1 || causeText(m) != "removal of n1" || m.GetBy() != "alice@test" {
		t.Errorf("move %v", m)
	}
	h.leadOn()
	if held := h.state.Ring(DefaultRing).Table.Held(); held[1] != 0 || held[4] < 5 {
		t.Errorf("held %v", held)
	}
}

func TestProgressTellsWhatItWaitsFor(t *testing.T) {
	h := created(t, 1, 3)
	h.leadOn()
	h.join("n4")
	h.lead(1)
	var healths []*clusterpb.Health
	for _, m := range h.state.Members() {
		healths = append(healths, &clusterpb.Health{Report: &clusterpb.Report{
			Node: m.GetName(), Announced: 1 << 40, Series: 80_000, StoreId: h.state.Store(storeOf(m.GetStore())).GetId(),
		}})
	}
	progress := func() *Progress {
		t.Helper()
		return h.state.ProgressOf(h.state.Ring(DefaultRing), healths, h.now+10*second)
	}
	// n1 to n3 have 2 or 3 of the 8 slots each, n4 gets two of up to 40,000 series.
	p := progress()
	if len(p.Gains) != 1 || p.Gains[0].Node != "n4" || p.Gains[0].Slots != 2 || p.Gains[0].Series < 53_000 || p.Gains[0].Series > 80_000 {
		t.Errorf("gains %+v", p.Gains)
	}
	if p.Percent() != 0 || len(p.HeldUpBy) > 0 || p.ETA < 2*time.Second || p.ETA > 4*time.Second {
		t.Errorf("progress %+v: %v", p, p)
	}
	h.lead(1)
	if p = progress(); p.Percent() != 50 || len(p.HeldUpBy) > 0 {
		t.Errorf("half way: %v", p)
	}
	// With a quorum of one the old holder of the slot that has moved is silent; its
	// other slots wait only when they have to move.
	healths[3].LastContactMs = 60_000
	if p = progress(); p.ETA >= 0 || !strings.Contains(p.String(), "n4 was last heard 1m0s ago and takes no slot") {
		t.Errorf("n4 is silent: %v", p)
	}
	set := DefaultSettings()
	set.Maintenance = true
	h.do(&clusterpb.PutSettings{Settings: set})
	if p = progress(); !strings.Contains(p.String(), "maintenance is on (`muster settings set maintenance=false`)") {
		t.Errorf("in maintenance: %v", p)
	}
}

// TestASilentStoreThatHoldsUpAMoveIsNamed: with a write quorum of one all of a
// slot's former holders must have announced its change before it moves again.
func TestASilentStoreThatHoldsUpAMoveIsNamed(t *testing.T) {
	h := begin(t)
	first := initCluster("n1", 2)
	h.do(first)
	for _, n := range []string{"n2", "n3"} {
		h.join(n)
	}
	h.spread(DefaultRing)
	h.leadOn()
	r := h.state.Ring(DefaultRing)
	if r.Quorum() != 1 {
		t.Fatalf("quorum %d", r.Quorum())
	}
	// Each slot takes two steps: both of its holders are exchanged.
	for _, n := range []string{"n4", "n5"} {
		h.join(n)
	}
	h.do(&clusterpb.PutRing{Name: DefaultRing, ReplicationFactor: 2, Nodes: []string{"n4", "n5"}})
	h.do(&clusterpb.RebalanceRing{Name: DefaultRing})
	r = h.state.Ring(DefaultRing)
	h.do(moveOf(r, ring.NextSteps(r.Table, ring.Plan(r.Table, h.state.Eligible(r), r.RF()), r.Quorum())))
	changed := h.rev
	var healths []*clusterpb.Health
	for _, m := range h.state.Members() {
		announced := changed
		if m.GetName() == "n2" {
			announced--
		}
		healths = append(healths, &clusterpb.Health{Report: &clusterpb.Report{
			Node: m.GetName(), Announced: announced, StoreId: h.state.Store(storeOf(m.GetStore())).GetId(),
		}})
	}
	r = h.state.Ring(DefaultRing)
	if p := h.state.ProgressOf(r, healths, h.now+second); len(p.HeldUpBy) > 0 {
		t.Errorf("a moment is no delay: %v", p)
	}
	p := h.state.ProgressOf(r, healths, h.now+10*second)
	if len(p.HeldUpBy) != 1 || !strings.Contains(p.HeldUpBy[0], "n2 has not announced revision") {
		t.Errorf("held up by %q", p.HeldUpBy)
	}
	if steps := ring.NextSteps(r.Table, ring.Plan(r.Table, h.state.Eligible(r), r.RF()), r.Quorum()); len(steps) > 0 {
		t.Errorf("%d slots move on though no epoch is closed", len(steps))
	}
}

// TestSeriesPerSlot counts the slots that a store had when the move began: what
// has left is in its head still, and would make the rest look dear.
func TestSeriesPerSlot(t *testing.T) {
	h := created(t, 1, 2)
	h.leadOn()
	healths := []*clusterpb.Health{
		{Report: &clusterpb.Report{Node: "n1", Series: 4000}},
		{Report: &clusterpb.Report{Node: "n2", Series: 400}},
		{Report: &clusterpb.Report{Node: "n9", Series: 9000}},
	}
	before := h.state.seriesPerSlot(healths)
	if before[1] != 1000 || before[2] != 100 || len(before) != 2 {
		t.Fatalf("%v", before)
	}
	h.join("n3")
	h.do(&clusterpb.BeginRemoval{Name: "n1"})
	for range 5 {
		h.lead(1)
	}
	if n := h.state.Ring(DefaultRing).Table.Held()[1]; n > 2 {
		t.Fatalf("n1 holds %d slots", n)
	}
	if now := h.state.seriesPerSlot(healths); now[1] != 1000 {
		t.Errorf("%v", now)
	}
	if c := costOf(ring.SetOf(1, 2), before); c != 1000 {
		t.Errorf("a slot of both costs %v", c)
	}
	if c := costOf(ring.SetOf(), before); c != 1 {
		t.Errorf("a slot of nobody costs %v", c)
	}
}

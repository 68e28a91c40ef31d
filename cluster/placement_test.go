package cluster

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func newRing() *clusterpb.Command {
	return command(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 2, Slots: 8})
}

// TestANewRingHasTheTableOfItsCommand places slots as no planner would: what is
// committed counts, whatever this version would have chosen.
func TestANewRingHasTheTableOfItsCommand(t *testing.T) {
	h := created(t, 1, 3)
	cmd := newRing()
	for slot, replicas := range [][]uint32{{3, 1}, {3, 1}, {3, 1}, {2}, {3, 1}} {
		cmd.GetPutRing().Placement = append(cmd.GetPutRing().Placement, &clusterpb.SlotStep{Slot: uint32(slot), Replicas: replicas, Base: h.rev})
	}
	if res := h.send(cmd); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	r := h.state.Ring("hard")
	if held := r.Table.Held(); held[3] != 4 || held[1] != 4 || held[2] != 1 || r.Short() != 4 || r.Table.At(0).Replicas.At(0) != 3 {
		t.Fatalf("slots by store: %v, %d short", held, r.Short())
	}
	if s := r.Table.At(7); s.Replicas.Len() != 0 || s.Quorum != r.Quorum() || s.Changed != h.rev || len(r.Table.Past()) != 0 {
		t.Fatalf("a slot that was not placed: %+v", s)
	}
	h.spread("hard") // as the leader's loop does
	if r := h.state.Ring("hard"); r.Short() != 0 {
		t.Fatalf("%d slots short", r.Short())
	}
}

func TestAPlacementThatDoesNotFitIsRefused(t *testing.T) {
	h := created(t, 1, 3)
	h.do(nodeToken("join-n4", h.now+hour))
	h.do(joining("n4", "n4/a", false))
	for _, c := range []struct {
		name  string
		kind  clusterpb.Refusal_Kind
		spoil func(*clusterpb.PutRing)
	}{
		{"a slot that the ring has not", clusterpb.Refusal_INVALID, func(c *clusterpb.PutRing) { c.Placement[0].Slot = 8 }},
		{"a slot beyond all", clusterpb.Refusal_INVALID, func(c *clusterpb.PutRing) { c.Placement[0].Slot = 1<<32 - 1 }},
		{"a slot twice", clusterpb.Refusal_INVALID, func(c *clusterpb.PutRing) { c.Placement[0].Slot = 1 }},
		{"too many slots", clusterpb.Refusal_INVALID, func(c *clusterpb.PutRing) { c.Slots = 4 }},
		{"too many replicas", clusterpb.Refusal_INVALID, func(c *clusterpb.PutRing) { c.Placement[0].Replicas = []uint32{1, 2, 3} }},
		{"a store twice", clusterpb.Refusal_INVALID, func(c *clusterpb.PutRing) { c.Placement[0].Replicas = []uint32{1, 1} }},
		{"no store", clusterpb.Refusal_INVALID, func(c *clusterpb.PutRing) { c.Placement[0].Replicas = []uint32{0} }},
		{"a joining node's", clusterpb.Refusal_CONFLICT_VERSION, func(c *clusterpb.PutRing) { c.Placement[0].Replicas = []uint32{4} }},
		{"nobody's", clusterpb.Refusal_CONFLICT_VERSION, func(c *clusterpb.PutRing) { c.Placement[0].Replicas = []uint32{99} }},
		{"not in the node list", clusterpb.Refusal_CONFLICT_VERSION, func(c *clusterpb.PutRing) { c.Nodes = []string{"n1", "n2"} }},
		{"older than a node", clusterpb.Refusal_CONFLICT_VERSION, func(c *clusterpb.PutRing) { c.Placement[7].Base = 12 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := newRing()
			h.state.Place(cmd)
			c.spoil(cmd.GetPutRing())
			before := objects(h.state)
			res := h.send(cmd)
			if res.Refusal.GetKind() != c.kind || res.Refusal.GetField() != fieldPlacement || objects(h.state) != before {
				t.Fatalf("answered %v, want %v", res.Refusal, c.kind)
			}
		})
	}
}

func TestOnlyANewRingIsPlaced(t *testing.T) {
	h := created(t, 1, 3)
	forged := []*clusterpb.SlotStep{{Replicas: []uint32{3}, Base: h.rev}}
	cmd := newRing()
	cmd.GetPutRing().Placement = forged
	h.state.Place(cmd)
	if n := len(cmd.GetPutRing().GetPlacement()); n != 8 {
		t.Fatalf("%d slots placed", n)
	}
	for _, change := range []*clusterpb.PutRing{
		{Name: DefaultRing, ReplicationFactor: 2, Placement: forged},
		{Name: "hard", ReplicationFactor: 2, Slots: 1 << 31, Placement: forged},
		{Name: "hard", ReplicationFactor: 99, Placement: forged},
		{Name: "hard", ReplicationFactor: 1, Nodes: []string{"nobody"}, Placement: forged},
	} {
		cmd := command(change)
		h.state.Place(cmd)
		if len(cmd.GetPutRing().GetPlacement()) != 0 {
			t.Errorf("placed: %v", cmd)
		}
	}
	EmptyState().Place(newRing())
	h.state.Place(command(&clusterpb.PutTenant{Id: "a"}))

	// Of a ring that exists nothing moves, whatever the command says.
	table := h.state.Ring(DefaultRing).Table
	if res := h.send(command(&clusterpb.PutRing{Name: DefaultRing, ReplicationFactor: 2, Placement: forged})); res.Refusal != nil || h.state.Ring(DefaultRing).Table != table {
		t.Fatalf("answered %v", res.Refusal)
	}
}

// TestANewRingIsPlannedAgain lets nodes come and go between planning and
// applying: the same request is answered by the plan that fits.
func TestANewRingIsPlannedAgain(t *testing.T) {
	for name, meanwhile := range map[string]func(*story){
		"a node has joined":      func(h *story) { h.join("n4") },
		"a node has gone":        func(h *story) { h.do(&clusterpb.RemoveMember{Name: "n3", Force: true}) },
		"the store was replaced": func(h *story) { h.replace("n3") },
	} {
		t.Run(name, func(t *testing.T) {
			h := created(t, 1, 3)
			h.join("n5")
			cmd := newRing()
			cmd.RequestId = bytes.Repeat([]byte{7}, requestIDLen)
			commits := 0
			commit := func() (Result, error) {
				commits++
				if commits == 1 {
					meanwhile(h)
				}
				return h.send(proto.CloneOf(cmd)), nil
			}
			newest := func() (*State, error) { return h.state, nil }
			res, err := commitPlaced(cmd, newest, commit)
			if err != nil || res.Refusal != nil || commits != 2 {
				t.Fatalf("answered %+v, %v after %d commits", res, err, commits)
			}
			r := h.state.Ring("hard")
			held := r.Table.Held()
			for _, n := range h.state.Eligible(r) {
				if held[n.Store] == 0 {
					t.Errorf("store %d holds nothing: %v", n.Store, held)
				}
			}
			if r.Short() != 0 {
				t.Errorf("%d slots short", r.Short())
			}
			if again := h.send(proto.CloneOf(cmd)); again.Refusal != nil || again.Revision != res.Revision {
				t.Errorf("asked again: %+v, want %+v", again, res)
			}
		})
	}
}

// replace gives the node another store, and makes it active with it.
func (h *story) replace(name string) {
	h.t.Helper()
	h.do(nodeToken("again", h.now+hour))
	add := joining(name, name+"/b", true)
	add.TokenId = "again"
	h.do(add)
	h.do(&clusterpb.ActivateMember{Name: name})
}

func TestPlanningEnds(t *testing.T) {
	h := created(t, 1, 1)
	tries := 0
	newest := func() (*State, error) { return h.state, nil }
	res, err := commitPlaced(newRing(), newest, func() (Result, error) {
		tries++
		return Result{Refusal: misplaced("never")}, nil
	})
	if err != nil || !isMisplaced(res.Refusal) || tries != placeTries {
		t.Errorf("%+v, %v after %d tries", res, err, tries)
	}
	lost := errors.New("lost")
	if _, err := commitPlaced(newRing(), func() (*State, error) { return nil, lost }, nil); !errors.Is(err, lost) {
		t.Errorf("answered %v", err)
	}
	if _, err := commitPlaced(newRing(), newest, func() (Result, error) { return Result{}, lost }); !errors.Is(err, lost) {
		t.Errorf("answered %v", err)
	}
}

// TestTheLeaderFillsARingWithoutAPlacement commits what a leader that could not
// plan would.
func TestTheLeaderFillsARingWithoutAPlacement(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{})
	b.settled()
	leader := b.leader()
	res, err := leader.node.engine.Load().apply(leader.ctx(), newRing())
	if err != nil || res.Refusal != nil {
		t.Fatalf("answered %+v, %v", res, err)
	}
	if id := leader.node.State().Ring("hard").Spec.GetId(); id != res.Revision {
		t.Fatalf("ring %d, committed at %d", id, res.Revision)
	}
	b.settled()
	b.agree()
	for _, e := range leader.node.State().Ring("hard").Table.Past() {
		if e.Replicas.Len() == 0 {
			t.Errorf("an epoch in which nobody held the slot: %+v", e)
		}
	}
}

package cluster

import (
	"slices"
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// A move is slots of a ring on their way:
//
//	         ┌── asked for (RebalanceRing), or it is due (BeginMove)
//	         ▼
//	none ──▶ under way ──▶ none              EndMove: the slots are there
//	            │  ▲
//	    cancel  ▼  │ asked for again, or due again
//	         cancelled
//
// Where the slots are going is not kept: the planner says it again from the
// table as it is. So a leader that finds a move under way goes on with it, and
// one that is cancelled leaves a table as good as any other.

// isUnderWay says whether the leader goes on with the move.
func isUnderWay(m *clusterpb.Move) bool { return m != nil && m.GetCancelled() == 0 }

// rebalanceRing begins a move because somebody asked for it, or ends one where
// it is.
func (e *edit) rebalanceRing(c *clusterpb.RebalanceRing) (uint64, *clusterpb.Refusal) {
	if r := checkName("name", "ring name", c.GetName()); r != nil {
		return 0, r
	}
	old := e.next.Ring(c.GetName())
	if old == nil {
		return 0, notFound("there is no ring %s", c.GetName())
	}
	if r := e.expect("ring", c.GetName(), old.Spec.GetVersion()); r != nil {
		return 0, r
	}
	if c.GetCancel() {
		return e.cancelMove(old)
	}
	move := copyOf(old.Spec.GetMove())
	if !isUnderWay(move) {
		move = &clusterpb.Move{Since: e.rev, SinceMs: e.now, By: e.by(), Cause: clusterpb.MoveCause_MOVE_REBALANCE}
		e.note("ring rebalance begun", c.GetName(), "")
	} else {
		e.note("ring rebalance asked for", c.GetName(), "it joins the move that is under way")
	}
	move.Asked = e.rev
	e.setMove(old, move)
	return old.Spec.GetVersion(), nil
}

// cancelMove leaves the slots where they are. What the ring owes somebody is not
// cancelled: the slots of a member that leaves, and those that lack replicas.
func (e *edit) cancelMove(old *Ring) (uint64, *clusterpb.Refusal) {
	name := old.Spec.GetName()
	if leaving := e.next.deserters(old); len(leaving) > 0 {
		return 0, unsafe("", "ring %s: %s is being removed and its slots have to leave it: `muster cluster remove %s --cancel` ends that", name, leaving[0], leaving[0])
	}
	if n := e.next.unkept(old) + e.next.withLost(old); n > 0 {
		return 0, unsafe("", "ring %s: %s not the replicas or the quorum that the ring promises, and a repair is not cancelled: `muster ring show %s` tells how far it is", name, have(n, "slot"), name)
	}
	move := copyOf(old.Spec.GetMove())
	members, operator := follows(&e.next, old)
	switch {
	case move.GetCancelled() != 0 && members <= old.Spec.GetFollowed():
		return old.Spec.GetVersion(), nil // asked again
	case move == nil && (members <= operator || members <= old.Spec.GetFollowed()):
		return 0, unsafe("", "ring %s: no move is under way: `muster ring show %s`", name, name)
	case move == nil: // a node has joined this moment, and the leader has not begun
		move = &clusterpb.Move{Since: e.rev, SinceMs: e.now, Cause: clusterpb.MoveCause_MOVE_JOIN, Nodes: e.next.joined(old), Asked: e.rev}
	}
	move.Cancelled, move.CancelledMs, move.CancelledBy = e.rev, e.now, e.by()
	e.note("ring move cancelled", name, "after "+many(int(move.GetMoved()), "step"))
	e.setMove(old, move)
	return old.Spec.GetVersion(), nil
}

// have is a count with its verb: 1 slot has, 2 slots have.
func have(n int, thing string) string {
	if n == 1 {
		return "1 " + thing + " has"
	}
	return many(n, thing) + " have"
}

// beginMove is the leader's: it has found something due.
func (e *edit) beginMove(c *clusterpb.BeginMove) (uint64, *clusterpb.Refusal) {
	old, r := e.livingRing(c.GetRing())
	if r != nil {
		return 0, r
	}
	if c.GetCause() <= clusterpb.MoveCause_MOVE_CAUSE_UNSPECIFIED || c.GetCause() > clusterpb.MoveCause_MOVE_REPAIR || len(c.GetNodes()) > maxMembers {
		return 0, invalid("cause", "a move of cause %d for %s", c.GetCause(), many(len(c.GetNodes()), "node"))
	}
	move := copyOf(old.Spec.GetMove())
	action := "ring move goes on"
	if !isUnderWay(move) {
		move, action = &clusterpb.Move{Since: e.rev, SinceMs: e.now, Asked: e.rev}, "ring move begun"
	}
	move.Cause, move.By = c.GetCause(), text(c.GetBy(), maxActor)
	move.Nodes = make([]string, 0, len(c.GetNodes()))
	for _, n := range c.GetNodes() {
		move.Nodes = append(move.Nodes, text(n, maxActor))
	}
	e.note(action, old.Spec.GetName(), "")
	e.setMove(old, move)
	return old.Spec.GetVersion(), nil
}

// endMove is the leader's: the slots are where they should be.
func (e *edit) endMove(c *clusterpb.EndMove) (uint64, *clusterpb.Refusal) {
	old, r := e.livingRing(c.GetRing())
	if r != nil {
		return 0, r
	}
	move := old.Spec.GetMove()
	if move.GetAsked() != c.GetAsked() {
		return 0, refuse(clusterpb.Refusal_CONFLICT_VERSION, "asked", "ring %s: a move was asked for at revision %d: look again", old.Spec.GetName(), move.GetAsked())
	}
	next := copyOf(old.Spec)
	next.Move, next.Followed = nil, max(next.GetFollowed(), min(c.GetFollowed(), e.rev))
	if isUnderWay(move) {
		e.note("ring move done", old.Spec.GetName(), "after "+many(int(move.GetMoved()), "step"))
		e.differ("ring", next.GetName(), moveFacts(move), moveFacts(nil))
	}
	e.setRing(&Ring{Spec: next, Table: old.Table})
	e.changed.Rings = true
	return next.GetVersion(), nil
}

// livingRing is the ring with that id, which is not deleted.
func (e *edit) livingRing(id uint64) (*Ring, *clusterpb.Refusal) {
	old, r := e.ringByID(id)
	if r == nil && old.Deleted() {
		return nil, notFound("ring %s was deleted at revision %d", old.Spec.GetName(), old.Spec.GetDeleted())
	}
	return old, r
}

// setMove puts the move into the ring. One that is cancelled counts as followed:
// what has joined until now stays without its slots.
func (e *edit) setMove(old *Ring, move *clusterpb.Move) {
	next := copyOf(old.Spec)
	next.Move = move
	if move.GetCancelled() == e.rev {
		next.Followed = e.rev
	}
	e.differ("ring", next.GetName(), moveFacts(old.Spec.GetMove()), moveFacts(move))
	e.setRing(&Ring{Spec: next, Table: old.Table})
	e.changed.Rings = true
}

// movedBy is the ring's object after so many steps of its move.
func movedBy(spec *clusterpb.Ring, steps int) *clusterpb.Ring {
	if !isUnderWay(spec.GetMove()) {
		return spec
	}
	next := copyOf(spec)
	next.Move.Moved += uint64(steps)
	return next
}

// causeText says why slots move: "n4, n5 joined".
func causeText(m *clusterpb.Move) string {
	nodes := some(slices.Clone(m.GetNodes()))
	switch m.GetCause() {
	case clusterpb.MoveCause_MOVE_JOIN:
		if len(m.GetNodes()) == 0 {
			return "nodes have joined"
		}
		return nodes + " joined"
	case clusterpb.MoveCause_MOVE_REMOVAL:
		if len(m.GetNodes()) == 0 {
			return "a node was removed"
		}
		return "removal of " + nodes
	case clusterpb.MoveCause_MOVE_REPAIR:
		return "repair"
	default:
		return strings.ToLower(strings.TrimPrefix(m.GetCause().String(), "MOVE_"))
	}
}

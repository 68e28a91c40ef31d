package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// Custody says at which revision one store's node was named the custodian of
// another's; ok is false where it is none.
func (s *State) Custody(of, custodian ring.Store) (since uint64, ok bool) {
	st := s.Store(of)
	i := slices.Index(st.GetCustodians(), uint32(custodian))
	if i < 0 || i >= len(st.GetCustody()) {
		return 0, false
	}
	return st.GetCustody()[i], true
}

// InCustody are the stores that this store's node keeps for others, or is being
// given, by number.
func (s *State) InCustody(custodian ring.Store) []*clusterpb.Store {
	var out []*clusterpb.Store
	for _, st := range s.stores {
		if slices.Contains(st.GetCustodians(), uint32(custodian)) {
			out = append(out, st)
		}
	}
	return out
}

// Whereabouts is where a store's data can be asked for, in words.
func (s *State) Whereabouts(n ring.Store) string {
	st := s.Store(n)
	var nodes []string
	for _, c := range st.GetCustodians() {
		nodes = append(nodes, s.Store(storeOf(c)).GetNode())
	}
	switch {
	case st == nil:
		return "unknown"
	case s.Holder(n) != nil:
		return "on " + st.GetNode()
	case len(nodes) > 0:
		return "kept by " + strings.Join(nodes, ", ")
	case st.GetLost() == 0 && st.GetInBucket():
		return "in the bucket only: ask the Store Gateway"
	default:
		return "lost"
	}
}

// Duties is what still ties a store to the rings: the slots it holds, and the
// ended epochs with it that are not closed yet, in which a write may begin.
type Duties struct {
	Slots, Open int
	// Ring is the name of one ring that has some of them.
	Ring string
	// Past says that reads may still ask for it: an ended epoch has it.
	Past bool
}

// Duties are those of the store over all rings.
func (s *State) Duties(n ring.Store) Duties {
	var d Duties
	for _, r := range s.rings {
		before := d.Slots + d.Open
		d.Slots += r.Table.Held()[n]
		for _, ep := range r.Table.Past() {
			if !ep.Replicas.Has(n) {
				continue
			}
			d.Past = true
			if ep.Closed == 0 {
				d.Open++
			}
		}
		if d.Slots+d.Open > before {
			d.Ring = r.Spec.GetName()
		}
	}
	return d
}

// maxCustodians of one store: the one that has it, and others on the way.
const maxCustodians = 4

// setCustodians names who keeps a store whose node is on its way out, or has
// left. A custodian that is named anew counts from now on, once it has all.
func (e *edit) setCustodians(c *clusterpb.SetCustodians) (uint64, *clusterpb.Refusal) {
	old, r := e.leavingStore(c.GetStore())
	if r != nil {
		return 0, r
	}
	if !slices.Equal(old.GetCustodians(), c.GetWere()) {
		return 0, refuse(clusterpb.Refusal_CONFLICT_VERSION, "were", "store %d has the custodians %v, not %v: look again", old.GetNumber(), old.GetCustodians(), head(c.GetWere()))
	}
	if n := len(c.GetCustodians()); n > maxCustodians {
		return 0, invalid("custodians", "%d custodians: at most %d", n, maxCustodians)
	}
	next := copyOf(old)
	next.Custodians, next.Custody = nil, nil
	for _, n := range c.GetCustodians() {
		since, known := e.next.Custody(storeOf(old.GetNumber()), storeOf(n))
		if !known {
			since = e.rev
			if r := e.mayKeep(n, old); r != nil {
				return 0, r
			}
		}
		if slices.Contains(next.Custodians, n) {
			return 0, invalid("custodians", "store %d is named twice", n)
		}
		next.Custodians, next.Custody = append(next.Custodians, n), append(next.Custody, since)
	}
	n := storeOf(old.GetNumber())
	if len(next.Custodians) == 0 && e.next.Holder(n) == nil && !old.GetInBucket() && e.next.Duties(n).Past {
		return 0, unsafe("custodians", "store %d left the cluster and reads may still ask for it: it needs a custodian", old.GetNumber())
	}
	if slices.Equal(next.Custodians, old.Custodians) {
		return 0, nil
	}
	if !containsAll(next.Custodians, old.Custodians) {
		e.lookAgain(next)
	}
	e.setStore(next)
	e.changed.Members = true
	e.note("custodian named", old.GetNode(), fmt.Sprintf("store %d is %s", old.GetNumber(), e.next.keepers(next)))
	return 0, nil
}

// lookAgain has a leaver that is still there, and was empty, make sure of it once
// more: a custodian is gone, and whether another one has all only the leaver can
// find out. Without that it would go with what nobody else has.
func (e *edit) lookAgain(st *clusterpb.Store) {
	if e.next.Holder(storeOf(st.GetNumber())) != nil {
		st.Emptied = 0
	}
}

func containsAll(list, of []uint32) bool {
	return !slices.ContainsFunc(of, func(n uint32) bool { return !slices.Contains(list, n) })
}

// keepers names the custodians for an event.
func (s *State) keepers(st *clusterpb.Store) string {
	if len(st.GetCustodians()) == 0 {
		return "given to nobody"
	}
	names := make([]string, 0, len(st.GetCustodians()))
	for _, n := range st.GetCustodians() {
		names = append(names, s.Store(storeOf(n)).GetNode())
	}
	return "given to " + strings.Join(names, ", ")
}

// leavingStore is a store whose node is being removed, or has left in order.
func (e *edit) leavingStore(number uint32) (*clusterpb.Store, *clusterpb.Refusal) {
	st := e.next.Store(storeOf(number))
	m := e.next.Holder(storeOf(number))
	switch {
	case st == nil:
		return nil, notFound("there is no store %d", number)
	case st.GetLost() != 0:
		return nil, unsafe("store", "store %d of %s was given up at revision %d", number, st.GetNode(), st.GetLost())
	case m != nil && m.GetState() != clusterpb.MemberState_REMOVING:
		return nil, unsafe("store", "%s, which has store %d, is not being removed", m.GetName(), number)
	}
	return st, nil
}

// mayKeep wants a custodian to be an active member with another store.
func (e *edit) mayKeep(number uint32, of *clusterpb.Store) *clusterpb.Refusal {
	m := e.next.Holder(storeOf(number))
	if m == nil || m.GetState() != clusterpb.MemberState_ACTIVE || number == of.GetNumber() {
		return unsafe("custodians", "store %d is no active node's other than %s", number, of.GetNode())
	}
	return nil
}

// emptyStore notes that a store on its way out has nothing that is nowhere else.
// That its blocks are where they should be is the node's word; that no sample
// can come any more, and that somebody answers for it, the state knows.
func (e *edit) emptyStore(c *clusterpb.EmptyStore) (uint64, *clusterpb.Refusal) {
	old, r := e.leavingStore(c.GetStore())
	if r != nil {
		return 0, r
	}
	n := storeOf(c.GetStore())
	d := e.next.Duties(n)
	switch {
	case e.next.Holder(n) == nil:
		return 0, unsafe("store", "store %d has left already", c.GetStore())
	case d.Slots > 0:
		return 0, unsafe("store", "store %d holds %d slots of ring %s", c.GetStore(), d.Slots, d.Ring)
	case d.Open > 0:
		return 0, unsafe("store", "store %d has %d epochs in ring %s that are not closed", c.GetStore(), d.Open, d.Ring)
	case len(old.GetCustodians()) == 0 && !c.GetInBucket():
		return 0, unsafe("store", "store %d has no custodian and is not in the bucket", c.GetStore())
	}
	if kept := e.next.InCustody(n); len(kept) > 0 {
		return 0, unsafe("store", "store %d still keeps the blocks of store %d of %s", c.GetStore(), kept[0].GetNumber(), kept[0].GetNode())
	}
	if old.GetEmptied() != 0 && old.GetInBucket() == c.GetInBucket() {
		return 0, nil
	}
	next := copyOf(old)
	next.Emptied, next.InBucket = e.rev, c.GetInBucket()
	e.setStore(next)
	e.changed.Members = true
	e.note("store emptied", old.GetNode(), fmt.Sprintf("store %d: %s, in the bucket: %v", c.GetStore(), e.next.keepers(next), c.GetInBucket()))
	return 0, nil
}

// endCustody makes a store its node's own again, which stays after all: it may
// take samples that no custodian has.
func (e *edit) endCustody(number uint32) {
	old := e.next.Store(storeOf(number))
	if old == nil || len(old.GetCustodians()) == 0 && old.GetEmptied() == 0 {
		return
	}
	next := copyOf(old)
	ownAgain(next)
	e.setStore(next)
	e.changed.Members = true
}

// ownAgain says of a store that nobody answers for it but its node.
func ownAgain(st *clusterpb.Store) {
	st.Custodians, st.Custody, st.Emptied, st.InBucket = nil, nil, 0, false
}

// loseCustodian takes a store that is lost out of the custodians. What it alone
// kept is lost with it, unless the bucket or the leaver itself still has it.
func (e *edit) loseCustodian(number uint32) {
	for _, old := range e.next.InCustody(storeOf(number)) {
		next := copyOf(old)
		i := slices.Index(next.Custodians, number)
		next.Custodians = slices.Delete(next.Custodians, i, i+1)
		if i < len(next.Custody) {
			next.Custody = slices.Delete(next.Custody, i, i+1)
		}
		gone := len(next.Custodians) == 0 && !next.GetInBucket()
		if gone {
			next.Emptied = 0
		}
		e.lookAgain(next)
		e.setStore(next)
		if gone && e.next.Holder(storeOf(next.GetNumber())) == nil {
			e.lose(next.GetNumber())
		}
	}
}

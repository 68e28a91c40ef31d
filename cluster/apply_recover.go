package cluster

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// revisionGap is how far a recovered cluster jumps ahead: whatever was committed
// and is lost has a revision in between, so that no number means two things. A
// cluster that makes a hundred changes a second needs three hours for it.
const revisionGap = 1 << 20

// maxLost bounds how many recoveries the state remembers.
const maxLost = 1000

// recoverCluster makes one member's control state the cluster's. All others are
// incarnations that nobody has yet: whatever they come back with is refused,
// until they join again and give their control state up. Their stores stay
// theirs, and so do the slots.
func (e *edit) recoverCluster(c *clusterpb.RecoverCluster) (uint64, *clusterpb.Refusal) {
	m := e.next.Member(c.GetNode())
	if m == nil {
		return 0, notFound("%s is no member: only a member can be what is left of the cluster", quote(c.GetNode()))
	}
	if n := len(c.GetCaCertificates()); n > maxCertificates {
		return 0, invalid("ca_certificates", "the certificates have %d bytes: at most %d", n, maxCertificates)
	}
	if c.GetKnown() >= e.rev {
		return 0, invalid("known", "revision %d is not before %d", c.GetKnown(), e.rev)
	}
	var others []string
	for _, old := range slices.Clone(e.next.members) {
		if old.GetName() == m.GetName() {
			continue
		}
		next := copyOf(old)
		next.Incarnation, next.Server, next.Version = e.rev, e.rev, e.rev
		e.setMember(next)
		e.inherit(next)
		others = append(others, next.GetName())
	}
	e.beginAnew(c.GetKnown(), c.GetKnownMs(), c.GetCaCertificates())
	e.changed = everything
	e.note("cluster recovered by force", e.next.cluster.GetName(), fmt.Sprintf("incarnation %d from the control state of %s at revision %d; must join again: %s",
		e.next.cluster.GetIncarnation(), m.GetName(), c.GetKnown(), strings.Join(others, ", ")))
	return e.rev, nil
}

// beginAnew makes the cluster its next incarnation. What was committed after
// known, which is of the time knownMs, is lost.
func (e *edit) beginAnew(known uint64, knownMs int64, ca []byte) {
	e.setCluster(func(c *clusterpb.Cluster) {
		c.Incarnation++
		c.LostHistory = append(c.LostHistory, &clusterpb.LostHistory{After: known, Before: e.rev, TimeMs: e.now, SinceMs: max(min(knownMs, e.now), 0)})
		if n := len(c.LostHistory); n > maxLost {
			c.LostHistory = c.LostHistory[n-maxLost:]
		}
		if len(ca) > 0 {
			c.CaCertificates = bytes.Clone(ca)
		}
	})
}

// inherit tells the member's store of the member's incarnation.
func (e *edit) inherit(m *clusterpb.Member) {
	old := e.next.Store(storeOf(m.GetStore()))
	if old == nil {
		return
	}
	st := copyOf(old)
	st.Node, st.Incarnation = m.GetName(), m.GetIncarnation()
	e.setStore(st)
}

// refoundCluster begins a cluster anew from a snapshot, with one member. The
// others are members no more; one that joins with its old data directory gets
// its store back. Slots are on the first member until others join, and no epoch
// of before can be written in: its cluster is gone.
func (e *edit) refoundCluster(c *clusterpb.RefoundCluster) (uint64, *clusterpb.Refusal) {
	if r := checkMember(c.GetMember(), c.GetStoreId()); r != nil {
		return 0, r
	}
	if n := len(c.GetCaCertificates()); n == 0 || n > maxCertificates {
		return 0, invalid("ca_certificates", "the certificates have %d bytes: want a new CA's, at most %d", n, maxCertificates)
	}
	if c.GetKnown() >= e.rev {
		return 0, invalid("known", "revision %d is not before %d", c.GetKnown(), e.rev)
	}
	for _, old := range slices.Clone(e.next.members) {
		e.dropMember(old, true)
		e.await(old)
	}
	for _, t := range e.next.Tokens() {
		if t.GetRole() == clusterpb.TokenRole_ROLE_NODE {
			e.dropToken(t)
		}
	}
	e.beginAnew(c.GetKnown(), c.GetKnownMs(), c.GetCaCertificates())
	if len(e.next.stores) >= maxStores {
		return 0, full("store_id", "the cluster has seen %d data directories: that is the most", maxStores)
	}
	e.forgetRemoved(c.GetMember().GetName())
	m := e.newMember(c.GetMember(), c.GetStoreId())
	m.State, m.Activated = clusterpb.MemberState_ACTIVE, e.rev
	e.setMember(m)
	for _, r := range e.next.AllRings() {
		if refusal := e.refoundRing(r, storeOf(m.GetStore())); refusal != nil {
			return 0, refusal
		}
	}
	for _, t := range c.GetTokens() {
		if r := e.addToken(t); r != nil {
			return 0, r
		}
	}
	e.changed = everything
	e.note("cluster created from a snapshot", e.next.cluster.GetName(), fmt.Sprintf("incarnation %d from revision %d, first member %s",
		e.next.cluster.GetIncarnation(), c.GetKnown(), m.GetName()))
	return e.rev, nil
}

// await lets the store of a former member come back.
func (e *edit) await(m *clusterpb.Member) {
	old := e.next.Store(storeOf(m.GetStore()))
	if old == nil || old.GetLost() != 0 {
		return
	}
	st := copyOf(old)
	st.Awaited = e.rev
	e.setStore(st)
}

// refoundRing puts all slots of a ring on one store and closes what ended.
func (e *edit) refoundRing(old *Ring, st ring.Store) *clusterpb.Refusal {
	next := &Ring{Spec: copyOf(old.Spec), Table: old.Table}
	next.Spec.Nodes = nil // of nodes that are no members any more
	next.Spec.Move = nil
	if !old.Deleted() {
		steps := make([]ring.Step, old.Table.Slots())
		for i := range steps {
			steps[i] = ring.Step{Slot: i, Replicas: ring.SetOf(st), Quorum: old.Quorum(), Base: old.Table.At(i).Changed}
		}
		table, err := old.Table.Apply(steps, e.rev, e.now)
		if err != nil {
			return unsafe("", "ring %s: %v", old.Spec.GetName(), err)
		}
		next.Table = table
		next.Spec.Version = e.rev
	}
	var keys []ring.EpochKey
	for _, ep := range next.Table.Open() {
		keys = append(keys, ring.EpochKey{Slot: ep.Slot, To: ep.To})
	}
	next.Table = next.Table.Close(keys, e.rev, e.now)
	e.setRing(next)
	return nil
}

// LostHistory says whether what has that revision, such as a tenant's
// incarnation, may stem from changes that a recovery has lost: this state knows
// nothing of it.
func (s *State) LostHistory(rev uint64) bool {
	return slices.ContainsFunc(s.cluster.GetLostHistory(), func(l *clusterpb.LostHistory) bool {
		return rev > l.GetAfter() && rev < l.GetBefore()
	})
}

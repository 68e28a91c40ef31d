package cluster

import (
	"bytes"
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Bounds on what the state keeps of members.
const (
	maxMembers = 1024
	maxRemoved = 1000
	maxStores  = 1 << 16
	maxWeight  = 10_000

	storeIDLen = 16
	keyHashLen = 32
)

func checkMember(m *clusterpb.Member, storeID []byte) *clusterpb.Refusal {
	if m == nil {
		return invalid("member", "the command names no member")
	}
	return firstOf(
		checkName("name", "node name", m.GetName()),
		checkAddress("address", m.GetAddress(), true),
		checkAddress("http_address", m.GetHttpAddress(), false),
		checkAddress("write_address", m.GetWriteAddress(), false),
		checkAddress("store_address", m.GetStoreAddress(), false),
		checkZone(m.GetZone()),
		checkWeight(m.GetWeight(), true),
		checkBytes("key_hash", m.GetKeyHash(), keyHashLen),
		checkBytes("store_id", storeID, storeIDLen),
	)
}

func checkZone(zone string) *clusterpb.Refusal {
	if zone == "" {
		return nil
	}
	return checkName("zone", "zone", zone)
}

func checkWeight(w uint32, absent bool) *clusterpb.Refusal {
	if w == 0 && absent || w > 0 && w <= maxWeight {
		return nil
	}
	return invalid("weight", "weight %d: want 1 to %d, 100 is the usual one; a node that shall hold nothing is removed", w, maxWeight)
}

// newMember is the member with a new store, joining, as incarnation rev.
func (e *edit) newMember(m *clusterpb.Member, storeID []byte) *clusterpb.Member {
	out := &clusterpb.Member{
		Name: m.GetName(), Incarnation: e.rev, Zone: m.GetZone(), Weight: m.GetWeight(),
		State: clusterpb.MemberState_JOINING, Version: e.rev,
		KeyHash: bytes.Clone(m.GetKeyHash()),
		Address: m.GetAddress(), HttpAddress: m.GetHttpAddress(),
		WriteAddress: m.GetWriteAddress(), StoreAddress: m.GetStoreAddress(),
	}
	if out.Weight == 0 {
		out.Weight = DefaultWeight
	}
	out.Store = e.newStore(storeID, out.GetName(), out.GetIncarnation())
	return out
}

// newStore numbers the data of a directory. The caller has checked that a
// number is left.
func (e *edit) newStore(id []byte, node string, incarnation uint64) uint32 {
	if st := e.next.StoreByID(id); isAwaited(st, node) {
		next := copyOf(st)
		next.Node, next.Incarnation, next.Awaited = node, incarnation, 0
		ownAgain(next) // it may have been on its way out when the snapshot was made
		e.setStore(next)
		return next.GetNumber()
	}
	n := e.next.cluster.GetNextStore()
	e.setCluster(func(c *clusterpb.Cluster) { c.NextStore = n + 1 })
	e.setStore(&clusterpb.Store{Number: uint32(n), Id: bytes.Clone(id), Node: node, Incarnation: incarnation})
	return uint32(n)
}

// addMember lets a node join, repeats a join that is known, or gives a member
// a new store.
func (e *edit) addMember(c *clusterpb.AddMember) (uint64, *clusterpb.Refusal) {
	if r := checkMember(c.GetMember(), c.GetStoreId()); r != nil {
		return 0, r
	}
	m := c.GetMember()
	old := e.next.Member(m.GetName())
	if r := e.expect("member", m.GetName(), old.GetVersion()); r != nil {
		return 0, r
	}
	st := e.next.StoreByID(c.GetStoreId())
	switch {
	case old != nil && st.GetNumber() == old.GetStore() && st != nil && bytes.Equal(old.GetKeyHash(), m.GetKeyHash()) && c.GetResetControlState():
		return e.resetMember(old, c)
	case old != nil && st.GetNumber() == old.GetStore() && st != nil && bytes.Equal(old.GetKeyHash(), m.GetKeyHash()):
		return e.repeatMember(old, m)
	case st != nil && (old != nil || !isAwaited(st, m.GetName())):
		return 0, e.strangeStore(old, st)
	case old != nil && !c.GetReplace():
		return 0, refuse(clusterpb.Refusal_EXISTS, "name", "%s is a member with another data directory (store %d). If that one is gone for good: `muster cluster join --replace --token T HOST:PORT`, which gives up what only it held. Else start %s with its own --data-dir, or this node with another --node-name", old.GetName(), old.GetStore(), old.GetName())
	case old == nil && len(e.next.members) >= maxMembers:
		return 0, full("name", "the cluster has %d members: that is the most", maxMembers)
	case len(e.next.stores) >= maxStores:
		return 0, full("store_id", "the cluster has seen %d data directories: that is the most", maxStores)
	}
	if r := e.useToken(c.GetTokenId(), m.GetName(), m.GetKeyHash()); r != nil {
		return 0, r
	}
	next := e.newMember(m, c.GetStoreId())
	if old == nil {
		e.forgetRemoved(m.GetName())
		e.note("member joining", next.GetName(), "")
	} else {
		e.replaceStore(old, next)
		e.note("member replaced", next.GetName(), fmt.Sprintf("store %d is lost, store %d takes its place", old.GetStore(), next.GetStore()))
	}
	e.setMember(next)
	e.changed.Members = true
	return e.rev, nil
}

// repeatMember answers a join that happened before; new addresses are taken.
func (e *edit) repeatMember(old, m *clusterpb.Member) (uint64, *clusterpb.Refusal) {
	next := copyOf(old)
	next.Address = m.GetAddress()
	takeAddress(&next.HttpAddress, m.GetHttpAddress())
	takeAddress(&next.WriteAddress, m.GetWriteAddress())
	takeAddress(&next.StoreAddress, m.GetStoreAddress())
	return e.updated(old, next, "member address changed", "")
}

func takeAddress(to *string, address string) {
	if address != "" {
		*to = address
	}
}

// strangeStore refuses a data directory that belongs to somebody, or did.
func (e *edit) strangeStore(old *clusterpb.Member, st *clusterpb.Store) *clusterpb.Refusal {
	switch {
	case st.GetEmptied() != 0 && e.next.Holder(storeOf(st.GetNumber())) == nil:
		return refuse(clusterpb.Refusal_DENIED, "store_id", "this data directory was store %d of %s, which was emptied and removed: join with an empty one", st.GetNumber(), st.GetNode())
	case st.GetLost() != 0:
		return refuse(clusterpb.Refusal_DENIED, "store_id", "this data directory was given up as store %d of %s: join with an empty one", st.GetNumber(), st.GetNode())
	case old != nil && st.GetNumber() == old.GetStore():
		return refuse(clusterpb.Refusal_DENIED, "key_hash", "%s has this data directory, but with another key: bring back its pki folder, or join with an empty directory and --replace", old.GetName())
	default:
		return refuse(clusterpb.Refusal_EXISTS, "store_id", "this data directory is store %d of %s: a copied directory cannot be a second node", st.GetNumber(), st.GetNode())
	}
}

// replaceStore makes next the same node with another store: what its operator
// set stays, and it is joining until it is made active again. Its slots follow
// by steps.
func (e *edit) replaceStore(old, next *clusterpb.Member) {
	next.Incarnation = old.GetIncarnation()
	next.Weight = old.GetWeight()
	if next.GetZone() == "" {
		next.Zone = old.GetZone()
	}
	st := copyOf(e.next.Store(storeOf(next.GetStore())))
	st.Incarnation = old.GetIncarnation()
	e.setStore(st)
	e.lose(old.GetStore())
	gone := copyOf(e.next.Store(storeOf(old.GetStore())))
	gone.ReplacedBy = next.GetStore()
	e.setStore(gone)
}

// activateMember makes a joining member eligible for slots.
func (e *edit) activateMember(c *clusterpb.ActivateMember) (uint64, *clusterpb.Refusal) {
	old, r := e.member(c.GetName())
	if r != nil {
		return 0, r
	}
	if inc := c.GetIncarnation(); inc != 0 && inc != old.GetIncarnation() {
		return 0, refuse(clusterpb.Refusal_CONFLICT_VERSION, "incarnation", "%s is incarnation %d, not %d", old.GetName(), old.GetIncarnation(), inc)
	}
	if old.GetState() != clusterpb.MemberState_JOINING {
		return old.GetVersion(), nil
	}
	next := copyOf(old)
	next.State, next.Activated = clusterpb.MemberState_ACTIVE, e.rev
	return e.updated(old, next, "member active", "")
}

// updateMember replaces what an operator or the node itself may change.
func (e *edit) updateMember(c *clusterpb.UpdateMember) (uint64, *clusterpb.Refusal) {
	old, r := e.member(c.GetName())
	if r != nil {
		return 0, r
	}
	next := copyOf(old)
	if c.Weight != nil {
		next.Weight = c.GetWeight()
	}
	for _, f := range []struct{ to, from *string }{
		{&next.Zone, c.Zone},
		{&next.Address, c.Address},
		{&next.HttpAddress, c.HttpAddress},
		{&next.WriteAddress, c.WriteAddress},
		{&next.StoreAddress, c.StoreAddress},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	r = firstOf(
		checkWeight(next.GetWeight(), false),
		checkZone(next.GetZone()),
		checkAddress("address", next.GetAddress(), true),
		checkAddress("http_address", next.GetHttpAddress(), false),
		checkAddress("write_address", next.GetWriteAddress(), false),
		checkAddress("store_address", next.GetStoreAddress(), false),
	)
	if r != nil {
		return 0, r
	}
	if next.GetWeight() != old.GetWeight() || next.GetZone() != old.GetZone() {
		next.Weighed = e.rev
	}
	return e.updated(old, next, "member changed", "")
}

// member is the member that a command names, with the version it expects.
func (e *edit) member(name string) (*clusterpb.Member, *clusterpb.Refusal) {
	if r := checkName("name", "node name", name); r != nil {
		return nil, r
	}
	m := e.next.Member(name)
	if r := e.expect("member", name, m.GetVersion()); r != nil {
		return nil, r
	}
	if m == nil && e.next.Removed(name) != nil {
		return nil, notFound("%s is no member: it was removed at revision %d", name, e.next.Removed(name).GetRevision())
	}
	if m == nil {
		return nil, notFound("%s is no member", name)
	}
	return m, nil
}

// updated puts next in the place of old, if it differs.
func (e *edit) updated(old, next *clusterpb.Member, action, detail string) (uint64, *clusterpb.Refusal) {
	if sumOf(kindMember, old) == sumOf(kindMember, next) {
		return old.GetVersion(), nil
	}
	next.Version = e.rev
	e.setMember(next)
	e.changed.Members = true
	e.note(action, next.GetName(), detail)
	return e.rev, nil
}

// setMember puts the member into the state, in the place of one of its name.
func (e *edit) setMember(m *clusterpb.Member) {
	i, found := findMember(e.next.members, m.GetName())
	var old *clusterpb.Member
	if found {
		old = e.next.members[i]
		discount(e, kindMember, old)
	}
	if m.GetVersion() == e.rev {
		m.ChangedMs, m.ChangedBy = e.now, e.by()
	}
	e.differ("member", m.GetName(), memberFacts(old), memberFacts(m))
	count(e, kindMember, m)
	e.next.members = with(e.next.members, i, found, m)
}

func (e *edit) setStore(st *clusterpb.Store) {
	i, found := findStore(e.next.stores, st.GetNumber())
	if found {
		discount(e, kindStore, e.next.stores[i])
	}
	count(e, kindStore, st)
	e.next.stores = with(e.next.stores, i, found, st)
}

// lose gives the store up, and with it what it kept for others.
func (e *edit) lose(number uint32) {
	st := e.next.Store(storeOf(number))
	if st == nil || st.GetLost() != 0 {
		return
	}
	next := copyOf(st)
	next.Lost, next.LostTimeMs, next.LostActor = e.rev, e.now, text(e.cmd.GetActor(), maxActor)
	e.setStore(next)
	e.loseCustodian(number)
}

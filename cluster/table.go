package cluster

import (
	"errors"
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

var errColumns = errors.New("the table's columns differ in length")

// record is the ring as a snapshot holds it, with its table.
func (r *Ring) record() *clusterpb.Ring {
	return &clusterpb.Ring{
		Name: r.Spec.GetName(), Id: r.Spec.GetId(), Tenants: r.Spec.GetTenants(),
		ReplicationFactor: r.Spec.GetReplicationFactor(), WriteQuorum: r.Spec.GetWriteQuorum(),
		Nodes: r.Spec.GetNodes(), Version: r.Spec.GetVersion(), Table: columnsOf(r.Table),
		Deleted: r.Spec.GetDeleted(), DeletedTimeMs: r.Spec.GetDeletedTimeMs(),
		ChangedMs: r.Spec.GetChangedMs(), ChangedBy: r.Spec.GetChangedBy(),
		CreatedMs: r.Spec.GetCreatedMs(), CreatedBy: r.Spec.GetCreatedBy(),
		Move: r.Spec.GetMove(), Followed: r.Spec.GetFollowed(),
	}
}

// ringOf reads what record wrote.
func ringOf(rec *clusterpb.Ring) (*Ring, error) {
	table, err := tableOf(rec.GetTable())
	if err != nil {
		return nil, fmt.Errorf("ring %s: %w", quote(rec.GetName()), err)
	}
	r := &Ring{Spec: rec, Table: table}
	r.sum = sumOf(kindRing, r.record())
	rec.Table = nil
	return r, nil
}

// columnsOf is the table in columns, which are as wide as the largest set.
func columnsOf(t *ring.Table) *clusterpb.Table {
	slots, width := t.Slots(), 0
	for i := range slots {
		width = max(width, t.At(i).Replicas.Len())
	}
	out := &clusterpb.Table{
		Slots: uint32(slots), Width: uint32(width),
		Replicas: make([]uint32, slots*width),
		Quorums:  make([]uint32, slots),
		Changed:  make([]uint64, slots),
		SinceMs:  make([]int64, slots),
	}
	for i := range slots {
		s := t.At(i)
		for k := range s.Replicas.Len() {
			out.Replicas[i*width+k] = uint32(s.Replicas.At(k))
		}
		out.Quorums[i], out.Changed[i], out.SinceMs[i] = uint32(s.Quorum), s.Changed, s.Since
	}
	if len(t.Past()) > 0 {
		out.Past = make([]*clusterpb.Epoch, 0, len(t.Past()))
	}
	for _, e := range t.Past() {
		out.Past = append(out.Past, epochRecord(e))
	}
	return out
}

func epochRecord(e ring.Epoch) *clusterpb.Epoch {
	out := &clusterpb.Epoch{
		Slot: uint32(e.Slot), Quorum: uint32(e.Quorum), From: e.From, To: e.To,
		BeginMs: e.Begin, EndMs: e.End, Closed: e.Closed, ClosedMs: e.ClosedAt,
		Replicas: make([]uint32, e.Replicas.Len()),
	}
	for k := range out.Replicas {
		out.Replicas[k] = uint32(e.Replicas.At(k))
	}
	return out
}

// tableOf reads what columnsOf wrote.
func tableOf(c *clusterpb.Table) (*ring.Table, error) {
	n, width := int(c.GetSlots()), int(c.GetWidth())
	if n > ring.MaxSlots || width > ring.MaxReplicas {
		return nil, fmt.Errorf("a table of %d slots and %d replicas", n, width)
	}
	if len(c.GetReplicas()) != n*width || len(c.GetQuorums()) != n || len(c.GetChanged()) != n || len(c.GetSinceMs()) != n {
		return nil, errColumns
	}
	slots := make([]ring.Slot, n)
	for i := range slots {
		slots[i] = ring.Slot{
			Replicas: setOf(c.GetReplicas()[i*width : (i+1)*width]),
			Quorum:   int(c.GetQuorums()[i]), Changed: c.GetChanged()[i], Since: c.GetSinceMs()[i],
		}
	}
	past := make([]ring.Epoch, 0, len(c.GetPast()))
	for _, e := range c.GetPast() {
		past = append(past, ring.Epoch{
			Slot: int(e.GetSlot()), Replicas: setOf(e.GetReplicas()), Quorum: int(e.GetQuorum()),
			From: e.GetFrom(), To: e.GetTo(), Begin: e.GetBeginMs(), End: e.GetEndMs(),
			Closed: e.GetClosed(), ClosedAt: e.GetClosedMs(),
		})
	}
	return ring.New(slots, past)
}

// setOf is the set of the numbers that are not 0.
func setOf(numbers []uint32) ring.Set {
	var s ring.Set
	for _, n := range numbers {
		s = s.With(storeOf(n))
	}
	return s
}

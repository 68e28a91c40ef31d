package ingest

import (
	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/ring"
)

// shareBytes is where a share is cut: the message it travels in then stays
// within one megabyte, or one frame more, well below what gRPC takes by default.
const shareBytes = 1<<20 - 64<<10

// share is what a write owes one store: some of its series, as frames.
type share struct {
	store ring.Store
	// need is the least revision that the receiver must have seen.
	need uint64
	// frames are in buf, of which the share is a reader until it is done.
	frames []byte
	buf    *buffer
	// series are the batch's numbers of its series, in the order of the frames;
	// where it is nil they are those from lo to hi.
	series  []uint32
	lo, hi  int
	samples int
	wave    uint8
	// sent is what the share was routed by; rest says that its replica is behind
	// and that the share is what it can take nevertheless, patient that the share
	// is what it cannot take yet and is sent until it can or the write ends.
	sent          *sight
	rest, patient bool
	// held says that another replica has stored every series of it.
	held bool
}

// each calls f for the number of each series.
func (s *share) each(f func(series uint32)) {
	for i := s.lo; i < s.hi; i++ {
		f(uint32(i))
	}
	for _, i := range s.series {
		f(i)
	}
}

func (s *share) count() int { return s.hi - s.lo + len(s.series) }

// plan is where the series of a write go.
type plan struct {
	shares []share
	// short are series whose slots have fewer replicas than their quorum:
	// nothing of them is sent.
	short []uint32
	// vote tells the tally, for each series that is sent, how many replicas it
	// has and how many must store it.
	vote func(series uint32) (replicas, quorum int)
}

// route finds the replicas of the series and lays out their shares. which are
// the numbers of the series to route; nil: all of them. frames holds the
// batch's frames. need is the larger of the tenant's incarnation and route.
func route(r *Ring, tenant uint64, need uint64, b *wire.Batch, which []uint32, frames *buffer) plan {
	if which == nil && r.whole.Len() > 0 {
		return routeWhole(r, need, b, frames)
	}
	return routeSlots(r, tenant, need, b, which)
}

// routeWhole sends everything to the stores that hold every slot: the batch's
// own frames, without a copy.
func routeWhole(r *Ring, need uint64, b *wire.Batch, frames *buffer) plan {
	p := plan{vote: func(uint32) (int, int) { return r.whole.Len(), r.quorum }}
	if r.whole.Len() < r.quorum {
		p.short = numbers(len(b.Series))
		return p
	}
	need = max(need, r.need)
	for lo := 0; lo < len(b.Series); {
		start, hi := b.Series[lo].Start, lo+1
		for hi < len(b.Series) && b.Series[hi].End-start <= shareBytes {
			hi++
		}
		last := b.Series[hi-1]
		samples := int(last.First + last.Samples - b.Series[lo].First)
		for i := range r.whole.Len() {
			p.shares = append(p.shares, share{
				store: r.whole.At(i), need: need, frames: b.Frames[start:last.End], buf: frames.retain(),
				lo: lo, hi: hi, samples: samples,
			})
		}
		lo = hi
	}
	return p
}

// target is a store while its shares are laid out.
type target struct {
	store ring.Store
	bytes int // not yet laid out
	count int
	open  int // its unfinished share in plan.shares; -1: none
}

// routeSlots sorts the series by their slots' replicas and copies each frame
// into the share of each of its stores.
func routeSlots(r *Ring, tenant uint64, need uint64, b *wire.Batch, which []uint32) plan {
	all := which == nil
	if all {
		which = numbers(len(b.Series))
	}
	slots := make([]*ring.Slot, len(which))
	p := plan{}
	var targets []target
	for i, n := range which {
		s := &b.Series[n]
		slot := r.Table.At(ring.KeyOf(tenant, s.Hash).Slot(r.Table.Slots()))
		if slot.Replicas.Len() < slot.Quorum || slot.Replicas.Len() == 0 {
			p.short = append(p.short, n)
			continue
		}
		slots[i] = slot
		for j := range slot.Replicas.Len() {
			t := targetOf(&targets, slot.Replicas.At(j))
			t.bytes += int(s.End - s.Start)
			t.count++
		}
	}
	for i, n := range which {
		if slots[i] == nil {
			continue
		}
		for j := range slots[i].Replicas.Len() {
			p.add(targetOf(&targets, slots[i].Replicas.At(j)), max(need, slots[i].Changed), b, n)
		}
	}
	p.vote = func(series uint32) (int, int) {
		if all && slots[series] != nil {
			return slots[series].Replicas.Len(), slots[series].Quorum
		}
		slot := r.Table.At(ring.KeyOf(tenant, b.Series[series].Hash).Slot(r.Table.Slots()))
		return slot.Replicas.Len(), slot.Quorum
	}
	return p
}

// targetOf finds the store among the targets: they are few.
func targetOf(targets *[]target, store ring.Store) *target {
	for i := range *targets {
		if (*targets)[i].store == store {
			return &(*targets)[i]
		}
	}
	*targets = append(*targets, target{store: store, open: -1})
	return &(*targets)[len(*targets)-1]
}

// add puts one series into the target's share, a new one where it is full.
func (p *plan) add(t *target, need uint64, b *wire.Batch, n uint32) {
	s := b.Series[n]
	size := int(s.End - s.Start)
	if t.open < 0 || len(p.shares[t.open].frames)+size > shareBytes {
		room := min(t.bytes, max(shareBytes, size))
		t.open = len(p.shares)
		p.shares = append(p.shares, share{store: t.store, buf: newBuffer(room), series: make([]uint32, 0, t.count)})
		p.shares[t.open].frames = p.shares[t.open].buf.b
	}
	sh := &p.shares[t.open]
	sh.frames = append(sh.frames, b.Of(s)...)
	sh.buf.b = sh.frames
	sh.series = append(sh.series, n)
	sh.samples += int(s.Samples)
	sh.need = max(sh.need, need)
	t.bytes -= size
	t.count--
}

func numbers(n int) []uint32 {
	all := make([]uint32, n)
	for i := range all {
		all[i] = uint32(i)
	}
	return all
}

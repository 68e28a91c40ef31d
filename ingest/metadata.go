package ingest

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/ring"
)

// Metadata says what a metric family is. Type is Prometheus' word for it.
type Metadata struct {
	Family, Type, Help, Unit string
}

const (
	// toldSlots bounds what a node remembers of metadata that is stored: 256 KiB.
	// What is forgotten is sent once more.
	toldSlots = 1 << 15
	// toldFor is how long it is believed: a replica that was away, or has got the
	// family's slot since, then hears of it.
	toldFor = 10 * time.Minute
	// tellers bounds the writes of metadata that nobody waits for.
	tellers = 32
)

// retold is what metadata was stored not long ago. Senders of remote write 2.0
// say with every series what it is, those of 1.0 once a minute; nearly all of it is
// known, and costs a hash and a look.
type retold struct {
	seed  maphash.Seed
	slots [toldSlots]atomic.Uint64
	busy  chan struct{}
}

func newRetold() *retold {
	return &retold{seed: maphash.MakeSeed(), busy: make(chan struct{}, tellers)}
}

// telling is what one request says of metric families.
type telling struct {
	told    *retold
	hash    maphash.Hash
	salt    [16]byte
	claimed []uint64
}

// telling begins with a request of a tenant. What was told to another incarnation,
// along another route or too long ago is not known.
func (t *retold) telling(id string, of Tenant, now time.Time) *telling {
	l := &telling{told: t}
	l.hash.SetSeed(t.seed)
	tenant := ring.TenantHash(id)
	// Tenants do not all tell again at the same moment.
	round := (now.UnixNano() + int64(tenant%uint64(toldFor))) / int64(toldFor)
	binary.LittleEndian.PutUint64(l.salt[:], tenant^uint64(round)*0x9e3779b97f4a7c15)
	binary.LittleEndian.PutUint64(l.salt[8:], max(of.Incarnation, of.Routed))
	return l
}

// wanted says whether a description has to be stored, and takes that for done.
func (l *telling) wanted(m wire.Metadata) bool {
	h := &l.hash
	h.Reset()
	_, _ = h.Write(l.salt[:])
	_ = h.WriteByte(m.Type)
	for _, s := range [][]byte{m.Family, m.Help, m.Unit} {
		_, _ = h.Write(s)
		_ = h.WriteByte(0xff) // in no UTF-8
	}
	sum := h.Sum64() | 1
	slot := &l.told.slots[sum/2%toldSlots]
	if slot.Load() == sum {
		return false
	}
	slot.Store(sum)
	l.claimed = append(l.claimed, sum)
	return true
}

// forget is for what was taken for stored and is not.
func (l *telling) forget() {
	for _, sum := range l.claimed {
		l.told.slots[sum/2%toldSlots].CompareAndSwap(sum, 0)
	}
}

// families is the write of what a request says of metric families; nil: nothing
// that is not known.
func (i *Ingester) families(tenant string, d *wire.Descriptions) *write {
	if len(d.Series) == 0 {
		return nil
	}
	frames := newBuffer(len(d.Frames))
	frames.b = append(frames.b, d.Frames...)
	b := &wire.Batch{Frames: frames.b, Series: slices.Clone(d.Series), Samples: len(d.Series)}
	return &write{ingester: i, tenant: tenant, batch: b, frames: frames}
}

// tell stores what a request says of metric families, and says how many of them
// lack their quorum.
func (i *Ingester) tell(ctx context.Context, w *write, l *telling, v *View, t Tenant) (lacking int) {
	defer w.frames.release()
	w.run(ctx, v, t)
	sum := w.tally.sum()
	if sum.deferred > 0 {
		l.forget()
	}
	i.metrics.metadata.WithLabelValues("stored").Add(float64(sum.stored))
	i.metrics.metadata.WithLabelValues("failed").Add(float64(len(w.batch.Series) - sum.stored))
	return sum.deferred
}

// tellLater is tell for a request that brought samples as well: its answer is
// about these. Where too many are under way a later request tells it again.
func (i *Ingester) tellLater(ctx context.Context, w *write, b *batch, v *View, t Tenant) {
	select {
	case i.told.busy <- struct{}{}:
	default:
		w.frames.release()
		return
	}
	l := b.take()
	began := i.begin(func() {
		defer func() { <-i.told.busy }()
		i.tell(context.WithoutCancel(ctx), w, l, v, t)
	})
	if !began {
		<-i.told.busy
		w.frames.release()
	}
}

// take makes the caller answer for what was said of metric families.
func (b *batch) take() *telling {
	l := b.telling
	b.telling = nil
	return l
}

// answerToMetadata is the answer to a request that brought nothing else.
func answerToMetadata(lacking int) (status int, text string) {
	if lacking == 0 {
		return http.StatusNoContent, ""
	}
	return http.StatusServiceUnavailable, fmt.Sprintf("metadata of %d metric families lacks its quorum: send again\n", lacking)
}

package ingest

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/relabel"

	"github.com/muster-metrics/muster/ring"
)

// View is what the cluster has agreed on at one revision, as far as a write
// needs it. It is a value: whoever sets it neither changes it nor what its
// functions answer, NotReady and ClockOffset excepted. Every request looks at one
// View only.
type View struct {
	// Revision is the revision of the control state that this is a view of.
	Revision uint64
	// Moved is the newest revision at which a slot changed of a ring that was there
	// before.
	Moved uint64
	// Self is the store of this node; 0 where it has none in the cluster.
	Self ring.Store
	// NotReady is why the write door refuses (503); "": it serves. It is asked
	// for each write, and its answer may change while the View is the same; nil:
	// always "".
	NotReady func() string
	// AutoCreate says whether a write of an unknown tenant creates it.
	AutoCreate bool
	// FloatsOnly says that some member may not understand frames of any other
	// kind: what is no float sample is refused, and travels nowhere.
	FloatsOnly bool
	// SplitLabel names the tenant of each series that has it; "": all series of a
	// request are of one tenant.
	SplitLabel string
	// Admit says why a request that came as one tenant may not write series of
	// another, or of itself; nil, as a function and as its answer: it may. The error
	// wraps ErrTenantRefused or ErrTenantName.
	Admit func(from, id string) error
	// Tenant finds a tenant. It is called for each request and each share.
	Tenant func(id string) (Tenant, bool)
	// Ring finds a ring by its id; nil: there is none (any more).
	Ring func(id uint64) *Ring
	// Store finds out whose a store is.
	Store func(ring.Store) (Peer, bool)
	// ClockOffset is what has to be added to this node's clock to get the
	// cluster's; nil: nothing.
	ClockOffset func() time.Duration
}

// Tenant is what a write has to know of a tenant.
type Tenant struct {
	// Incarnation is the revision at which the tenant was created; never 0.
	Incarnation uint64
	// Ring is the id of the ring it is routed to; 0: no ring claims it.
	Ring uint64
	// Routed is the revision at which that route last changed.
	Routed uint64
	// Suspended refuses its writes.
	Suspended bool
	// OutOfOrderWindow is how old a sample may be; less than MinWindow is taken
	// as MinWindow.
	OutOfOrderWindow time.Duration
	// FutureWindow is how far ahead of the cluster's clock a sample may be.
	FutureWindow time.Duration
	Limits       Limits
	// Relabel are the rules that its series go through before they are placed.
	Relabel []*relabel.Config
	// Unready refuses its writes for the time being (503), and says why; "": not.
	Unready string
}

// recasts says whether a request's series may come under other labels, or another
// tenant, than it said.
func (v *View) recasts(t Tenant) bool { return v.SplitLabel != "" || len(t.Relabel) > 0 }

// MinWindow is the least age at which a sample is taken: clocks differ, and a
// retry takes its time.
const MinWindow = 10 * time.Minute

// Limits of a tenant's requests; 0 is unlimited.
type Limits struct {
	// RequestBytes bounds the body as it came, compressed.
	RequestBytes      int64
	SeriesPerRequest  int64
	SamplesPerRequest int64
	// LabelNames bounds the labels of a series, LabelNameLength and
	// LabelValueLength the bytes of each.
	LabelNames       int64
	LabelNameLength  int64
	LabelValueLength int64
	// SamplesPerSecond are taken in the whole cluster, BurstSamples at once; where
	// that is 0, those of ten seconds.
	SamplesPerSecond int64
	BurstSamples     int64
	// NewSeriesPerSecond may come into being in the whole cluster, and those of ten
	// seconds at once.
	NewSeriesPerSecond int64
	// ActiveSeries is for the answers: the replicas refuse what is beyond it.
	ActiveSeries int64
}

// Peer is whose a store is.
type Peer struct {
	// Node is the member's name, for Peers.Dial and for people.
	Node string
	// ID is the store's, as made with its data directory.
	ID [16]byte
}

// Ring is a ring as writes see it. NewRing makes one; cmd keeps it for as long
// as the table is the same.
type Ring struct {
	ID    uint64
	Name  string
	Table *ring.Table

	// whole is set when the same stores hold every slot under the same quorum:
	// then a batch needs no grouping.
	whole  ring.Set
	quorum int
	need   uint64 // the newest change of any slot

	held atomic.Pointer[ring.Held] // the slots of the store that asked last
}

// NewRing looks at the table once, for all writes to come.
func NewRing(id uint64, name string, table *ring.Table) *Ring {
	r := &Ring{ID: id, Name: name, Table: table}
	first, whole := table.At(0), true
	for i := range table.Slots() {
		s := table.At(i)
		whole = whole && s.Quorum == first.Quorum && s.Replicas.Same(first.Replicas)
		r.need = max(r.need, s.Changed)
	}
	if whole {
		r.whole, r.quorum = first.Replicas, first.Quorum
	}
	return r
}

// Moved is the newest revision at which one of its slots changed.
func (r *Ring) Moved() uint64 { return r.need }

// heldBy is the slots that a store holds, kept from the last call: a node asks
// for its own.
func (r *Ring) heldBy(st ring.Store) *ring.Held {
	if h := r.held.Load(); h != nil && h.Store() == st {
		return h
	}
	h := r.Table.HeldBy(st)
	r.held.Store(&h)
	return &h
}

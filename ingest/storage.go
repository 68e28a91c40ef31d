package ingest

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/histogram"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// Share is the series that a replica has to store, read one after the other
// and as often as needed.
type Share interface {
	// Reset goes back before the first series.
	Reset()
	// Next goes to the next series; false: there is none.
	Next() bool
	// Labels are the canonical label bytes of the series: what labels.Labels
	// keeps in memory. They are valid until the next Next and not to be kept.
	Labels() []byte
	// Hash is the xxhash64 of Labels.
	Hash() uint64
	// Sample is the next float sample of the series; false: there is none.
	// Time is in Unix milliseconds.
	Sample() (t int64, v float64, ok bool)
	// Histogram is the next native histogram of the series; ok false: there is
	// none. A series of a share has either these or float samples. Exactly one of
	// h and fh is not nil, and the caller's to keep; both are nil where what came
	// is no histogram: its outcome is that it is bad.
	Histogram() (t int64, h *histogram.Histogram, fh *histogram.FloatHistogram, ok bool)
}

// Storage keeps what this node is a replica of.
type Storage interface {
	// Append stores the samples of the share and writes the outcome of each, in
	// the share's order, into out, whose length is their number. A repeat may
	// have been stored before and is read back first; what is held, by another
	// replica, is taken beyond the tenant's limit of series. An error means that
	// nothing is known to be stored, and that it may pass. Append keeps neither
	// the share nor its bytes. When ctx ends it may give up what it has not
	// begun. opening is new with each opening of the tenant's data, born how many
	// series it had not had before.
	Append(ctx context.Context, tenant string, incarnation uint64, share Share, repeat, held bool, out []peerpb.Outcome) (opening uint64, born int, err error)
	// Disown hears of series that the write refused, in whole, as beyond the tenant's
	// limit, though this node may have stored them: they are not to be counted, and
	// to be taken as new where their next sample comes.
	Disown(ctx context.Context, tenant string, incarnation uint64, share Share) error
}

// ExemplarShare is the exemplars that a replica has to store, series by series.
type ExemplarShare interface {
	Next() bool
	// Labels and Hash are the series', as a Share's.
	Labels() []byte
	Hash() uint64
	// Exemplar is the next exemplar of the series: its label bytes, perhaps none,
	// Unix milliseconds and the value; ok false: there is none.
	Exemplar() (labels []byte, t int64, v float64, ok bool)
}

// Annex is what a Storage may be, too: one that keeps exemplars and metadata.
type Annex interface {
	// AppendExemplars stores exemplars of series that are held, and writes the
	// outcome of each into out. For an exemplar CONFLICT is one that is out of order,
	// BAD_LABELS one whose labels cannot be stored, and SERIES_LIMIT one whose series
	// is not held: it makes none. An error means that nothing is known to be stored.
	AppendExemplars(ctx context.Context, tenant string, incarnation uint64, share ExemplarShare, out []peerpb.Outcome) error
	// AppendMetadata keeps what is said of metric families, or fails as a whole.
	AppendMetadata(ctx context.Context, tenant string, incarnation uint64, all []Metadata) error
}

// Peers reaches the other members.
type Peers interface {
	// Dial gives the long-lived connection to a member; it stays the owner's,
	// who also bounds how long it rests between two attempts to connect: a quarter
	// of a second, say, or a peer that returns is missed for longer than it was away.
	// (ClientConn.ResetConnectBackoff is no way to hurry it: in grpc-go 1.85 it
	// races with connections being made.)
	Dial(ctx context.Context, node string) (*grpc.ClientConn, error)
}

// Ensurer creates a tenant that wrote before anybody had heard of it.
type Ensurer interface {
	// Ensure returns once the creation is committed. ErrTenantRefused: this id
	// may not write; any other error may pass.
	Ensure(ctx context.Context, tenant string) error
}

// ErrTenantRefused is Ensure's answer for a tenant that is not to be created:
// deleted not long ago, one too many, or no automatic creation.
var ErrTenantRefused = errors.New("tenant may not be created by writing")

// ErrTenantName means that a name is no tenant's id and never will be.
var ErrTenantName = errors.New("not a tenant's id")

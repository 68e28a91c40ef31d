package tsdb

import "github.com/prometheus/prometheus/model/histogram"

// A Share is the part of a write that one store gets: series in any order, and
// the samples of each. The reader of a share owns nothing of it.
type Share interface {
	// Reset goes back to the first series.
	Reset()
	// Next advances to the next series, and says whether there is one.
	Next() bool
	// Labels are the series' labels in the memory layout of labels.Labels
	// (length byte, or 255 and three bytes; name, value, …; names ascending).
	// Valid until the next Next.
	Labels() []byte
	// Hash is the xxhash64 of Labels.
	Hash() uint64
	// Sample gives the series' next float sample: milliseconds since the epoch, and
	// a value whose bits are kept as they are.
	Sample() (t int64, v float64, ok bool)
	// Histogram gives the series' next native histogram; ok false: there is none.
	// A series has either these or float samples. Exactly one of h and fh is not
	// nil, and the TSDB's from then on; both are nil where what came is no
	// histogram, which is BadHistogram.
	Histogram() (t int64, h *histogram.Histogram, fh *histogram.FloatHistogram, ok bool)
}

// An Outcome says what became of one sample. The numbers are those on the wire.
type Outcome uint8

// The outcomes.
const (
	Stored       Outcome = iota // held here: written to the log and readable, now or already before
	Conflict                    // another value is held at that time
	Hole                        // not held, and too old to be: another replica must have it
	BadLabels                   // not in canonical form
	BadHistogram                // inconsistent histogram
	SeriesLimit                 // a new series over the tenant's limit
	StaleSeries                 // the series' slot is not this store's (never said here)
	Failed                      // not held, for a reason that may pass
	outcomes                    // how many there are
)

var outcomeNames = [outcomes]string{"stored", "conflict", "hole", "bad_labels", "bad_histogram", "series_limit", "stale_series", "failed"}

func (o Outcome) String() string {
	if o < outcomes {
		return outcomeNames[o]
	}
	return "unknown"
}

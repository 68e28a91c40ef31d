package ingest

import (
	"math"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
)

// spoilOutcomes overwrites outcomes that go back to their pool by none that
// there is.
func spoilOutcomes(out []peerpb.Outcome) {
	out = out[:cap(out)]
	for k := range out {
		out[k] = math.MaxInt32
	}
}

// spoilBatch overwrites the places of a batch that goes back to its pool: they
// point behind everything.
func spoilBatch(b *wire.Batch) {
	all := b.Series[:cap(b.Series)]
	for k := range all {
		all[k] = wire.Series{Hash: math.MaxUint64, Start: math.MaxUint32, End: math.MaxUint32, First: math.MaxUint32, Samples: math.MaxUint32}
	}
	b.Samples = math.MinInt32
}

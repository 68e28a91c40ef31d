package ingest

import (
	"math"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/ingest/wire"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// walked is a request in canonical form.
func walked(t testing.TB, req *prompb.WriteRequest) *wire.Batch {
	t.Helper()
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b := &wire.Batch{}
	if err := wire.WalkV1(raw, wire.Limits{MinTime: math.MinInt64}, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func framesOf(t testing.TB, req *prompb.WriteRequest) ([]byte, int) {
	b := walked(t, req)
	return b.Frames, b.Samples
}

// slotsOf are the slots of the frames' series, in their order.
func slotsOf(t testing.TB, table *ring.Table, frames []byte) []int {
	t.Helper()
	var slots []int
	for r := wire.NewReader(frames); r.Next(); {
		slots = append(slots, ring.KeyOf(ring.TenantHash(tenantID), r.Hash()).Slot(table.Slots()))
	}
	return slots
}

// refuseAbove is a storage's judge that takes so many series and no more.
func refuseAbove(most int) func(labels.Labels) peerpb.Outcome {
	known := map[string]bool{}
	return func(ls labels.Labels) peerpb.Outcome {
		name := strings.Clone(ls.String())
		if !known[name] && len(known) == most {
			return peerpb.Outcome_SERIES_LIMIT
		}
		known[name] = true
		return peerpb.Outcome_STORED
	}
}

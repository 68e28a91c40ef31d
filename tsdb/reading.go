package tsdb

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// reading is what a sample says: a native histogram of integers or of floats, if
// there is one, or else a float.
type reading struct {
	v  float64
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

// histogramBits stand for the value of a histogram where a float has its bits. A
// float may have them too: whoever finds them looks closer.
const histogramBits = 0x7ff8_6869_7374_6f67

// bits tell most values apart; equal ones other than histogramBits are the same
// float.
func (a reading) bits() uint64 {
	if a.h != nil || a.fh != nil {
		return histogramBits
	}
	return math.Float64bits(a.v)
}

func (a reading) stale() bool {
	switch {
	case a.h != nil:
		return value.IsStaleNaN(a.h.Sum)
	case a.fh != nil:
		return value.IsStaleNaN(a.fh.Sum)
	default:
		return value.IsStaleNaN(a.v)
	}
}

// same says whether two values mean the same. The TSDB does not keep them as they
// come: it makes a stale marker one of the kind of the sample before it, and gives
// a histogram back with empty buckets where others of its chunk have some.
func (a reading) same(b reading) bool {
	switch {
	case a.stale() || b.stale():
		return a.stale() && b.stale()
	case a.h != nil && b.h != nil:
		return a.h.Equals(b.h) || a.h.Copy().Compact(0).Equals(b.h.Copy().Compact(0))
	case a.fh != nil && b.fh != nil:
		return a.fh.Equals(b.fh) || a.fh.Copy().Compact(0).Equals(b.fh.Copy().Compact(0))
	case a.h != nil || a.fh != nil || b.h != nil || b.fh != nil:
		return false
	default:
		return math.Float64bits(a.v) == math.Float64bits(b.v)
	}
}

// readingAt is the sample that an iterator stands at; kind is what it said of it.
func readingAt(it chunkenc.Iterator, kind chunkenc.ValueType) reading {
	var a reading
	switch kind {
	case chunkenc.ValHistogram:
		_, a.h = it.AtHistogram(nil)
	case chunkenc.ValFloatHistogram:
		_, a.fh = it.AtFloatHistogram(nil)
	default:
		_, a.v = it.At()
	}
	return a
}

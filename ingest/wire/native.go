package wire

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// The entry of a native histogram, in a frame of kind 2. Numbers are
// little-endian or varints; a count is a varint, or 8 bytes of a float where the
// histogram is one of floats.
//
//	 0       8       9
//	┌───────┬───────┬────────┬───────┬─────┬──────────────┬───────────┐
//	│ time  │ flags │ schema │ count │ sum │ zero bucket: │ buckets … │
//	│ 8     │ 1     │ zigzag │       │ 8   │ threshold 8, │           │
//	│       │       │        │       │     │ count        │           │
//	└───────┴───────┴────────┴───────┴─────┴──────────────┴───────────┘
//
// The last two are there if their flags say so. The buckets are the positive side,
// the negative side, and the custom bounds, each with its number before it: of a
// side the spans (offset zigzag, length) and then the buckets as Prometheus keeps
// them: the differences from one to the next as zigzag, or counts of 8 bytes.
// Bounds take 8 bytes each.
const (
	nativeFloat   = 1 << 0
	nativeHint    = 1 << 1 // two bits
	nativeZero    = 1 << 3
	nativeBuckets = 1 << 4

	hintMask = 3
)

// MaxBuckets is the most buckets, spans or bounds of a native histogram: a hundred
// times what the usual clients send at most.
const MaxBuckets = 1 << 14

// appendHistogram appends the entry of a histogram, with its length; exactly one
// of h and fh is not nil.
func appendHistogram(dst []byte, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) []byte {
	// The length is known at the end. Nearly all take two bytes of it.
	const guess = 2
	start := len(dst)
	dst = append(dst, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t))
	if fh != nil {
		dst = appendFloat(dst, fh)
	} else {
		dst = appendInteger(dst, h)
	}
	n := len(dst) - start - guess
	if n >= 1<<14 {
		dst = append(dst, 0)
		copy(dst[start+3:], dst[start+guess:len(dst)-1])
		dst[start+2] = byte(n >> 14)
	}
	// Two bytes or three, also where fewer would do: the bytes are those of this
	// length only.
	dst[start], dst[start+1] = byte(n)|0x80, byte(n>>7)&0x7f
	if n >= 1<<14 {
		dst[start+1] |= 0x80
	}
	return dst
}

func appendInteger(dst []byte, h *histogram.Histogram) []byte {
	flags, zero, buckets := flagsOf(h.CounterResetHint, h.ZeroThreshold, h.ZeroCount != 0,
		len(h.PositiveSpans)+len(h.NegativeSpans)+len(h.PositiveBuckets)+len(h.NegativeBuckets)+len(h.CustomValues))
	dst = append(dst, flags)
	dst = binary.AppendVarint(dst, int64(h.Schema))
	dst = binary.AppendUvarint(dst, h.Count)
	dst = appendFloat64(dst, h.Sum)
	if zero {
		dst = binary.AppendUvarint(appendFloat64(dst, h.ZeroThreshold), h.ZeroCount)
	}
	if !buckets {
		return dst
	}
	dst = appendDeltas(appendSpans(dst, h.PositiveSpans), h.PositiveBuckets)
	dst = appendDeltas(appendSpans(dst, h.NegativeSpans), h.NegativeBuckets)
	return appendFloats(dst, h.CustomValues)
}

func appendFloat(dst []byte, h *histogram.FloatHistogram) []byte {
	flags, zero, buckets := flagsOf(h.CounterResetHint, h.ZeroThreshold, math.Float64bits(h.ZeroCount) != 0,
		len(h.PositiveSpans)+len(h.NegativeSpans)+len(h.PositiveBuckets)+len(h.NegativeBuckets)+len(h.CustomValues))
	dst = append(dst, flags|nativeFloat)
	dst = binary.AppendVarint(dst, int64(h.Schema))
	dst = appendFloat64(appendFloat64(dst, h.Count), h.Sum)
	if zero {
		dst = appendFloat64(appendFloat64(dst, h.ZeroThreshold), h.ZeroCount)
	}
	if !buckets {
		return dst
	}
	dst = appendFloats(appendSpans(dst, h.PositiveSpans), h.PositiveBuckets)
	dst = appendFloats(appendSpans(dst, h.NegativeSpans), h.NegativeBuckets)
	return appendFloats(dst, h.CustomValues)
}

func flagsOf(hint histogram.CounterResetHint, threshold float64, zeroCount bool, buckets int) (flags byte, zero, some bool) {
	flags = byte(hint) & hintMask * nativeHint
	if zero = zeroCount || math.Float64bits(threshold) != 0; zero {
		flags |= nativeZero
	}
	if some = buckets > 0; some {
		flags |= nativeBuckets
	}
	return flags, zero, some
}

func appendFloat64(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

func appendSpans(dst []byte, spans []histogram.Span) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(spans)))
	for _, s := range spans {
		dst = binary.AppendUvarint(binary.AppendVarint(dst, int64(s.Offset)), uint64(s.Length))
	}
	return dst
}

func appendDeltas(dst []byte, deltas []int64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(deltas)))
	for _, d := range deltas {
		dst = binary.AppendVarint(dst, d)
	}
	return dst
}

func appendFloats(dst []byte, values []float64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(values)))
	for _, v := range values {
		dst = appendFloat64(dst, v)
	}
	return dst
}

// Histogram is the next native histogram of the frame; ok false: there is none.
// Exactly one of h and fh is not nil, and the caller's to keep; both are where the
// entry is not one of a histogram.
func (r *Reader) Histogram() (t int64, h *histogram.Histogram, fh *histogram.FloatHistogram, ok bool) {
	if r.Kind() != Histograms {
		return 0, nil, nil, false
	}
	e, ok := r.entry()
	if !ok {
		return 0, nil, nil, false
	}
	t, h, fh = histogramOf(e)
	return t, h, fh, true
}

// histogramOf reads an entry. What it allocates is bounded by the entry's length.
func histogramOf(entry []byte) (t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	c := cursor{b: entry}
	t = int64(c.fixed())
	flags := c.byte()
	schema := c.varint()
	if schema < math.MinInt32 || schema > math.MaxInt32 {
		return t, nil, nil
	}
	hint := histogram.CounterResetHint(flags / nativeHint & hintMask)
	if flags&nativeFloat != 0 {
		fh = &histogram.FloatHistogram{CounterResetHint: hint, Schema: int32(schema), Count: c.float(), Sum: c.float()}
		if flags&nativeZero != 0 {
			fh.ZeroThreshold, fh.ZeroCount = c.float(), c.float()
		}
		if flags&nativeBuckets != 0 {
			fh.PositiveSpans, fh.PositiveBuckets = c.spans(), c.floats()
			fh.NegativeSpans, fh.NegativeBuckets = c.spans(), c.floats()
			fh.CustomValues = c.floats()
		}
	} else {
		h = &histogram.Histogram{CounterResetHint: hint, Schema: int32(schema), Count: c.uvarint(), Sum: c.float()}
		if flags&nativeZero != 0 {
			h.ZeroThreshold, h.ZeroCount = c.float(), c.uvarint()
		}
		if flags&nativeBuckets != 0 {
			h.PositiveSpans, h.PositiveBuckets = c.spans(), c.deltas()
			h.NegativeSpans, h.NegativeBuckets = c.spans(), c.deltas()
			h.CustomValues = c.floats()
		}
	}
	if c.bad || len(c.b) > 0 {
		return t, nil, nil
	}
	return t, h, fh
}

// cursor reads an entry from its front; what is cut or too long is bad, and 0.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) fail() { c.b, c.bad = nil, true }

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) fixed() uint64 {
	if len(c.b) < 8 {
		c.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(c.b)
	c.b = c.b[8:]
	return v
}

func (c *cursor) float() float64 { return math.Float64frombits(c.fixed()) }

func (c *cursor) uvarint() uint64 {
	v, k := binary.Uvarint(c.b)
	if k <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[k:]
	return v
}

func (c *cursor) varint() int64 {
	v, k := binary.Varint(c.b)
	if k <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[k:]
	return v
}

// count is the number of things that follow, of at least size bytes each.
func (c *cursor) count(size int) int {
	n := c.uvarint()
	if n > uint64(len(c.b)/size) {
		c.fail()
		return 0
	}
	return int(n)
}

func (c *cursor) spans() []histogram.Span {
	n := c.count(2)
	if n == 0 {
		return nil
	}
	spans := make([]histogram.Span, n)
	for i := range spans {
		offset, length := c.varint(), c.uvarint()
		if offset < math.MinInt32 || offset > math.MaxInt32 || length > math.MaxUint32 {
			c.fail()
		}
		spans[i] = histogram.Span{Offset: int32(offset), Length: uint32(length)}
	}
	return spans
}

func (c *cursor) deltas() []int64 {
	n := c.count(1)
	if n == 0 {
		return nil
	}
	deltas := make([]int64, n)
	for i := range deltas {
		deltas[i] = c.varint()
	}
	return deltas
}

func (c *cursor) floats() []float64 {
	n := c.count(8)
	if n == 0 {
		return nil
	}
	values := make([]float64, n)
	for i := range values {
		values[i] = c.float()
	}
	return values
}

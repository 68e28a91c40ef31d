package wire

import (
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
)

// native is a native histogram that the slow path has collected of a series.
type native struct {
	t        int64
	from, to int  // its entry in Batch.entries
	bad      bool // it can never be stored
}

const nativeBytes = 32 // of memory

var errBuckets = fmt.Errorf("more than %d buckets, spans or bounds", MaxBuckets)

// looseHistogram collects a histogram: decoded as Prometheus does it, no finer
// than the TSDB takes it, and checked as the TSDB will.
func (w *walker) looseHistogram(f fields) error {
	b := w.b
	d := &b.decoding
	if err := d.read(f, w.symbols != nil); err != nil {
		return err
	}
	n := native{t: d.t, from: len(b.entries)}
	if err := d.finish(); err == nil {
		b.entries = d.append(b.entries)
	} else if n.bad = true; b.fault == nil {
		b.fault = err
	}
	n.to = len(b.entries)
	b.natives = append(b.natives, n)
	return w.bounded()
}

// judgeHistograms refuses those of the collected histograms that cannot be stored,
// and lays out the others.
func (w *walker) judgeHistograms() {
	b := w.b
	kept := b.natives[:0]
	for _, n := range b.natives {
		switch {
		case w.lim.FloatsOnly:
			b.Refused.add(NativeHistogram, 1, w.show)
		case n.bad:
			b.Refused.add(BadHistogram, 1, func() string { return w.show() + ": " + b.fault.Error() })
		case n.t < w.lim.MinTime:
			b.Refused.add(TooOld, 1, w.show)
		case n.t > w.lim.MaxTime:
			b.Refused.add(TooNew, 1, w.show)
		default:
			kept = append(kept, n)
		}
	}
	for len(kept) > 0 {
		n, size := 0, 0
		for n < len(kept) && n < FrameSamples && (n == 0 || size+kept[n].to-kept[n].from <= partBytes) {
			size += kept[n].to - kept[n].from
			n++
		}
		w.layHistograms(kept[:n], size)
		kept = kept[n:]
	}
}

// layHistograms writes a frame of the collected labels and some histograms.
func (w *walker) layHistograms(part []native, size int) {
	b := w.b
	start, labels := w.layLabels(entriesBytes + size)
	b.Frames = append(b.Frames, byte(size), byte(size>>8), byte(size>>16), byte(size>>24))
	for _, n := range part {
		b.Frames = append(b.Frames, b.entries[n.from:n.to]...)
	}
	w.close(Histograms, start, labels, len(part))
	b.Histograms += len(part)
}

// decoding is the histogram that is being decoded. Its memory is used again.
type decoding struct {
	t       int64
	float   bool // the count is one
	integer histogram.Histogram
	floats  histogram.FloatHistogram

	// What both kinds have, and what the message has of each.
	spans  [2][]histogram.Span // positive, negative
	deltas [2][]int64
	counts [2][]float64
	bounds []float64
	large  bool // more of something than MaxBuckets; what is beyond is not kept
}

const (
	positive = 0
	negative = 1
)

// keptBuckets is how much room for each list of a histogram a batch keeps.
const keptBuckets = 1 << 10

// kept is an empty one that keeps the memory, if it is not too much.
func (d *decoding) kept() decoding {
	out := decoding{bounds: kept(d.bounds)}
	for i := range 2 {
		out.spans[i], out.deltas[i], out.counts[i] = kept(d.spans[i]), kept(d.deltas[i]), kept(d.counts[i])
	}
	return out
}

func kept[T any](list []T) []T {
	if cap(list) > keptBuckets {
		return nil
	}
	return list[:0]
}

func (d *decoding) clear() {
	d.t, d.float, d.large = 0, false, false
	d.integer, d.floats = histogram.Histogram{}, histogram.FloatHistogram{}
	d.bounds = d.bounds[:0]
	for i := range 2 {
		d.spans[i], d.deltas[i], d.counts[i] = d.spans[i][:0], d.deltas[i][:0], d.counts[i][:0]
	}
}

// read takes the fields of a Histogram message, the same in both forms but for
// the start timestamp. An error means that it is no message at all.
func (d *decoding) read(f fields, v2 bool) error {
	d.clear()
	h, fh := &d.integer, &d.floats
	for f.next() {
		ok := true
		switch f.number {
		case 1: // of two counts, or zero counts, the last one is the message's
			if ok = f.is(wireVarint); ok {
				d.float, h.Count, fh.Count = false, f.value, 0
			}
		case 2:
			if ok = f.is(wireFixed64); ok {
				d.float, h.Count, fh.Count = true, 0, f.double()
			}
		case 3:
			ok = f.is(wireFixed64)
			h.Sum, fh.Sum = f.double(), f.double()
		case 4:
			ok = f.is(wireVarint)
			h.Schema, fh.Schema = f.zigzag32(), f.zigzag32()
		case 5:
			ok = f.is(wireFixed64)
			h.ZeroThreshold, fh.ZeroThreshold = f.double(), f.double()
		case 6:
			if ok = f.is(wireVarint); ok {
				h.ZeroCount, fh.ZeroCount = f.value, 0
			}
		case 7:
			if ok = f.is(wireFixed64); ok {
				h.ZeroCount, fh.ZeroCount = 0, f.double()
			}
		case 8, 11:
			ok = f.is(wireBytes) && d.span(&f, side(f.number, 11))
		case 9, 12:
			i := side(f.number, 12)
			ok = f.numbers(wireVarint, func(v uint64) { d.deltas[i] = bounded(d, d.deltas[i], int64(v>>1)^-int64(v&1)) })
		case 10, 13:
			i := side(f.number, 13)
			ok = f.numbers(wireFixed64, func(v uint64) { d.counts[i] = bounded(d, d.counts[i], math.Float64frombits(v)) })
		case 14:
			ok = f.is(wireVarint)
			d.hint(f.value)
		case 15:
			ok = f.is(wireVarint)
			d.t = int64(f.value)
		case 16:
			ok = f.numbers(wireFixed64, func(v uint64) { d.bounds = bounded(d, d.bounds, math.Float64frombits(v)) })
		case 17:
			ok = !v2 || f.is(wireVarint)
		}
		if !ok {
			return f.err
		}
	}
	return f.err
}

// side is which side of a histogram a field is of; the positive one has this number.
func side(number, of int32) int {
	if number == of {
		return positive
	}
	return negative
}

func (d *decoding) hint(v uint64) {
	hint := histogram.CounterResetHint(v & hintMask)
	if v > hintMask {
		hint = histogram.UnknownCounterReset
	}
	d.integer.CounterResetHint, d.floats.CounterResetHint = hint, hint
}

func (d *decoding) span(f *fields, i int) bool {
	var s histogram.Span
	in := f.sub()
	for in.next() {
		switch {
		case in.number > 2:
		case !in.is(wireVarint):
		case in.number == 1:
			s.Offset = in.zigzag32()
		default:
			s.Length = uint32(in.value)
		}
	}
	f.err = in.err
	d.spans[i] = bounded(d, d.spans[i], s)
	return f.err == nil
}

// bounded appends to a list of the histogram unless it is too long already.
func bounded[T any](d *decoding, list []T, v T) []T {
	if len(list) == MaxBuckets {
		d.large = true
		return list
	}
	return append(list, v)
}

// finish puts the histogram together, makes it no finer than can be stored, and
// says what is wrong with it.
func (d *decoding) finish() error {
	if d.large {
		return errBuckets
	}
	if d.float {
		h := &d.floats
		h.PositiveSpans, h.PositiveBuckets = d.spans[positive], d.counts[positive]
		h.NegativeSpans, h.NegativeBuckets = d.spans[negative], d.counts[negative]
		h.CustomValues = orNil(d.bounds)
		return sound(nil, h)
	}
	h := &d.integer
	h.PositiveSpans, h.PositiveBuckets = d.spans[positive], d.deltas[positive]
	h.NegativeSpans, h.NegativeBuckets = d.spans[negative], d.deltas[negative]
	h.CustomValues = orNil(d.bounds)
	return sound(h, nil)
}

// sound makes a histogram no finer than can be stored, and says what is wrong with
// it; exactly one of the two is not nil.
func sound(h *histogram.Histogram, fh *histogram.FloatHistogram) error {
	if fh != nil {
		if most(len(fh.PositiveSpans), len(fh.NegativeSpans), len(fh.PositiveBuckets), len(fh.NegativeBuckets), len(fh.CustomValues)) {
			return errBuckets
		}
		if err := coarser(fh.Schema, fh.ReduceResolution); err != nil {
			return err
		}
		return fh.Validate()
	}
	if most(len(h.PositiveSpans), len(h.NegativeSpans), len(h.PositiveBuckets), len(h.NegativeBuckets), len(h.CustomValues)) {
		return errBuckets
	}
	if err := coarser(h.Schema, h.ReduceResolution); err != nil {
		return err
	}
	return h.Validate()
}

func most(counts ...int) bool { return slices.Max(counts) > MaxBuckets }

// coarser reduces a schema that is finer than the TSDB's finest, as Prometheus'
// own receiver does.
func coarser(schema int32, reduce func(int32) error) error {
	if !histogram.IsExponentialSchemaReserved(schema) || schema <= histogram.ExponentialSchemaMax {
		return nil
	}
	return reduce(histogram.ExponentialSchemaMax)
}

// orNil: for the TSDB a list without values is another thing than no list.
func orNil(list []float64) []float64 {
	if len(list) == 0 {
		return nil
	}
	return list
}

// append lays out the entry of the histogram.
func (d *decoding) append(dst []byte) []byte {
	if d.float {
		return appendHistogram(dst, d.t, nil, &d.floats)
	}
	return appendHistogram(dst, d.t, &d.integer, nil)
}

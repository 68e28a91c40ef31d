package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"unicode/utf8"
)

// The entry of an exemplar, in a frame of kind 3, which has the labels of the
// series that they belong to. Numbers are little-endian.
//
//	┌────────┬─────────┬──────────────────────────────────────────┐
//	│ time 8 │ value 8 │ labels, laid out like those of a series; │
//	│        │         │ perhaps none                             │
//	└────────┴─────────┴──────────────────────────────────────────┘
const exemplarHead = 16

// MaxExemplarLabels is how many characters the labels of an exemplar may have,
// names and values together. The TSDB's ring and OpenMetrics have the same bound.
const MaxExemplarLabels = 128

// notLabels are label bytes that are none.
var notLabels = []byte{0}

// Exemplar is the next exemplar of the frame: its label bytes, which are valid
// until the next Next, its time in Unix milliseconds and its value; ok false:
// there is none. An entry that is no exemplar has labels that are no labels.
func (r *Reader) Exemplar() (labels []byte, t int64, v float64, ok bool) {
	if r.Kind() != Exemplars {
		return nil, 0, 0, false
	}
	e, ok := r.entry()
	if !ok {
		return nil, 0, 0, false
	}
	if len(e) < exemplarHead {
		return notLabels, 0, 0, true
	}
	bits := binary.LittleEndian.Uint64(e[8:])
	return e[exemplarHead:], int64(binary.LittleEndian.Uint64(e)), math.Float64frombits(bits), true
}

// appendExemplar appends the entry of an exemplar, with its length.
func appendExemplar(dst []byte, p point, labels []label) []byte {
	size := exemplarHead
	for _, l := range labels {
		size += laidOut(l.name) + laidOut(l.value)
	}
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = appendSample(dst, p.t, p.bits)
	for _, l := range labels {
		dst = appendString(appendString(dst, l.name), l.value)
	}
	return dst
}

// example is an exemplar that the slow path has collected of a series.
type example struct {
	t        int64
	from, to int  // its entry in Batch.entries
	bad      bool // it can never be stored
}

const exampleBytes = 32 // of memory

// looseExemplar collects an exemplar of 1.0 or 2.0; an error means that it is no
// message at all, or that its references lead nowhere.
func (w *walker) looseExemplar(f fields) error {
	b := w.b
	if w.lim.SamplesOnly {
		b.IgnoredExemplars++
		return nil
	}
	b.tags = b.tags[:0]
	var p point
	refs := tagRefs{b: b}
	for f.next() {
		ok := true
		switch {
		case f.number == 1 && w.symbols != nil:
			ok = refs.field(&f)
		case f.number == 1:
			ok = f.is(wireBytes) && w.looseTag(&f)
		case f.number == 2:
			ok = f.is(wireFixed64)
			p.bits = f.value
		case f.number == 3:
			ok = f.is(wireVarint)
			p.t = int64(f.value)
		}
		if !ok {
			return f.err
		}
	}
	if f.err != nil {
		return f.err
	}
	if refs.count%2 != 0 {
		return malformed(f.end, "%d references to symbols in an exemplar, want pairs,", refs.count)
	}
	e := example{t: p.t, from: len(b.entries), bad: !b.tidyTags()}
	if !e.bad {
		b.entries = appendExemplar(b.entries, p, b.tags)
	}
	e.to = len(b.entries)
	b.examples = append(b.examples, e)
	return w.bounded()
}

// looseTag takes a label of an exemplar.
func (w *walker) looseTag(f *fields) bool {
	var l label
	in := f.sub()
	for in.next() {
		switch {
		case in.number > 2:
		case !in.is(wireBytes):
		case in.number == 1:
			l.name = in.bytes
		default:
			l.value = in.bytes
		}
	}
	f.err = in.err
	w.b.tag(l)
	return f.err == nil
}

// tag keeps a label of an exemplar: one more than can be is enough to refuse it.
func (b *Batch) tag(l label) {
	if len(b.tags) <= MaxExemplarLabels {
		b.tags = append(b.tags, l)
	}
}

// tagRefs turns the references of an exemplar into its labels.
type tagRefs struct {
	b     *Batch
	count int
	name  []byte
}

func (r *tagRefs) field(f *fields) bool {
	bad := false
	ok := f.numbers(wireVarint, func(v uint64) {
		s := &r.b.symbols
		if v >= uint64(len(s.at)) {
			bad = true
			return
		}
		text := s.get(uint32(v))
		if r.count++; r.count%2 == 1 {
			r.name = text
			return
		}
		r.b.tag(label{r.name, text})
	})
	if bad {
		f.err = malformed(f.end-len(f.b), "a symbol of an exemplar that is not among %d", len(r.b.symbols.at))
	}
	return ok && !bad
}

// tidyTags drops empty values, sorts, and says whether the labels of the exemplar
// can be stored.
func (b *Batch) tidyTags() bool {
	if len(b.tags) > MaxExemplarLabels {
		return false
	}
	b.tags = slices.DeleteFunc(b.tags, func(l label) bool { return len(l.value) == 0 })
	slices.SortStableFunc(b.tags, func(a, c label) int { return bytes.Compare(a.name, c.name) })
	size := 0
	for i, l := range b.tags {
		if len(l.name) == 0 || !utf8.Valid(l.name) || !utf8.Valid(l.value) || i > 0 && bytes.Equal(b.tags[i-1].name, l.name) {
			return false
		}
		size += utf8.RuneCount(l.name) + utf8.RuneCount(l.value)
	}
	return size <= MaxExemplarLabels
}

// judgeExemplars leaves out those of the collected exemplars that cannot be
// stored, and lays out the others. What is left out is told, and is no reason to
// refuse a write: an exemplar that is missed is no hole in anything.
func (w *walker) judgeExemplars() {
	b := w.b
	kept := b.examples[:0]
	for _, e := range b.examples {
		switch {
		case e.bad:
			b.LeftOut.add(BadExemplar, 1, w.show)
		case e.t < w.lim.MinTime:
			b.LeftOut.add(TooOld, 1, w.show)
		case e.t > w.lim.MaxTime:
			b.LeftOut.add(TooNew, 1, w.show)
		default:
			kept = append(kept, e)
		}
	}
	for part := range slices.Chunk(kept, maxExemplarsOfFrame) {
		size := 0
		for _, e := range part {
			size += e.to - e.from
		}
		start, labels := w.layLabels(entriesBytes + size)
		b.Frames = binary.LittleEndian.AppendUint32(b.Frames, uint32(size))
		for _, e := range part {
			b.Frames = append(b.Frames, b.entries[e.from:e.to]...)
		}
		w.close(Exemplars, start, labels, len(part))
	}
}

// maxExemplarsOfFrame times the longest exemplar, a kilobyte, stays within partBytes.
const maxExemplarsOfFrame = 1 << 10

package wire

import (
	"bytes"
	"encoding/binary"
	"math"
)

// WalkV2 lays out the series of a remote write 2.0 body
// (io.prometheus.write.v2.Request, decompressed) into b, as WalkV1 does with
// one of 1.0: equal series end as equal bytes. A table of symbols that does not
// begin with the empty string, a reference that is not in it, and half a pair
// of references fail as a whole: who knows what the other references mean.
//
// Start timestamps are read over.
//
// https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/
func WalkV2(body []byte, lim Limits, b *Batch) error {
	if uint64(len(body)) > math.MaxUint32 {
		return &TooLarge{"bytes of body in a request", math.MaxUint32}
	}
	w := walker{b: b, lim: unlimited(lim), symbols: &b.symbols}
	if err := w.table(body); err != nil {
		return err
	}
	for at := 0; at < len(body); {
		f := fields{b: body[at:], end: len(body)}
		if !fastField(&f) && !f.next() {
			return f.err
		}
		at = len(body) - len(f.b)
		if f.number != 5 {
			continue
		}
		if err := w.begin(); err != nil {
			return err
		}
		if !w.fastV2(f.bytes) {
			if err := w.looseV2(f.sub()); err != nil {
				return err
			}
		}
		if err := w.end(); err != nil {
			return err
		}
	}
	return nil
}

// fastField reads a field of bytes whose tag and length are as short as can be.
func fastField(f *fields) bool {
	b := f.b
	if len(b) < 2 || b[0]&7 != wireBytes || b[0] >= 0x80 || b[0] < 8 {
		return false
	}
	n, k := uint64(b[1]), 1
	if n >= 0x80 {
		if n, k = binary.Uvarint(b[1:]); k <= 0 {
			return false
		}
	}
	b2 := b[1+k:]
	if n > uint64(len(b2)) {
		return false
	}
	f.number, f.wire = int32(b[0]>>3), wireBytes
	f.bytes, f.b = b2[:n:n], b2[n:]
	return true
}

// table finds the symbols. They may stand anywhere in the body, and are needed
// before the first series is read.
func (w *walker) table(body []byte) error {
	s := w.symbols
	s.body, s.ascii = body, true
	for at := 0; at < len(body); {
		f := fields{b: body[at:], end: len(body)}
		if !fastField(&f) && !f.next() {
			return f.err
		}
		next := len(body) - len(f.b)
		switch f.number {
		case 1, 3:
			return malformed(at, "field %d of prometheus.WriteRequest", f.number)
		case 4, 5:
			if !f.is(wireBytes) {
				return f.err
			}
		}
		if f.number == 4 {
			if err := s.add(at + varintEnd(body[at:])); err != nil {
				return err
			}
			if 4*len(s.at) > w.lim.Bytes {
				return &TooLarge{"bytes of symbols in a request", w.lim.Bytes}
			}
		}
		at = next
	}
	return nil
}

// fastV2 lays out a series as every known sender writes it: labels in order,
// samples, then what is left out. Anything that is not so, or not right, makes
// it give up without a trace; looseV2 then says what it is.
func (w *walker) fastV2(ts []byte) bool {
	b := w.b
	if len(ts) < 2 || ts[0] != 0x0a {
		return false
	}
	p, n := 2, int(ts[1])
	if n >= 0x80 {
		if len(ts) < 3 || ts[2] >= 0x80 {
			return false
		}
		p, n = 3, n&0x7f|int(ts[2])<<7
	}
	if n > len(ts)-p {
		return false
	}
	start := b.begin(len(ts))
	if w.fastRefs(ts[p : p+n]) {
		labels := len(b.Frames) - start - headerBytes
		rest, n, ok := w.fastSamples(ts[p+n:])
		if ok && w.fastRest(rest) {
			w.finish(start, labels, n)
			return true
		}
	}
	b.Frames = b.Frames[:start]
	return false
}

// fastRefs appends the labels that the references mean. Symbols of up to 127
// bytes look the same on the wire and in memory.
func (w *walker) fastRefs(refs []byte) bool {
	body, at := w.symbols.body, w.symbols.at
	dst := w.b.Frames
	labels, names, named := len(dst), 0, w.lim.Nameless
	var prev []byte
	for i := 0; i < len(refs); {
		n, k := shortRef(refs, i)
		v, l := shortRef(refs, k)
		if k == 0 || l == 0 || n >= uint32(len(at)) || v >= uint32(len(at)) {
			return false
		}
		i = l
		from := at[n]
		size := uint32(body[from])
		if size == 0 || size >= 0x80 || int(size) > w.lim.NameLength {
			return false
		}
		name := body[from+1 : from+1+size]
		if bytes.Compare(prev, name) >= 0 {
			return false
		}
		prev = name
		names++
		metric := string(name) == nameLabel
		named = named || metric
		dst = append(dst, body[from:from+1+size]...)
		from = at[v]
		if size = uint32(body[from]); size < 0x80 {
			if size == 0 || int(size) > w.lim.ValueLength {
				return false
			}
			if metric {
				w.name = body[from+1 : from+1+size]
			}
			dst = append(dst, body[from:from+1+size]...)
			continue
		}
		value := w.symbols.get(v)
		if len(value) == 0 || len(value) > w.lim.ValueLength || len(value) > maxString {
			return false
		}
		if metric {
			w.name = value
		}
		dst = appendString(dst, value)
		if len(dst)-labels > MaxLabelBytes {
			w.work += len(dst) - labels
			return false
		}
	}
	w.b.Frames = dst
	w.work += len(dst) - labels
	return named && names <= w.lim.Names && len(dst)-labels <= MaxLabelBytes &&
		(w.symbols.ascii || validUTF8(dst[labels:]))
}

// shortRef reads a reference of up to three bytes and where it ends; 0: it is
// longer, or cut.
func shortRef(refs []byte, i int) (ref uint32, end int) {
	if i >= len(refs) {
		return 0, 0
	}
	if c := refs[i]; c < 0x80 {
		return uint32(c), i + 1
	}
	if i+1 < len(refs) && refs[i+1] < 0x80 {
		return uint32(refs[i]&0x7f) | uint32(refs[i+1])<<7, i + 2
	}
	if i+2 < len(refs) && refs[i+2] < 0x80 {
		return uint32(refs[i]&0x7f) | uint32(refs[i+1]&0x7f)<<7 | uint32(refs[i+2])<<14, i + 3
	}
	return 0, 0
}

// fastRest reads what stands behind the samples: metadata. A series with exemplars
// takes the slow path.
func (w *walker) fastRest(s []byte) bool {
	var meta []byte
	exemplars := 0
	for len(s) > 0 {
		f := fields{b: s}
		if !fastField(&f) {
			return false
		}
		switch {
		case f.number == 4 && w.lim.SamplesOnly:
			exemplars++
		case f.number == 5:
			meta = f.bytes
		default:
			return false
		}
		s = f.b
	}
	w.b.IgnoredExemplars += exemplars
	return len(meta) == 0 || w.describeOnce(meta)
}

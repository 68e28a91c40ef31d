package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// Limits of a request; a number that is 0 does not limit.
type Limits struct {
	// Series and Samples bound the request as a whole.
	Series, Samples int
	// Bytes bounds the frames: a sample may take two bytes in a body and takes
	// sixteen in a frame.
	Bytes int
	// More, where it is not nil, is asked once the frames take more than Bytes, for
	// as many bytes more as it likes. Its error ends the walk.
	More func(bytes int) (int, error)
	// Names bounds the labels of a series, NameLength and ValueLength the bytes of each.
	Names, NameLength, ValueLength int
	// FloatsOnly refuses every kind of sample but floats: some member does not
	// understand the others yet.
	FloatsOnly bool
	// Nameless takes series without a metric name: they may get one.
	Nameless bool
	// SamplesOnly leaves out exemplars and metadata.
	SamplesOnly bool
	// Describe says whether a metric family's description has to be kept; nil: each.
	// Its bytes are the body's.
	Describe func(Metadata) bool
	// MinTime and MaxTime are the oldest and the newest time that is taken, Unix
	// milliseconds.
	MinTime, MaxTime int64
}

// TooLarge means that a request goes beyond one of its limits as a whole.
type TooLarge struct {
	What  string
	Limit int
}

func (e *TooLarge) Error() string { return fmt.Sprintf("more than %d %s", e.Limit, e.What) }

// WalkV1 lays out the series of a remote write 1.0 body (prometheus.WriteRequest,
// decompressed) into b, which must be empty. It fails as a whole with ErrFraming
// or TooLarge, and b is then of no use; what is wrong with single series is told
// by b.Refused, and the others are kept. b does not alias the body afterwards,
// except for what Reset clears.
//
// https://prometheus.io/docs/specs/prw/remote_write_spec/
func WalkV1(body []byte, lim Limits, b *Batch) error {
	w := walker{b: b, lim: unlimited(lim)}
	end := len(body)
	for len(body) > 0 {
		ts, rest, ok := fastSeries(body)
		if !ok {
			f := fields{b: body, end: end}
			if !f.next() {
				return f.err
			}
			rest = f.b
			switch f.number {
			case 1:
				if !f.is(wireBytes) {
					return f.err
				}
				ts, ok = f.bytes, true
			case 3:
				if !f.is(wireBytes) {
					return f.err
				}
				if err := w.describeV1(f.sub()); err != nil {
					return err
				}
			}
		}
		body = rest
		if !ok {
			continue
		}
		if err := w.begin(); err != nil {
			return err
		}
		if !w.fast(ts) {
			if err := w.loose(fields{b: ts, end: end - len(body)}); err != nil {
				return err
			}
		}
		if err := w.end(); err != nil {
			return err
		}
	}
	return nil
}

// fastSeries takes a TimeSeries off the front of a WriteRequest whose tag and
// length are as short as can be.
func fastSeries(body []byte) (ts, rest []byte, ok bool) {
	if len(body) < 2 || body[0] != 0x0a {
		return nil, nil, false
	}
	n, k := binary.Uvarint(body[1:])
	if k <= 0 || n > uint64(len(body)-1-k) {
		return nil, nil, false
	}
	body = body[1+k:]
	return body[:n:n], body[n:], true
}

// maxFrames bounds Batch.Frames, whose places are 32-bit numbers.
const maxFrames = 1 << 31

func unlimited(lim Limits) Limits {
	const most = 1 << 62
	for _, l := range []*int{&lim.Series, &lim.Samples, &lim.Names, &lim.NameLength, &lim.ValueLength} {
		if *l <= 0 {
			*l = most
		}
	}
	if lim.Bytes <= 0 || lim.Bytes > maxFrames {
		lim.Bytes = maxFrames
	}
	if lim.MaxTime == 0 {
		lim.MaxTime = most
	}
	return lim
}

// walker lays out the series of one body.
type walker struct {
	b      *Batch
	lim    Limits
	series int
	// symbols is the table of a remote write 2.0 request; nil in 1.0.
	symbols *symbols
	// name is the metric name of the series that fastRefs has laid out.
	name []byte
	// meta is the Metadata of the series before, of the metric metaOf.
	meta, metaOf []byte
	// work is the bytes of labels that were looked up, also those that did not end
	// in a frame: a reference takes a byte and may mean a megabyte.
	work int
}

// begin counts a series before it is looked at.
func (w *walker) begin() error {
	w.b.Came++
	if w.series++; w.series > w.lim.Series {
		return &TooLarge{"series in a request", w.lim.Series}
	}
	return nil
}

// end judges the request so far, after each series.
func (w *walker) end() error {
	b := w.b
	if b.received > w.lim.Samples {
		return &TooLarge{"samples in a request", w.lim.Samples}
	}
	for max(len(b.Frames), w.work/4) > w.lim.Bytes {
		if w.lim.More == nil {
			return &TooLarge{"bytes of series in a request", w.lim.Bytes}
		}
		more, err := w.lim.More(w.lim.Bytes)
		if err != nil {
			return err
		}
		w.lim.Bytes += more
	}
	return nil
}

// fast lays out a series as every known sender writes it: labels in order and
// before the samples, nothing empty, nothing else. Anything that is not so, or
// not right, makes it give up without a trace; loose then says what it is.
func (w *walker) fast(ts []byte) bool {
	b := w.b
	start := b.begin(len(ts))
	if p, ok := w.fastLabels(ts); ok {
		labels := len(b.Frames) - start - headerBytes
		rest, n, ok := w.fastSamples(ts[p:])
		if ok && len(rest) == 0 {
			w.finish(start, labels, n)
			return true
		}
	}
	b.Frames = b.Frames[:start]
	return false
}

// fastLabels appends the labels and returns where they end. Names and values
// of up to 127 bytes look the same on the wire and in memory.
func (w *walker) fastLabels(ts []byte) (int, bool) {
	dst := w.b.Frames
	labels := len(dst)
	var prev []byte
	p, names, named := 0, 0, w.lim.Nameless
	for p+1 < len(ts) && ts[p] == 0x0a {
		l := int(ts[p+1])
		p += 2
		if l >= 0x80 {
			if p >= len(ts) || ts[p] >= 0x80 {
				return 0, false
			}
			l = l&0x7f | int(ts[p])<<7
			p++
		}
		if l > len(ts)-p || l < 6 {
			return 0, false
		}
		m := ts[p : p+l]
		p += l
		n := int(m[1])
		if m[0] != 0x0a || n == 0 || n >= 0x80 || n+4 > len(m) || n > w.lim.NameLength {
			return 0, false
		}
		name, tail := m[2:2+n], m[2+n:]
		if tail[0] != 0x12 || bytes.Compare(prev, name) >= 0 {
			return 0, false
		}
		prev = name
		names++
		named = named || string(name) == "__name__"
		dst = append(dst, m[1:2+n]...)
		if v := int(tail[1]); v < 0x80 {
			if v == 0 || v != len(tail)-2 || v > w.lim.ValueLength {
				return 0, false
			}
			dst = append(dst, tail[1:]...)
			continue
		}
		v, k := binary.Uvarint(tail[1:])
		if k <= 0 || v != uint64(len(tail)-1-k) || v > uint64(w.lim.ValueLength) || v > maxString {
			return 0, false
		}
		dst = appendString(dst, tail[1+k:])
	}
	w.b.Frames = dst
	return p, named && names <= w.lim.Names && len(dst)-labels <= MaxLabelBytes && validUTF8(dst[labels:])
}

// taken counts the samples of a series.
type taken struct{ received, old, young int }

// fastSamples appends the samples in front of s and returns what is behind them.
func (w *walker) fastSamples(s []byte) (rest []byte, n taken, ok bool) {
	dst := w.b.Frames
	for len(s) > 0 && s[0] == 0x12 {
		if len(s) < 2 || s[1] >= 0x80 || int(s[1]) > len(s)-2 {
			return nil, n, false
		}
		m := s[2 : 2+s[1]]
		s = s[2+s[1]:]
		var bits uint64
		if len(m) >= 9 && m[0] == 0x09 {
			bits = binary.LittleEndian.Uint64(m[1:9])
			m = m[9:]
		}
		var t int64
		if len(m) > 0 {
			u, k := binary.Uvarint(m[1:])
			if m[0] != 0x10 || k <= 0 {
				return nil, n, false
			}
			if k != len(m)-1 && !w.startTime(m[1+k:]) {
				return nil, n, false
			}
			t = int64(u)
		}
		if n.received++; n.received > FrameSamples {
			return nil, n, false
		}
		switch {
		case t < w.lim.MinTime:
			n.old++
		case t > w.lim.MaxTime:
			n.young++
		default:
			dst = appendSample(dst, t, bits)
		}
	}
	w.b.Frames = dst
	return s, n, true
}

// startTime says whether m is a start timestamp, which is left out, and nothing else.
func (w *walker) startTime(m []byte) bool {
	if w.symbols == nil || m[0] != 0x18 {
		return false
	}
	_, k := binary.Uvarint(m[1:])
	return k > 0 && k == len(m)-1
}

// finish counts the samples and ends the frame that begins at start.
func (w *walker) finish(start, labels int, n taken) {
	b := w.b
	shown := b.Frames[start+headerBytes : start+headerBytes+labels]
	show := func() string { return Text(shown) }
	b.Refused.add(TooOld, n.old, show)
	b.Refused.add(TooNew, n.young, show)
	b.received += n.received
	w.close(Floats, start, labels, n.received-n.old-n.young)
}

// close ends the frame that begins at start; one without samples is dropped.
func (w *walker) close(kind Kind, start, labels, samples int) {
	b := w.b
	if samples == 0 {
		b.Frames = b.Frames[:start]
		return
	}
	frame := b.Frames[start:]
	hash := xxhash.Sum64(frame[headerBytes : headerBytes+labels])
	putHeader(frame, kind, hash, labels, samples)
	b.Series = append(b.Series, Series{
		Hash: hash, Start: uint32(start), End: uint32(len(b.Frames)),
		First: uint32(b.Items()), Samples: uint32(samples),
	})
	if kind == Exemplars {
		b.Exemplars += samples
	} else {
		b.Samples += samples
	}
}

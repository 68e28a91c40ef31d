package wire

import (
	"encoding/binary"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
)

// Copy lays out series of other batches once more, under labels that may be
// others: where a tenant's rules change them, or its series come among those of
// others. They are judged as if they had come under these labels, and equal
// series end as equal bytes.
type Copy struct{ w walker }

// NewCopy lays out into b, which must be empty.
func NewCopy(lim Limits, b *Batch) *Copy {
	return &Copy{walker{b: b, lim: unlimited(lim)}}
}

// Take lays out one series of from, under the labels ls. What is wrong with it is
// told by the batch's Refused. An error means that the series go beyond a limit as
// a whole: the batch is then of no use.
func (c *Copy) Take(from *Batch, s Series, ls labels.Labels) error {
	w := &c.w
	if err := w.begin(); err != nil {
		return err
	}
	frame := from.Of(s)
	b := w.b
	b.clearSeries()
	ls.Range(func(l labels.Label) {
		if len(b.labels) <= maxLabels {
			b.labels = append(b.labels, label{bytesOf(l.Name), bytesOf(l.Value)})
		}
	})
	if reason, ok := w.tidy(); !ok {
		if from.Kind(s) == Exemplars {
			b.LeftOut.add(reason, int(s.Samples), w.show)
			return w.end()
		}
		b.received += int(s.Samples)
		b.Refused.add(reason, int(s.Samples), w.show)
		return w.end()
	}
	start, size := w.layLabels(len(frame))
	payload := frame[headerBytes+int(binary.LittleEndian.Uint32(frame[9:13])):]
	n := taken{received: int(s.Samples)}
	if Kind(frame[0]) == Floats {
		w.copyFloats(payload, &n)
	} else {
		w.copyEntries(payload, &n)
	}
	refused := &b.Refused
	if from.Kind(s) == Exemplars {
		refused = &b.LeftOut
	} else {
		b.received += n.received
	}
	refused.add(TooOld, n.old, w.show)
	refused.add(TooNew, n.young, w.show)
	kept := n.received - n.old - n.young
	if Kind(frame[0]) == Histograms {
		b.Histograms += kept
	}
	w.close(Kind(frame[0]), start, size, kept)
	return w.end()
}

// inTime says whether a sample of a time is taken, and counts it where it is not.
func (w *walker) inTime(t int64, n *taken) bool {
	switch {
	case t < w.lim.MinTime:
		n.old++
	case t > w.lim.MaxTime:
		n.young++
	default:
		return true
	}
	return false
}

func (w *walker) copyFloats(samples []byte, n *taken) {
	b := w.b
	for ; len(samples) >= sampleBytes; samples = samples[sampleBytes:] {
		if w.inTime(int64(binary.LittleEndian.Uint64(samples)), n) {
			b.Frames = append(b.Frames, samples[:sampleBytes]...)
		}
	}
}

// copyEntries copies the entries that are in time: those of each kind begin with one.
func (w *walker) copyEntries(payload []byte, n *taken) {
	b := w.b
	at := len(b.Frames)
	b.Frames = append(b.Frames, payload[:entriesBytes]...)
	for rest := payload[entriesBytes:]; len(rest) > 0; {
		entry, tail, ok := cutEntry(rest)
		if !ok {
			break // not in frames of our own
		}
		if w.inTime(int64(binary.LittleEndian.Uint64(entry)), n) {
			b.Frames = append(b.Frames, rest[:len(rest)-len(tail)]...)
		}
		rest = tail
	}
	binary.LittleEndian.PutUint32(b.Frames[at:], uint32(len(b.Frames)-at-entriesBytes))
}

// Labels are the labels of a series, on memory of their own. sb is used and need
// not be empty.
func (b *Batch) Labels(s Series, sb *labels.ScratchBuilder) labels.Labels {
	sb.Reset()
	for rest := b.labelsOf(s); len(rest) > 0; {
		var name, value []byte
		var ok bool
		if name, rest, ok = nextString(rest); !ok {
			break
		}
		if value, rest, ok = nextString(rest); !ok {
			break
		}
		sb.Add(unsafe.String(unsafe.SliceData(name), len(name)), unsafe.String(unsafe.SliceData(value), len(value))) // Labels copies them
	}
	return sb.Labels()
}

// Label is the value that a series has for a name, in the batch's own bytes; nil:
// none.
func (b *Batch) Label(s Series, name string) []byte {
	for rest := b.labelsOf(s); len(rest) > 0; {
		n, tail, ok := nextString(rest)
		if !ok || string(n) > name { // they ascend
			return nil
		}
		value, tail, ok := nextString(tail)
		if !ok {
			return nil
		}
		if string(n) == name {
			return value
		}
		rest = tail
	}
	return nil
}

func (b *Batch) labelsOf(s Series) []byte {
	frame := b.Of(s)
	n := int(binary.LittleEndian.Uint32(frame[9:13]))
	return frame[headerBytes : headerBytes+n]
}

// Loose are limits that judge a request as a whole and leave its series to a Copy.
func (l Limits) Loose() Limits {
	l.Names, l.NameLength, l.ValueLength = 0, 0, 0
	l.MinTime, l.MaxTime = -1<<62, 0
	l.Nameless = true
	return l
}

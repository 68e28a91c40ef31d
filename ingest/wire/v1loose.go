package wire

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// loose lays out a series that fast gave up on. The message is decoded like
// Prometheus does it, its labels are sorted, empty values dropped, and either
// the frame is the same that a tidy sender would have caused, or the series is
// refused with a reason. An error means that the body is no message at all.
func (w *walker) loose(ts fields) error {
	b := w.b
	b.clearSeries()
	f := ts
	for f.next() {
		if f.number > 4 {
			continue
		}
		if !f.is(wireBytes) {
			return f.err
		}
		var err error
		switch f.number {
		case 1:
			err = w.looseLabel(f.sub())
		case 2:
			err = w.loosePoint(f.sub())
		case 3:
			err = w.looseExemplar(f.sub())
		case 4:
			err = w.looseHistogram(f.sub())
		}
		if err != nil {
			return err
		}
	}
	if f.err != nil {
		return f.err
	}
	b.received += b.collected()
	w.judge()
	return nil
}

// maxLabels is the most labels that are looked at in a series, whatever the
// tenant's limits say: two bytes of a body can be a label.
const maxLabels = 1 << 14

func (w *walker) looseLabel(f fields) error {
	var l label
	for f.next() {
		if f.number > 2 {
			continue
		}
		if !f.is(wireBytes) {
			return f.err
		}
		if f.number == 1 {
			l.name = f.bytes
		} else {
			l.value = f.bytes
		}
	}
	if len(w.b.labels) <= maxLabels { // one too many is enough to refuse the series
		w.b.labels = append(w.b.labels, l)
	}
	return f.err
}

func (w *walker) loosePoint(f fields) error {
	var p point
	for f.next() {
		switch f.number {
		case 1:
			if !f.is(wireFixed64) {
				return f.err
			}
			p.bits = f.value
		case 2:
			if !f.is(wireVarint) {
				return f.err
			}
			p.t = int64(f.value)
		case 3: // in 2.0 the start timestamp; in 1.0 nobody's
			if w.symbols != nil && !f.is(wireVarint) {
				return f.err
			}
		}
	}
	if f.err != nil {
		return f.err
	}
	w.b.points = append(w.b.points, p)
	return w.bounded()
}

// bounded refuses a series whose samples take more than the whole request may.
func (w *walker) bounded() error {
	if b := w.b; len(b.points)*sampleBytes+len(b.natives)*nativeBytes+len(b.examples)*exampleBytes+len(b.entries) > w.lim.Bytes {
		return &TooLarge{"bytes of series in a request", w.lim.Bytes}
	}
	return nil
}

// judge refuses the collected series, or what of it cannot be stored, and lays
// out the rest.
func (w *walker) judge() {
	b := w.b
	if reason, ok := w.tidy(); !ok {
		b.Refused.add(reason, b.collected(), w.show)
		b.LeftOut.add(reason, len(b.examples), w.show)
		return
	}
	kept := b.points[:0]
	old, young := 0, 0
	for _, p := range b.points {
		switch {
		case p.t < w.lim.MinTime:
			old++
		case p.t > w.lim.MaxTime:
			young++
		default:
			kept = append(kept, p)
		}
	}
	b.Refused.add(TooOld, old, w.show)
	b.Refused.add(TooNew, young, w.show)
	for part := range slices.Chunk(kept, FrameSamples) {
		w.lay(part)
	}
	w.judgeHistograms()
	w.judgeExemplars()
}

// show writes the collected labels for a person.
func (w *walker) show() string {
	var t text
	for _, l := range w.b.labels {
		if !t.label(l.name, l.value) {
			break
		}
	}
	return t.String()
}

// tidy drops empty values, sorts, and says whether the labels can be stored.
func (w *walker) tidy() (Reason, bool) {
	b := w.b
	if len(b.labels) > maxLabels {
		return TooManyLabels, false
	}
	b.labels = slices.DeleteFunc(b.labels, func(l label) bool { return len(l.value) == 0 })
	slices.SortStableFunc(b.labels, func(a, c label) int { return bytes.Compare(a.name, c.name) })
	size, named := 0, w.lim.Nameless
	for i, l := range b.labels {
		switch {
		case len(l.name) == 0:
			return EmptyLabelName, false
		case !utf8.Valid(l.name) || !utf8.Valid(l.value):
			return NotUTF8, false
		case i > 0 && bytes.Equal(b.labels[i-1].name, l.name):
			return DuplicateLabelName, false
		case len(l.name) > w.lim.NameLength:
			return LabelNameTooLong, false
		case len(l.value) > w.lim.ValueLength:
			return LabelValueTooLong, false
		}
		named = named || string(l.name) == "__name__"
		size += laidOut(l.name) + laidOut(l.value)
	}
	switch {
	case !named:
		return NoMetricName, false
	case len(b.labels) > w.lim.Names:
		return TooManyLabels, false
	case size > MaxLabelBytes:
		return LabelsTooLong, false
	}
	return 0, true
}

// laidOut is the number of bytes that a name or value takes in the layout.
func laidOut(s []byte) int {
	if len(s) < 255 {
		return 1 + len(s)
	}
	return 4 + len(s)
}

// lay writes a frame of the collected labels and some samples.
func (w *walker) lay(points []point) {
	b := w.b
	start, labels := w.layLabels(len(points) * sampleBytes)
	for _, p := range points {
		b.Frames = appendSample(b.Frames, p.t, p.bits)
	}
	w.close(Floats, start, labels, len(points))
}

// layLabels begins a frame with the collected labels, and room for n bytes more.
func (w *walker) layLabels(n int) (start, labels int) {
	b := w.b
	start = b.begin(n)
	for _, l := range b.labels {
		b.Frames = appendString(appendString(b.Frames, l.name), l.value)
	}
	return start, len(b.Frames) - start - headerBytes
}

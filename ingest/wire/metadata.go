package wire

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// The entry of a metric family's description, in a frame of kind 4, whose only
// label is the family's name.
//
//	┌────────┬───────────────────────────────┬────────┐
//	│ type 1 │ length of help, a varint help │ unit … │
//	└────────┴───────────────────────────────┴────────┘

// Metadata is what a sender says of a metric family.
type Metadata struct {
	// Type is the number of both messages' enumerations.
	Type               uint8
	Family, Help, Unit []byte
}

// metricTypes are Prometheus' words for the numbers.
var metricTypes = [...]string{"unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"}

// TypeName is Prometheus' word for the type.
func (m Metadata) TypeName() string {
	if int(m.Type) < len(metricTypes) {
		return metricTypes[m.Type]
	}
	return metricTypes[0]
}

const (
	// maxHelp and maxUnit are far more than people write.
	maxHelp = 8 << 10
	maxUnit = 256
)

// Descriptions are frames of kind 4, apart from the samples: they are routed like
// a series, and travel in shares of their own.
type Descriptions struct {
	Frames []byte
	Series []Series
}

// Metadata is the description of the frame; false: there is none, or it is none.
// Its bytes alias the frame.
func (r *Reader) Metadata() (m Metadata, ok bool) {
	if r.Kind() != Descriptors {
		return m, false
	}
	e, ok := r.entry()
	if !ok || len(e) == 0 {
		return m, false
	}
	name, rest, ok := nextString(r.labels)
	if !ok || string(name) != nameLabel {
		return m, false
	}
	if m.Family, rest, ok = nextString(rest); !ok || len(rest) > 0 || len(m.Family) == 0 {
		return m, false
	}
	m.Type = e[0]
	m.Help, m.Unit, ok = cutEntry(e[1:])
	return m, ok
}

const nameLabel = "__name__"

// describe lays out what is said of a family, unless it is known to be held
// already. What nobody can keep is counted.
func (w *walker) describe(m Metadata) error {
	b := w.b
	switch {
	case len(m.Help)+len(m.Unit) == 0 && m.Type == 0:
		return nil // it says nothing
	case len(m.Family) == 0, len(m.Family) > min(w.lim.ValueLength, MaxLabelBytes/2), len(m.Help) > maxHelp, len(m.Unit) > maxUnit,
		int(m.Type) >= len(metricTypes), !utf8.Valid(m.Family), !utf8.Valid(m.Help), !utf8.Valid(m.Unit):
		b.RefusedMetadata++
		return nil
	}
	b.Metadata++
	if w.lim.Describe != nil && !w.lim.Describe(m) {
		return nil
	}
	d := &b.Descriptions
	d.add(m)
	if len(d.Frames) > w.lim.Bytes {
		return &TooLarge{"bytes of metadata in a request", w.lim.Bytes}
	}
	return nil
}

// add lays out a frame.
func (d *Descriptions) add(m Metadata) {
	start := len(d.Frames)
	d.Frames = append(d.Frames, make([]byte, headerBytes)...)
	d.Frames = appendString(appendString(d.Frames, []byte(nameLabel)), m.Family)
	end := len(d.Frames)
	d.Frames = append(d.Frames, 0, 0, 0, 0)
	size := 1 + uvarintLen(len(m.Help)) + len(m.Help) + len(m.Unit)
	d.Frames = append(binary.AppendUvarint(d.Frames, uint64(size)), m.Type)
	d.Frames = append(append(binary.AppendUvarint(d.Frames, uint64(len(m.Help))), m.Help...), m.Unit...)
	binary.LittleEndian.PutUint32(d.Frames[end:], uint32(len(d.Frames)-end-entriesBytes))
	hash := xxhash.Sum64(d.Frames[start+headerBytes : end])
	putHeader(d.Frames[start:], Descriptors, hash, end-start-headerBytes, 1)
	n := uint32(len(d.Series))
	d.Series = append(d.Series, Series{Hash: hash, Start: uint32(start), End: uint32(len(d.Frames)), First: n, Samples: 1})
}

func uvarintLen(n int) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], uint64(n))
}

// describeV1 takes a MetricMetadata of 1.0.
func (w *walker) describeV1(f fields) error {
	if w.lim.SamplesOnly {
		w.b.IgnoredMetadata++
		return nil
	}
	var m Metadata
	for f.next() {
		ok := true
		switch f.number {
		case 1:
			ok = f.is(wireVarint)
			m.Type = uint8(min(f.value, 255))
		case 2:
			ok = f.is(wireBytes)
			m.Family = f.bytes
		case 4:
			ok = f.is(wireBytes)
			m.Help = f.bytes
		case 5:
			ok = f.is(wireBytes)
			m.Unit = f.bytes
		}
		if !ok {
			return f.err
		}
	}
	if f.err != nil {
		return f.err
	}
	return w.describe(m)
}

// describeOnce is describeV2 for the series that fastRefs has laid out. Series of a
// metric mostly follow each other: what is said of one is said of the next.
func (w *walker) describeOnce(meta []byte) bool {
	b := w.b
	if len(w.meta) > 0 && bytes.Equal(meta, w.meta) && bytes.Equal(w.name, w.metaOf) {
		b.Metadata++
		return true
	}
	before := b.Metadata
	if w.describeV2(fields{b: meta}, w.name) != nil {
		return false
	}
	if w.meta = nil; b.Metadata > before {
		w.meta, w.metaOf = meta, w.name
	}
	return true
}

// describeV2 takes the Metadata of a series of 2.0 with that name.
func (w *walker) describeV2(f fields, name []byte) error {
	if w.lim.SamplesOnly {
		w.b.IgnoredMetadata++
		return nil
	}
	var m Metadata
	for f.next() {
		ok := true
		switch f.number {
		case 1:
			ok = f.is(wireVarint)
			m.Type = uint8(min(f.value, 255))
		case 3:
			ok = f.is(wireVarint) && w.symbol(&f, &m.Help)
		case 4:
			ok = f.is(wireVarint) && w.symbol(&f, &m.Unit)
		}
		if !ok {
			return f.err
		}
	}
	if f.err != nil {
		return f.err
	}
	m.Family = familyOf(name, m.Type)
	return w.describe(m)
}

// looseMetadata takes the Metadata of a series of 2.0 whose labels were collected.
func (w *walker) looseMetadata(meta []byte, end int) error {
	if len(meta) == 0 {
		return nil
	}
	for _, l := range w.b.labels {
		if string(l.name) == nameLabel {
			return w.describeV2(fields{b: meta, end: end}, l.value)
		}
	}
	return nil
}

// symbol is the one that the field refers to.
func (w *walker) symbol(f *fields, to *[]byte) bool {
	s := w.symbols
	if f.value >= uint64(len(s.at)) {
		f.err = malformed(f.end-len(f.b), "symbol %d of %d in metadata", f.value, len(s.at))
		return false
	}
	*to = s.get(uint32(f.value))
	return true
}

// suffixes are what the names of a family's series may end with, by its type.
var suffixes = [len(metricTypes)][]string{
	3: {"_bucket", "_count", "_sum"},
	4: {"_bucket", "_gcount", "_gsum", "_count", "_sum"},
	5: {"_count", "_sum"},
}

// familyOf is the family of a series: 2.0 says what a series is, 1.0 and those who
// ask want to know it of the family.
func familyOf(name []byte, kind uint8) []byte {
	if int(kind) >= len(suffixes) {
		return name
	}
	for _, s := range suffixes[kind] {
		if cut := len(name) - len(s); cut > 0 && string(name[cut:]) == s {
			return name[:cut]
		}
	}
	return name
}

package wire

import "slices"

// Series is where a series of a batch is.
type Series struct {
	// Hash is the xxhash64 of its label bytes.
	Hash uint64
	// Start and End are the place of its frame in Batch.Frames.
	Start, End uint32
	// First is the number of its first sample in the batch, Samples how many it has.
	First, Samples uint32
}

// Batch is a write in canonical form, and an account of what was left out.
// The zero value is ready; Reset makes a used one empty and keeps its memory.
type Batch struct {
	// Frames are the frames of all series, without a gap.
	Frames []byte
	Series []Series
	// Samples is their number, Histograms how many of them are native histograms.
	Samples, Histograms int
	// Came is the number of series that were sent, the refused ones included.
	Came int
	// Refused is what can never be stored.
	Refused Refusals
	// Exemplars are in frames of their own among the others; LeftOut are those that
	// can never be stored, which is no reason to refuse a write.
	Exemplars int
	LeftOut   Refusals
	// Metadata is how many metric families were described, RefusedMetadata how many
	// in a way that cannot be kept. What is not known to be held is in Descriptions.
	Metadata, RefusedMetadata int
	Descriptions              Descriptions
	// IgnoredExemplars and IgnoredMetadata were seen where only samples are taken.
	IgnoredExemplars, IgnoredMetadata int

	received int // samples of the request, the refused ones included
	labels   []label
	points   []point
	natives  []native
	examples []example
	tags     []label // of one of these
	entries  []byte  // of natives and examples
	fault    error   // of the first of them that is bad
	decoding decoding
	symbols  symbols
}

// Reset empties the batch.
func (b *Batch) Reset() {
	if cap(b.labels) > keptLabels || cap(b.points) > FrameSamples {
		b.labels, b.points = nil, nil
	}
	if cap(b.natives) > FrameSamples || cap(b.entries) > keptEntries {
		b.natives, b.entries = nil, nil
	}
	if cap(b.examples) > FrameSamples {
		b.examples = nil
	}
	if cap(b.Descriptions.Frames) > keptEntries {
		b.Descriptions = Descriptions{}
	}
	clear(b.tags[:cap(b.tags)])
	clear(b.labels[:cap(b.labels)]) // they alias a body that is not ours any more
	*b = Batch{
		Frames: b.Frames[:0], Series: b.Series[:0],
		labels: b.labels[:0], points: b.points[:0], natives: b.natives[:0], entries: b.entries[:0],
		examples: b.examples[:0], tags: b.tags[:0],
		Descriptions: Descriptions{Frames: b.Descriptions.Frames[:0], Series: b.Descriptions.Series[:0]},
		decoding:     b.decoding.kept(), symbols: symbols{at: b.symbols.kept()},
	}
}

// clearSeries makes room for what the slow path collects of the next series.
func (b *Batch) clearSeries() {
	b.labels, b.points, b.natives, b.entries = b.labels[:0], b.points[:0], b.natives[:0], b.entries[:0]
	b.examples, b.fault = b.examples[:0], nil
}

// collected is how many samples have been collected of the series.
func (b *Batch) collected() int { return len(b.points) + len(b.natives) }

// keptEntries is how many bytes for entries of an untidy series a batch keeps.
const keptEntries = 64 << 10

// keptLabels is how much room for the labels of an untidy series a batch keeps.
const keptLabels = 256

// Items is what the frames hold: samples and exemplars.
func (b *Batch) Items() int { return b.Samples + b.Exemplars }

// Of is the frame of a series.
func (b *Batch) Of(s Series) []byte { return b.Frames[s.Start:s.End] }

// Kind is what the samples of a series are.
func (b *Batch) Kind(s Series) Kind { return Kind(b.Frames[s.Start]) }

// Text shows a series to a person.
func (b *Batch) Text(s Series) string {
	r := NewReader(b.Of(s))
	r.Next()
	return Text(r.Labels())
}

// begin makes room for a frame with about n bytes and returns where it begins.
func (b *Batch) begin(n int) int {
	start := len(b.Frames)
	b.Frames = slices.Grow(b.Frames, headerBytes+n)[:start+headerBytes]
	return start
}

// label and point are what the slow path collects of a series.
type (
	label struct{ name, value []byte }
	point struct {
		t    int64
		bits uint64
	}
)

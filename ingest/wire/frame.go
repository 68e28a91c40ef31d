package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A frame is one series of a write. Frames follow each other without a gap;
// numbers are little-endian.
//
//	 0      1              9           13            17
//	┌──────┬──────────────┬───────────┬─────────────┬──────────┬─────────────────┐
//	│ kind │ hash         │ length of │ number of   │ labels … │ samples …       │
//	│ 1    │ 8            │ labels 4  │ samples 4   │          │ 16 each         │
//	└──────┴──────────────┴───────────┴─────────────┴──────────┴─────────────────┘
//
//	kind     1: float samples, 2: native histograms, 3: exemplars, 4: what a
//	         metric family is
//	hash     xxhash64 of the labels
//	labels   for each label, names strictly ascending: name, value; each with
//	         its length before it, 1 byte, or 255 and then 3 bytes.
//	         This is how labels.Labels (stringlabels) looks in memory.
//	samples  time in Unix milliseconds, 8 bytes; value, 8 bytes
//
// Lengths stand in fixed places because they are known only once the labels
// have been laid out behind them.
//
// In a frame of any kind but 1 the samples differ in length, and are entries:
//
//	┌───────────────────┬────────┬─────────┬────────┬─────────┐
//	│ bytes of what     │ length │ entry … │ length │ entry … │
//	│ follows 4         │ varint │         │ varint │         │ …
//	└───────────────────┴────────┴─────────┴────────┴─────────┘
//
// native.go draws the entry of kind 2, exemplar.go of 3, metadata.go of 4.
//
// A member whose release is older than a kind must never get a frame of it:
// Limits.FloatsOnly is what keeps them out of a batch.
const (
	headerBytes  = 17
	sampleBytes  = 16
	entriesBytes = 4 // before the entries

	// FrameSamples is the most samples in a frame; a series with more takes
	// several, so that no frame outgrows a message between nodes.
	FrameSamples = 8192
	// MaxLabelBytes is the most that the labels of a series may take, whatever
	// the tenant's limits say, for the same reason.
	MaxLabelBytes = 1 << 20
)

// Kind is what the samples of a frame are.
type Kind uint8

// The kinds. Their numbers travel between nodes.
const (
	Floats     Kind = 1
	Histograms Kind = 2
	Exemplars  Kind = 3
	// Descriptors describe metric families.
	Descriptors Kind = 4

	newestKind = Descriptors
)

// partBytes is where the entries of a series go on in another frame, so that none
// outgrows a message between nodes.
const partBytes = 1 << 20

// ErrFrame means that bytes are not frames.
var ErrFrame = errors.New("malformed frame")

// Reader reads frames one after the other. Bytes that are no frames end it
// with an error and never do worse.
type Reader struct {
	frames []byte
	at     int // where the next frame begins
	start  int // where the present one does

	hash    uint64
	labels  []byte
	samples []byte // of floats
	entries []byte // of another kind; nil: it is a frame of floats
	count   int    // of the entries
	next    int    // where the next sample begins in samples, or in entries
	err     error
}

// NewReader reads frames, which it does not copy.
func NewReader(frames []byte) *Reader {
	r := &Reader{}
	r.Init(frames)
	return r
}

// Init makes the Reader read other frames.
func (r *Reader) Init(frames []byte) { *r = Reader{frames: frames} }

// Reset goes back before the first frame.
func (r *Reader) Reset() { r.Init(r.frames) }

// Next goes to the next frame; false: there is none, or Err.
func (r *Reader) Next() bool {
	if r.err != nil || r.at >= len(r.frames) {
		return false
	}
	f := r.frames[r.at:]
	if len(f) < headerBytes {
		return r.fail("header cut at byte %d", r.at)
	}
	if Kind(f[0]) != Floats {
		return r.nextEntries(f)
	}
	labels := int(binary.LittleEndian.Uint32(f[9:13]))
	samples := int(binary.LittleEndian.Uint32(f[13:17]))
	if labels > MaxLabelBytes || samples > FrameSamples || labels+samples*sampleBytes > len(f)-headerBytes {
		return r.fail("%d bytes of labels and %d samples at byte %d", labels, samples, r.at)
	}
	r.start = r.at
	r.hash = binary.LittleEndian.Uint64(f[1:9])
	r.labels = f[headerBytes : headerBytes+labels : headerBytes+labels]
	end := headerBytes + labels + samples*sampleBytes
	r.samples = f[headerBytes+labels : end : end]
	if r.entries != nil {
		r.entries, r.count = nil, 0
	}
	r.next = 0
	r.at += end
	return true
}

// nextEntries is Next where the frame is not one of floats.
func (r *Reader) nextEntries(f []byte) bool {
	labels := int(binary.LittleEndian.Uint32(f[9:13]))
	count := int(binary.LittleEndian.Uint32(f[13:17]))
	if labels > MaxLabelBytes || count > FrameSamples || labels > len(f)-headerBytes {
		return r.fail("%d bytes of labels and %d entries at byte %d", labels, count, r.at)
	}
	begin := headerBytes + labels
	size := entriesEnd(f[begin:], count)
	if kind := Kind(f[0]); size == 0 || kind == 0 || kind > newestKind {
		return r.fail("kind %d with %d entries at byte %d", kind, count, r.at)
	}
	r.start = r.at
	r.hash = binary.LittleEndian.Uint64(f[1:9])
	r.labels = f[headerBytes:begin:begin]
	r.samples, r.next, r.count = nil, 0, count
	r.entries = f[begin+entriesBytes : begin+size : begin+size]
	r.at += begin + size
	return true
}

// entriesEnd is where n entries that f begins with end; 0: they do not.
func entriesEnd(f []byte, n int) int {
	if len(f) < entriesBytes {
		return 0
	}
	size := int(binary.LittleEndian.Uint32(f))
	f = f[entriesBytes:]
	if size > len(f) {
		return 0
	}
	for f = f[:size]; len(f) > 0; n-- {
		_, rest, ok := cutEntry(f)
		if !ok || n == 0 {
			return 0
		}
		f = rest
	}
	if n != 0 {
		return 0
	}
	return entriesBytes + size
}

// cutEntry takes an entry off the front; false: there is none, or it is cut.
func cutEntry(f []byte) (entry, rest []byte, ok bool) {
	n, k := binary.Uvarint(f)
	if k <= 0 || n > uint64(len(f)-k) {
		return nil, nil, false
	}
	end := k + int(n)
	return f[k:end:end], f[end:], true
}

func (r *Reader) fail(format string, args ...any) bool {
	r.err = fmt.Errorf("%w: "+format, append([]any{ErrFrame}, args...)...)
	r.labels, r.samples, r.entries, r.count = nil, nil, nil, 0
	return false
}

// Err is why Next ended too early.
func (r *Reader) Err() error { return r.err }

// Frame is the present frame.
func (r *Reader) Frame() []byte { return r.frames[r.start:r.at] }

// Labels are the label bytes of the present frame, aliasing the frames.
func (r *Reader) Labels() []byte { return r.labels }

// Hash is the xxhash64 of Labels, as the frame says.
func (r *Reader) Hash() uint64 { return r.hash }

// Kind is what the samples of the present frame are.
func (r *Reader) Kind() Kind {
	if r.entries == nil {
		return Floats
	}
	return Kind(r.frames[r.start])
}

// Samples is the number of samples of the present frame, of whatever kind.
func (r *Reader) Samples() int { return len(r.samples)/sampleBytes + r.count }

// entry is the next entry of a frame that is not of floats; false: there is none.
func (r *Reader) entry() ([]byte, bool) {
	if r.entries == nil {
		return nil, false
	}
	e, rest, ok := cutEntry(r.entries[r.next:])
	if ok {
		r.next = len(r.entries) - len(rest)
	}
	return e, ok
}

// Sample is the next float sample of the frame; false: there is none.
func (r *Reader) Sample() (t int64, v float64, ok bool) {
	s := r.samples
	i := r.next
	if i+sampleBytes > len(s) {
		return 0, 0, false
	}
	r.next = i + sampleBytes
	s = s[i : i+sampleBytes]
	return int64(binary.LittleEndian.Uint64(s)), math.Float64frombits(binary.LittleEndian.Uint64(s[8:])), true
}

func putHeader(frame []byte, kind Kind, hash uint64, labels, samples int) {
	_ = frame[headerBytes-1]
	frame[0] = byte(kind)
	binary.LittleEndian.PutUint64(frame[1:], hash)
	binary.LittleEndian.PutUint32(frame[9:], uint32(labels))
	binary.LittleEndian.PutUint32(frame[13:], uint32(samples))
}

func appendSample(dst []byte, t int64, bits uint64) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t))
	return binary.LittleEndian.AppendUint64(dst, bits)
}

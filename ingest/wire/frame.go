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
//	kind     1: float samples; other numbers are for what comes later
//	hash     xxhash64 of the labels
//	labels   for each label, names strictly ascending: name, value; each with
//	         its length before it, 1 byte, or 255 and then 3 bytes.
//	         This is how labels.Labels (stringlabels) looks in memory.
//	samples  time in Unix milliseconds, 8 bytes; value, 8 bytes
//
// Lengths stand in fixed places because they are known only once the labels
// have been laid out behind them.
const (
	kindFloats  = 1
	headerBytes = 17
	sampleBytes = 16

	// FrameSamples is the most samples in a frame; a series with more takes
	// several, so that no frame outgrows a message between nodes.
	FrameSamples = 8192
	// MaxLabelBytes is the most that the labels of a series may take, whatever
	// the tenant's limits say, for the same reason.
	MaxLabelBytes = 1 << 20
)

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
	samples []byte
	next    int // where the next sample begins in samples
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
	if f[0] != kindFloats {
		return r.fail("kind %d at byte %d", f[0], r.at)
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
	r.next = 0
	r.at += end
	return true
}

func (r *Reader) fail(format string, args ...any) bool {
	r.err = fmt.Errorf("%w: "+format, append([]any{ErrFrame}, args...)...)
	r.labels, r.samples = nil, nil
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

// Samples is the number of samples of the present frame.
func (r *Reader) Samples() int { return len(r.samples) / sampleBytes }

// Sample is the next sample of the frame; false: there is none.
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

func putHeader(frame []byte, hash uint64, labels, samples int) {
	_ = frame[headerBytes-1]
	frame[0] = kindFloats
	binary.LittleEndian.PutUint64(frame[1:], hash)
	binary.LittleEndian.PutUint32(frame[9:], uint32(labels))
	binary.LittleEndian.PutUint32(frame[13:], uint32(samples))
}

func appendSample(dst []byte, t int64, bits uint64) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t))
	return binary.LittleEndian.AppendUint64(dst, bits)
}

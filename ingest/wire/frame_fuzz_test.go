package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
)

// framesSeed is a request of everything that frames carry, laid out.
func framesSeed(f *testing.F) []byte {
	var b Batch
	many := series(nil, "__name__", "many", "job", "a")
	for i := range int64(20) {
		many.Samples = append(many.Samples, one(1_700_000_000_000+i, float64(i))...)
	}
	if err := WalkV1(body(f, append(histogramSeries(), many, series(one(1, math.NaN()), "__name__", "up"))...), anyTime, &b); err != nil {
		f.Fatal(err)
	}
	return b.Frames
}

// FuzzFrames lays out what the Reader reads of float frames once more, by their
// picture in frame.go: it must be what was read.
func FuzzFrames(f *testing.F) {
	seed := framesSeed(f)
	f.Add(seed)
	f.Add(seed[:len(seed)-1])
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := NewReader(raw)
		read := 0
		for r.Next() {
			frame := r.Frame()
			if !bytes.Equal(frame, raw[read:read+len(frame)]) {
				t.Fatalf("the frame at %d is from elsewhere", read)
			}
			read += len(frame)
			again := append([]byte{frame[0]}, binary.LittleEndian.AppendUint64(nil, r.Hash())...)
			again = binary.LittleEndian.AppendUint32(again, uint32(len(r.Labels())))
			again = binary.LittleEndian.AppendUint32(again, uint32(r.Samples()))
			again = append(again, r.Labels()...)
			n := 0
			for at, v, ok := r.Sample(); ok; at, v, ok = r.Sample() {
				again = binary.LittleEndian.AppendUint64(again, uint64(at))
				again = binary.LittleEndian.AppendUint64(again, math.Float64bits(v))
				n++
			}
			if r.Kind() != Floats {
				if n != 0 || !bytes.HasPrefix(frame, again) {
					t.Fatalf("%d float samples in a frame of kind %d", n, r.Kind())
				}
				continue
			}
			if n != r.Samples() || !bytes.Equal(again, frame) {
				t.Fatalf("%d samples of %d: read %x of %x", n, r.Samples(), again, frame)
			}
		}
		if (r.Err() == nil) != (read == len(raw)) {
			t.Fatalf("%d of %d bytes read, %v", read, len(raw), r.Err())
		}
	})
}

// FuzzLabelBytes has Prometheus read what is called well formed: it must find the
// labels that we do, and go nowhere else.
func FuzzLabelBytes(f *testing.F) {
	f.Add([]byte("\x08__name__\x02up\x03job\x01a"))
	f.Add(appendString(appendString(nil, []byte("a")), bytes.Repeat([]byte("long"), 100)))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want []string
		rest, ok := raw, true
		for len(rest) > 0 && ok {
			var s []byte
			if s, rest, ok = nextString(rest); ok {
				want = append(want, string(s))
			}
		}
		if got := WellFormed(raw); got != (ok && len(want)%2 == 0) {
			t.Fatalf("%x is well formed: %t; %d strings, %t", raw, got, len(want), ok)
		} else if !got {
			return
		}
		own := string(raw)
		ls := *(*labels.Labels)(unsafe.Pointer(&own)) // as a replica reads them
		i := 0
		ls.Range(func(l labels.Label) {
			if l.Name != want[i] || l.Value != want[i+1] {
				t.Fatalf("label %d is %q=%q, want %q=%q", i/2, l.Name, l.Value, want[i], want[i+1])
			}
			i += 2
		})
		if i != len(want) {
			t.Fatalf("%d strings of %d", i, len(want))
		}
		_ = Text(raw)
	})
}

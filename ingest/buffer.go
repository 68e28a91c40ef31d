package ingest

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// buffer is bytes with a count of those who still read them; the last one to
// release it gives the memory to the next write. Whoever hands a buffer on
// retains it first. Its bytes are not written to once there are two readers.
type buffer struct {
	b    []byte
	refs atomic.Int32
}

// Buffers are pooled in classes of powers of two. Larger ones than the last
// class are rare and left to the garbage collector, or one burst would be
// paid for ever.
const (
	minClass = 12 // 4 KiB
	maxClass = 22 // 4 MiB
)

var buffers [maxClass - minClass + 1]sync.Pool

// poison makes released bytes unreadable, so that a test sees who still reads
// them. The build tag of the same name does it always (poisoned).
var poison atomic.Bool

// spoil overwrites all of a buffer.
func (b *buffer) spoil() {
	all := b.b[:cap(b.b)]
	for i := range all {
		all[i] = 0xdb
	}
}

// newBuffer gives an empty buffer with room for n bytes and one reader.
func newBuffer(n int) *buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), minClass)
	if class > maxClass {
		b := &buffer{b: make([]byte, 0, n)}
		if poisoned {
			b.spoil()
		}
		b.refs.Store(1)
		return b
	}
	b, ok := buffers[class-minClass].Get().(*buffer)
	if !ok {
		b = &buffer{b: make([]byte, 0, 1<<class)}
		if poisoned {
			b.spoil() // nobody may count on zeros, which only new memory has
		}
	}
	b.refs.Store(1)
	return b
}

// retain adds a reader.
func (b *buffer) retain() *buffer {
	if b.refs.Add(1) <= 1 {
		panic("buffer retained after its release")
	}
	return b
}

// release takes a reader away.
func (b *buffer) release() {
	n := b.refs.Add(-1)
	switch {
	case n > 0:
		return
	case n < 0:
		panic("buffer released twice")
	}
	if poisoned || poison.Load() {
		b.spoil()
	}
	class := bits.Len(uint(cap(b.b))) - 1
	if class < minClass || class > maxClass {
		return
	}
	b.b = b.b[:0]
	buffers[class-minClass].Put(b)
}

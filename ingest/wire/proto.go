package wire

import (
	"errors"
	"fmt"
	"math"
)

// ErrFraming means that a body is not the protobuf message it should be.
var ErrFraming = errors.New("malformed body")

// Wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireGroup   = 3
	wireEnd     = 4
	wireFixed32 = 5
)

// fields reads the fields of a protobuf message as loosely as Prometheus'
// decoder does: any order, unknown fields, lengths and numbers longer than
// need be.
type fields struct {
	b   []byte
	end int // where b ends in the whole body
	err error

	number int32
	wire   int
	value  uint64 // of wireVarint and wireFixed64
	bytes  []byte // of wireBytes
}

// next goes to the next field; false: there is none, or err.
func (f *fields) next() bool {
	if f.err != nil || len(f.b) == 0 {
		return false
	}
	tag, ok := f.varint()
	if !ok {
		return false
	}
	f.number, f.wire = int32(tag>>3), int(tag&7)
	if f.number <= 0 {
		return f.fail("illegal field number")
	}
	switch f.wire {
	case wireVarint:
		f.value, ok = f.varint()
		return ok
	case wireFixed64:
		return f.fixed64()
	case wireFixed32:
		return f.skip(4)
	case wireBytes:
		f.bytes, ok = f.span()
		return ok
	case wireGroup:
		return f.group()
	default:
		return f.fail("illegal wire type")
	}
}

// sub reads the message that the field is.
func (f *fields) sub() fields { return fields{b: f.bytes, end: f.end - len(f.b)} }

// is says whether the field has the wire type it should have.
func (f *fields) is(wire int) bool {
	return f.wire == wire || f.fail("field has another type")
}

// double and zigzag32 are what the number of the field means for those types.
func (f *fields) double() float64 { return math.Float64frombits(f.value) }
func (f *fields) zigzag32() int32 { return int32(uint32(f.value)>>1) ^ -int32(f.value&1) }

// numbers calls take for each number of a repeated field, which has one, or,
// packed, many.
func (f *fields) numbers(wire int, take func(uint64)) bool {
	if f.wire == wire {
		take(f.value)
		return true
	}
	if !f.is(wireBytes) {
		return false
	}
	in := f.sub()
	for len(in.b) > 0 {
		if wire == wireVarint {
			in.value, _ = in.varint()
		} else {
			in.fixed64()
		}
		if in.err != nil {
			f.err = malformed(f.end-len(f.b), "a packed field is cut")
			return false
		}
		take(in.value)
	}
	return true
}

func (f *fields) varint() (uint64, bool) {
	var v uint64
	for i := range 10 {
		if i >= len(f.b) {
			return 0, f.fail("cut")
		}
		c := f.b[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			f.b = f.b[i+1:]
			return v, true
		}
	}
	return 0, f.fail("number too long")
}

func (f *fields) span() ([]byte, bool) {
	n, ok := f.varint()
	if !ok {
		return nil, false
	}
	if n > uint64(len(f.b)) {
		return nil, f.fail("cut")
	}
	s := f.b[:n:n]
	f.b = f.b[n:]
	return s, true
}

func (f *fields) fixed64() bool {
	if len(f.b) < 8 {
		return f.fail("cut")
	}
	b := f.b[:8]
	f.value = uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
	f.b = f.b[8:]
	return true
}

func (f *fields) skip(n int) bool {
	if len(f.b) < n {
		return f.fail("cut")
	}
	f.b = f.b[n:]
	return true
}

// group skips a group; it does not call itself, so that depth costs no stack.
func (f *fields) group() bool {
	for depth := 1; depth > 0; {
		tag, ok := f.varint()
		if !ok {
			return false
		}
		switch int(tag & 7) {
		case wireVarint:
			_, ok = f.varint()
		case wireFixed64:
			ok = f.skip(8)
		case wireBytes:
			_, ok = f.span()
		case wireGroup:
			depth++
		case wireEnd:
			depth--
		case wireFixed32:
			ok = f.skip(4)
		default:
			ok = f.fail("illegal wire type")
		}
		if !ok {
			return false
		}
	}
	f.wire = wireGroup
	return true
}

// varintEnd is where the number that b begins with ends.
func varintEnd(b []byte) int {
	for i, c := range b {
		if c < 0x80 {
			return i + 1
		}
	}
	return len(b)
}

// malformed says what is wrong with a body, and where.
func malformed(at int, format string, args ...any) error {
	return fmt.Errorf("%w: %s at byte %d", ErrFraming, fmt.Sprintf(format, args...), at)
}

func (f *fields) fail(what string) bool {
	if f.err == nil {
		f.err = malformed(f.end-len(f.b), "%s", what)
	}
	return false
}

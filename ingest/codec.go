package ingest

import (
	"encoding/binary"
	"fmt"
	"strings"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// codecName is the content-subtype of the Shares stream. What travels is plain
// protobuf, as peer.proto says; the codec only spares the copies of the frames.
const codecName = "muster-share"

func init() { encoding.RegisterCodecV2(codec{}) }

// framesTag is the tag of Share.frames: field 15, bytes.
const framesTag = 15<<3 | 2

// outgoing is a share to be sent: everything but the frames, and the frames,
// which gRPC reads out of the buffer.
type outgoing struct {
	share  *peerpb.Share // without frames
	frames []byte
	buf    *buffer
}

// incoming is a received share. Its frames are in buf until release.
type incoming struct {
	peerpb.Share
	buf *buffer
}

func (in *incoming) release() {
	if in.buf != nil {
		in.buf.release()
		in.buf = nil
	}
}

type codec struct{}

func (codec) Name() string { return codecName }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *outgoing:
		return m.marshal()
	case *peerpb.ShareResult:
		b, err := m.MarshalVT()
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	default:
		return nil, fmt.Errorf("codec %s: cannot send a %T", codecName, v)
	}
}

// smallFrames are copied behind the head: below its threshold gRPC does not
// say when it is done with a buffer.
const smallFrames = 4 << 10

func (o *outgoing) marshal() (mem.BufferSlice, error) {
	size := o.share.SizeVT()
	small := len(o.frames) <= smallFrames
	room := size + 1 + binary.MaxVarintLen64
	if small {
		room += len(o.frames)
	}
	head := make([]byte, size, room)
	if _, err := o.share.MarshalToSizedBufferVT(head); err != nil {
		return nil, err
	}
	head = append(head, framesTag)
	head = binary.AppendUvarint(head, uint64(len(o.frames)))
	if small {
		return mem.BufferSlice{mem.SliceBuffer(append(head, o.frames...))}, nil
	}
	o.buf.retain()
	frames := o.frames
	return mem.BufferSlice{mem.SliceBuffer(head), mem.NewBuffer(&frames, readerOf{o.buf})}, nil
}

// readerOf is gRPC as a reader of a buffer: Put is how it says that it is done.
type readerOf struct{ buf *buffer }

func (r readerOf) Get(n int) *[]byte { b := make([]byte, n); return &b }
func (r readerOf) Put(*[]byte)       { r.buf.release() }

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *incoming:
		return m.unmarshal(data)
	case *peerpb.ShareResult:
		return m.UnmarshalVT(data.Materialize())
	default:
		return fmt.Errorf("codec %s: cannot receive a %T", codecName, v)
	}
}

func (in *incoming) unmarshal(data mem.BufferSlice) error {
	buf := newBuffer(data.Len())
	buf.b = buf.b[:data.Len()]
	data.CopyTo(buf.b)
	if err := in.UnmarshalVTUnsafe(buf.b); err != nil {
		buf.release()
		return err
	}
	in.buf = buf
	in.Tenant = strings.Clone(in.Tenant) // it may outlive the buffer: storages keep names
	in.Traceparent = strings.Clone(in.Traceparent)
	return nil
}

package store

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec for what we did not generate
	"google.golang.org/grpc/mem"
)

// codec writes our messages with their generated code, and others (health,
// reflection) as gRPC does by itself. On the wire there is no difference.
type codec struct{ other encoding.CodecV2 }

func newCodec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

type message interface {
	SizeVT() int
	MarshalToSizedBufferVT(b []byte) (int, error)
}

// reader takes the bytes of a message; they are valid during the call.
type reader interface{ UnmarshalVT(b []byte) error }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(message)
	if !ok {
		return c.other.Marshal(v)
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(m.SizeVT())
	if _, err := m.MarshalToSizedBufferVT(*buf); err != nil {
		pool.Put(buf)
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(reader)
	if !ok {
		return c.other.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	if err := m.UnmarshalVT(buf.ReadOnlyData()); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}

func (codec) Name() string { return "proto" }

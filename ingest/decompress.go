package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/muster-metrics/muster/ingest/wire"
)

const (
	// maxRatio is more than zstd makes of a request of equal series.
	maxRatio = 256
	// snappyRatio is the most that snappy can make of a byte: a copy of 64 bytes
	// takes three.
	snappyRatio = 22
	// usualRatio is more than a body of unknown length mostly becomes.
	usualRatio = 16
	// smallBody may become so much whatever its ratio.
	smallBody = 64 << 10
	// maxWindow is the largest zstd window that is taken: what the zstd command
	// uses unless told otherwise. It is no memory, as the output is the window.
	maxWindow = 128 << 20
	// zstdBlock is the most that a block of zstd becomes.
	zstdBlock = 128 << 10
)

// errLonger means that a body becomes more bytes than there is room for.
var errLonger = errors.New("body is longer than it says")

// roomFor is the number of bytes that a body says it becomes, and the most that
// it may become if that is wrong. Nothing is decompressed for it. A body of
// unnamed compression that cannot be snappy is found out to be none.
func roomFor(c compression, body []byte, limit int64) (_ compression, room, most int64, err error) {
	n := int64(len(body))
	most = min(limit, n*maxRatio+smallBody)
	switch c {
	case unnamed:
		if room, err = snappyRoom(body); err != nil || room > limit {
			c, room, err = identity, n, nil
		}
		most = room
	case identity:
		room, most = n, n
	case snappyBlock:
		room, err = snappyRoom(body)
		most = room
	case gzipped:
		room = most
		if n >= 4 { // the length of the last member, or of its last 32 bits
			room = int64(binary.LittleEndian.Uint32(body[n-4:]))
		}
		return c, min(room, most), most, nil
	case zstandard:
		room = zstdRoom(body, most)
	}
	switch {
	case err != nil:
		return c, 0, 0, fmt.Errorf("%w: %w", wire.ErrFraming, err)
	case room > limit:
		return c, 0, 0, tooLarge("decoded body", limit)
	case c == snappyBlock && room > n*snappyRatio+smallBody:
		return c, 0, 0, fmt.Errorf("%w: %d bytes of snappy cannot become %d", wire.ErrFraming, n, room)
	}
	return c, min(room, most), most, nil
}

func snappyRoom(body []byte) (int64, error) {
	n, err := snappy.DecodedLen(body)
	return int64(n), err
}

// zstdRoom believes the first frame. Where it does not tell, as when it was
// made of a stream, the guess is what most bodies become.
func zstdRoom(body []byte, most int64) int64 {
	var h zstd.Header
	if err := h.Decode(body); err != nil || !h.HasFCS { // what is wrong, the decoder will say
		return min(int64(len(body))*usualRatio+smallBody, most)
	}
	return int64(min(h.FrameContentSize, 1<<62))
}

// decompress gives at most room bytes, or errLonger. What it gives may be the
// body itself.
func decompress(c compression, body *buffer, room int) (*buffer, error) {
	switch c {
	case identity:
		return body.retain(), nil
	case gzipped:
		return gunzip(body.b, room)
	}
	var plain *buffer
	var b []byte
	var err error
	if c == zstandard {
		plain = newBuffer(room + 2*zstdBlock)
		b, err = unzstd(plain.b, body.b, room)
	} else {
		plain = newBuffer(room)
		b, err = snappy.Decode(plain.b[:cap(plain.b)], body.b)
	}
	switch {
	case err == nil && len(b) > 0 && &b[0] == &plain.b[:1][0]:
		plain.b = plain.b[:len(b)]
		return plain, nil
	case err == nil: // a decoder may have wanted more room on its way
		plain.b = append(plain.b[:0], b...)
		return plain, nil
	case c == unnamed:
		plain.release()
		return body.retain(), nil
	default:
		plain.release()
		return nil, err
	}
}

// gunzipper is a reader of gzip, and where it reads from.
type gunzipper struct {
	from bytes.Reader
	gzip gzip.Reader
}

var gunzippers = sync.Pool{New: func() any { return &gunzipper{} }}

func gunzip(body []byte, room int) (*buffer, error) {
	g := gunzippers.Get().(*gunzipper)
	defer gunzippers.Put(g)
	g.from.Reset(body)
	defer g.from.Reset(nil) // the body is not ours to keep
	if err := g.gzip.Reset(&g.from); err != nil {
		return nil, err
	}
	plain := newBuffer(room + 1)
	n, err := fill(&g.gzip, plain.b[:room+1])
	plain.b = plain.b[:n]
	if err == nil && n > room {
		err = errLonger
	}
	if err != nil {
		plain.release()
		return nil, err
	}
	return plain, nil
}

// fill reads until the end, or until b is full.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// unzstds decodes any number of bodies at once: each takes one of its decoders,
// which are made once.
var unzstds = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(maxWindow))
})

// unzstd decodes into dst, which has room for two blocks more: the decoder's
// word for a lack of room is the same as for a damaged block, unless there was
// room for a whole one.
func unzstd(dst, body []byte, room int) ([]byte, error) {
	d, err := unzstds()
	if err != nil {
		return nil, err
	}
	b, err := d.DecodeAll(body, dst[:0:room+2*zstdBlock])
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || len(b) > room {
		return nil, errLonger
	}
	return b, err
}

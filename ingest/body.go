package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/muster-metrics/muster/ingest/wire"
)

// compression is how a body is compressed.
type compression uint8

const (
	// unnamed has no Content-Encoding: senders older than the specification
	// mean snappy, HTTP means none.
	unnamed compression = iota
	identity
	snappyBlock
	gzipped
	zstandard
)

// checkHeaders says whether the body is a remote write 1.0 request in an
// encoding we know. Prometheus takes a missing content type for one, and so do we.
func checkHeaders(h http.Header) (compression, error) {
	if v := h.Get("Content-Type"); v != "" {
		kind, params, err := mime.ParseMediaType(v)
		if err != nil || kind != "application/x-protobuf" {
			return 0, refusal{http.StatusUnsupportedMediaType, fmt.Sprintf("content type %q: want application/x-protobuf", v)}
		}
		if p := params["proto"]; p != "" && p != "prometheus.WriteRequest" {
			return 0, refusal{http.StatusUnsupportedMediaType, fmt.Sprintf("message %q: want prometheus.WriteRequest", p)}
		}
	}
	e, ok := map[string]compression{
		"": unnamed, "identity": identity, "snappy": snappyBlock, "gzip": gzipped, "zstd": zstandard,
	}[strings.ToLower(h.Get("Content-Encoding"))]
	if !ok {
		return 0, refusal{http.StatusUnsupportedMediaType, fmt.Sprintf("content encoding %q: want snappy, zstd, gzip or identity", h.Get("Content-Encoding"))}
	}
	if v := h.Get("X-Prometheus-Remote-Write-Version"); v != "" && !strings.HasPrefix(v, "0.") && !strings.HasPrefix(v, "1.") && v != "1" {
		return 0, refusal{http.StatusUnsupportedMediaType, fmt.Sprintf("remote write version %q: want 1.0 (0.1.0)", v)}
	}
	return e, nil
}

// readBody reads at most limit bytes. length is what the sender says; it is
// believed for a megabyte.
func readBody(r io.Reader, length, limit int64) (*buffer, error) {
	room := int64(1 << 20)
	if length >= 0 {
		room = min(length, room)
	}
	buf := newBuffer(int(room) + bytes.MinRead)
	b := bytes.NewBuffer(buf.b)
	_, err := b.ReadFrom(io.LimitReader(r, limit+1))
	buf.b = b.Bytes()
	if err == nil && int64(len(buf.b)) > limit {
		err = tooLarge("request body", limit)
	} else if err != nil {
		err = refusal{http.StatusBadRequest, "body: " + err.Error()}
	}
	if err != nil {
		buf.release()
		return nil, err
	}
	return buf, nil
}

// decode decompresses a body once the bytes that it becomes are admitted.
// What it gives may be the body itself. release gives the admission back; it
// is never nil.
func (i *Ingester) decode(ctx context.Context, e compression, body *buffer) (plain *buffer, release func(), err error) {
	n := int64(len(body.b))
	limit := i.cfg.MaxDecodedBytes
	switch e {
	case unnamed, snappyBlock:
		size, err := snappy.DecodedLen(body.b)
		if err == nil && int64(size) > limit {
			if e == unnamed { // not snappy, then
				e = identity
				break
			}
			return nil, func() {}, tooLarge("decoded body", limit)
		}
		if err == nil {
			n = int64(size)
		} else if e == snappyBlock {
			return nil, func() {}, framing(err)
		}
	case gzipped, zstandard:
		// Only the end tells how long it is: room is made for what no sender's
		// body exceeds, and the rest is not decompressed.
		limit = min(limit, n*maxRatio+64<<10)
		n = limit
	}
	if n > i.cfg.MaxDecodedBytes {
		return nil, func() {}, tooLarge("decoded body", i.cfg.MaxDecodedBytes)
	}
	release, ok := i.admission.work(ctx, n)
	if !ok {
		return nil, func() {}, errOverloaded
	}
	plain, err = decompress(e, body, int(n), limit)
	return plain, release, err
}

// maxRatio is more than zstd makes of a request of equal series.
const maxRatio = 256

func decompress(e compression, body *buffer, n int, limit int64) (*buffer, error) {
	switch e {
	case identity:
		return body.retain(), nil
	case unnamed, snappyBlock:
		plain := newBuffer(n)
		b, err := snappy.Decode(plain.b[:cap(plain.b)], body.b)
		if err != nil {
			plain.release()
			if e == unnamed {
				return body.retain(), nil
			}
			return nil, framing(err)
		}
		plain.b = b
		return plain, nil
	case gzipped:
		r, err := gzip.NewReader(bytes.NewReader(body.b))
		if err != nil {
			return nil, framing(err)
		}
		plain, err := readBody(r, -1, limit)
		if rf := (refusal{}); errors.As(err, &rf) && rf.status == http.StatusRequestEntityTooLarge {
			return nil, tooLarge("decoded body", limit)
		}
		return plain, err
	default:
		d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(uint64(limit)), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, framing(err)
		}
		defer d.Close()
		plain := newBuffer(min(len(body.b)*8, int(limit)))
		b, err := d.DecodeAll(body.b, plain.b)
		plain.b = b
		switch {
		case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded), err == nil && int64(len(b)) > limit:
			plain.release()
			return nil, tooLarge("decoded body", limit)
		case err != nil:
			plain.release()
			return nil, framing(err)
		}
		return plain, nil
	}
}

func framing(err error) error { return fmt.Errorf("%w: %w", wire.ErrFraming, err) }

func tooLarge(what string, limit int64) error {
	return refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("%s is larger than %d bytes", what, limit)}
}

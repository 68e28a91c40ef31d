package store

import (
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/grpc/encoding"
)

// Thanos' clients may be told to compress with snappy, and mean its framed
// format; gRPC knows a compressor only by its name.
func init() { encoding.RegisterCompressor(&snappyCompressor{}) }

type snappyCompressor struct{ writers, readers sync.Pool }

func (*snappyCompressor) Name() string { return "snappy" }

func (c *snappyCompressor) Compress(w io.Writer) (io.WriteCloser, error) {
	sw, ok := c.writers.Get().(*snappyWriter)
	if !ok {
		return &snappyWriter{Writer: snappy.NewBufferedWriter(w), pool: &c.writers}, nil
	}
	sw.Reset(w)
	return sw, nil
}

func (c *snappyCompressor) Decompress(r io.Reader) (io.Reader, error) {
	sr, ok := c.readers.Get().(*snappyReader)
	if !ok {
		return &snappyReader{Reader: snappy.NewReader(r), pool: &c.readers}, nil
	}
	sr.Reset(r)
	return sr, nil
}

// snappyWriter goes back to its pool when it is closed.
type snappyWriter struct {
	*snappy.Writer
	pool *sync.Pool
}

func (w *snappyWriter) Close() error {
	defer w.pool.Put(w)
	return w.Writer.Close()
}

// snappyReader goes back to its pool when it has been read to the end.
type snappyReader struct {
	*snappy.Reader
	pool *sync.Pool
}

func (r *snappyReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		r.pool.Put(r)
	}
	return n, err
}

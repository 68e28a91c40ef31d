package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/muster-metrics/muster/ingest/wire"
)

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

// decode decompresses a body once the bytes that it becomes are admitted, laid
// out too.
// What it gives may be the body itself. release gives the admission back; it
// is never nil.
//
// How many bytes a body becomes is what it says of itself. That may be wrong, or
// be left out; then it is admitted anew for the most that it may become.
func (i *Ingester) decode(ctx context.Context, m message, body *buffer) (plain *buffer, release func(), err error) {
	none := func() {}
	c, room, most, err := roomFor(m.compression, body.b, i.cfg.MaxDecodedBytes)
	if err != nil {
		return nil, none, err
	}
	for {
		release, ok := i.admission.work(ctx, room+m.form.frames(room))
		if !ok {
			return nil, none, errOverloaded
		}
		plain, err = decompress(c, body, int(room))
		if err == nil {
			return plain, release, nil
		}
		release()
		switch {
		case !errors.Is(err, errLonger):
			return nil, none, fmt.Errorf("%w: %w", wire.ErrFraming, err)
		case room >= most:
			return nil, none, tooLarge("decoded body", most)
		}
		room = most
	}
}

func tooLarge(what string, limit int64) error {
	return refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("%s is larger than %d bytes", what, limit)}
}

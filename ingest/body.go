package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

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
		err = bodyError(err)
	}
	if err != nil {
		buf.release()
		return nil, err
	}
	return buf, nil
}

// bodyError judges why a body did not come: one that is slow is worth another
// try, and so is one that there was no room for.
func bodyError(err error) error {
	switch {
	case errors.Is(err, errOverloaded):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refusal{http.StatusServiceUnavailable, "body: it did not come in time"}
	default:
		return refusal{http.StatusBadRequest, "body: " + err.Error()}
	}
}

// expect gives a body its time to come: a sender that trickles must not hold on
// to its room. Lift takes that back once all of it has come. Where it has not, the
// server still wants to read the rest before it answers, and has no more time.
func (i *Ingester) expect(w http.ResponseWriter) (lift func()) {
	c := http.NewResponseController(w)
	if c.SetReadDeadline(time.Now().Add(i.cfg.BodyTimeout)) != nil {
		return func() {} // no connection, as in tests
	}
	return func() { _ = c.SetReadDeadline(time.Time{}) }
}

// body reads a body once it is admitted: for the length that its sender says or,
// where it says none, a piece at a time as it comes.
func (i *Ingester) body(r *http.Request, tenant string, limit int64) (body *buffer, release func(), err error) {
	p := &pieces{from: r.Body, left: r.ContentLength, most: limit}
	if r.ContentLength < 0 {
		p.left = min(pieceBytes, limit)
		p.more = func(n int64) (func(), error) { return i.admission.moreBody(tenant, n) }
	}
	leave, err := i.admission.body(r.Context(), tenant, p.left)
	if err != nil {
		return nil, nil, err
	}
	p.most -= p.left
	p.leave = append(p.leave, leave)
	if body, err = readBody(p, r.ContentLength, limit); err != nil {
		p.release()
		return nil, nil, err
	}
	return body, p.release, nil
}

// pieceBytes is how much more of a body of unknown length is admitted at a time.
const pieceBytes = 1 << 20

// pieces reads a body, and admits it as it comes where its length is unknown.
type pieces struct {
	from  io.Reader
	left  int64 // admitted, and not yet come
	most  int64 // that may be admitted still; what comes after that is too long
	more  func(n int64) (release func(), err error)
	leave []func()
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.more == nil || (p.left == 0 && p.most == 0) {
		return p.from.Read(b)
	}
	if p.left == 0 {
		n := min(pieceBytes, p.most)
		leave, err := p.more(n)
		if err != nil {
			return 0, err
		}
		p.left, p.most = n, p.most-n
		p.leave = append(p.leave, leave)
	}
	n, err := p.from.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	return n, err
}

func (p *pieces) release() {
	for _, leave := range p.leave {
		leave()
	}
}

// decode decompresses a body once the bytes that it becomes are admitted, laid
// out too.
// What it gives may be the body itself. release gives the admission back; it
// is never nil.
//
// How many bytes a body becomes is what it says of itself. That may be wrong, or
// be left out; then it is admitted anew for the most that it may become.
func (i *Ingester) decode(ctx context.Context, tenant string, m message, body *buffer) (plain *buffer, release func(), err error) {
	none := func() {}
	c, room, most, err := roomFor(m.compression, body.b, i.cfg.MaxDecodedBytes)
	if err != nil {
		return nil, none, err
	}
	for {
		release, err := i.admission.work(ctx, tenant, room+m.form.frames(room))
		if err != nil {
			return nil, none, err
		}
		turn, err := i.admission.turn(ctx, tenant)
		if err != nil {
			release()
			return nil, none, err
		}
		plain, err = decompress(c, body, int(room))
		turn()
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

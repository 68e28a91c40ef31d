package admin

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"time"
)

// requestHeader carries the id of a change: 32 hex digits, or a UUID. Whoever
// does not know what became of a change asks again with its id: the change is
// made once, and the answer is the first one's, for ten minutes. An id is made
// for a request that has none; the answer shows it.
const requestHeader = "Muster-Request-Id"

// asking is what makes two requests the same one.
type asking struct {
	id     []byte
	digest uint64
}

type askingKey struct{}

// askingOf reads the request's id and its whole body, which can be read again
// afterwards.
func askingOf(w http.ResponseWriter, r *http.Request) (asking, *http.Request, error) {
	var a asking
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return a, r, bodyError(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if a.id, err = requestID(r.Header.Get(requestHeader)); err != nil {
		return a, r, err
	}
	a.digest = digestOf(r, body)
	return a, r.WithContext(context.WithValue(r.Context(), askingKey{}, a)), nil
}

func requestID(text string) ([]byte, error) {
	const size = 16
	if text == "" {
		id := make([]byte, size)
		_, _ = rand.Read(id) // never fails
		return id, nil
	}
	id, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(id) != size {
		return nil, bad(requestHeader, "%s %q: want 32 hex digits, or a UUID", requestHeader, cut(text))
	}
	return id, nil
}

// digestOf is of all that says what a request asks for, never 0. How long it
// waits is no part of that.
func digestOf(r *http.Request, body []byte) uint64 {
	q := r.URL.Query()
	q.Del("timeout")
	h := sha256.New()
	for _, part := range []string{r.Method, r.URL.EscapedPath(), q.Encode(), r.Header.Get("If-Match"), r.Header.Get("If-None-Match"), string(body)} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	return binary.BigEndian.Uint64(h.Sum(nil)) | 1
}

// secrets gives the random bytes of a secret that is made for this request: the
// same ones where it is asked again of this process, so that the answer shows
// the secret that was kept.
func (a *api) secrets(r *http.Request) io.Reader {
	ask, ok := r.Context().Value(askingKey{}).(asking)
	if !ok {
		return rand.Reader
	}
	return &stream{key: a.key, seed: binary.BigEndian.AppendUint64(bytes.Clone(ask.id), ask.digest)}
}

// stream is HMAC-SHA256 under a key that never leaves the process, over a
// counter.
type stream struct {
	key, seed []byte
	blocks    uint64
	rest      []byte
}

func (s *stream) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		if len(s.rest) == 0 {
			h := hmac.New(sha256.New, s.key)
			h.Write(s.seed)
			h.Write(binary.BigEndian.AppendUint64(nil, s.blocks))
			s.blocks++
			s.rest = h.Sum(nil)
		}
		k := copy(p[n:], s.rest)
		s.rest = s.rest[k:]
		n += k
	}
	return len(p), nil
}

// maxTimeout bounds how long a change may be waited for.
const maxTimeout = 2 * time.Minute

// timeoutOf is how long a change waits for a leader, at most: `?timeout=`, else
// what the node was told.
func (a *api) timeoutOf(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("timeout")
	if text == "" {
		return a.cfg.ChangeTimeout, nil
	}
	s := span(text)
	ms, err := (&s).milliseconds("timeout")
	if err != nil {
		return 0, err
	}
	d := time.Duration(*ms) * time.Millisecond
	if d <= 0 || d > maxTimeout {
		return 0, bad("timeout", "timeout %q: want more than 0 and at most %v", cut(text), maxTimeout)
	}
	return d, nil
}

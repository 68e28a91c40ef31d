package ingest

import (
	"bytes"
	"context"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-metrics/muster/ingest/otlp"
	"github.com/muster-metrics/muster/ingest/wire"
)

// export is one OTLP request: a write like any other, but for its body and its
// answer. The answer is written to it as to anybody, and goes on in the form
// that OTLP has for it. Its senders do not tell when they send something again,
// so each request is taken for a repeat: samples in order cost nothing by that,
// and the others are read back before they are stored a second time.
type export struct {
	to       http.ResponseWriter
	warnings *prometheus.CounterVec
	media    string // of the body, and so of the answer
	points   *otlp.Points
	rejected int // data points of which some sample can never be stored

	status int
	text   bytes.Buffer
}

const (
	mediaProtobuf = "application/x-protobuf"
	mediaJSON     = "application/json"
)

func (e *export) json() bool { return e.media == mediaJSON }

// message says what a body is, or refuses (415) what is not taken and names what
// is. A body whose compression is not named is not compressed.
func (e *export) message(h http.Header) (message, error) {
	m := message{form: otlpMetrics, export: e}
	v := h.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(v)
	if err != nil || kind != mediaProtobuf && kind != mediaJSON {
		return m, unsupported("content type %q: want %s or %s", v, mediaProtobuf, mediaJSON)
	}
	e.media = kind
	named := strings.ToLower(strings.TrimSpace(strings.Join(h.Values("Content-Encoding"), ", ")))
	switch m.compression = compressions[named]; m.compression {
	case gzipped, zstandard, identity:
		return m, nil
	case unnamed:
		if named == "" {
			m.compression = identity
			return m, nil
		}
	}
	return m, unsupported("content encoding %q: want gzip, zstd or none", named)
}

// lay lays out the data points of a decompressed body, once there is room for
// what it becomes on the way.
func (e *export) lay(ctx context.Context, body []byte, lim wire.Limits, b *wire.Batch) error {
	size, err := otlp.Measure(body, e.json())
	if err != nil {
		return err
	}
	if _, err := lim.More(int(size)); err != nil {
		return err
	}
	points, warnings, err := otlp.Lay(ctx, body, e.json(), lim, b)
	if err != nil {
		return err
	}
	e.points = points
	for category, n := range warnings {
		e.warnings.WithLabelValues(category).Add(float64(n))
	}
	return nil
}

// answer turns the answer to a write that has been carried out into OTLP's: 200
// where some data point is stored whole, and nothing is to be sent again.
func (e *export) answer(out *report, status int, text string) (int, string) {
	switch status {
	case http.StatusNoContent:
		return http.StatusOK, ""
	case http.StatusBadRequest:
	default:
		return status, text
	}
	out.refused(e.points.Refuse)
	rejected := e.points.Rejected()
	_, reasons, _ := strings.Cut(text, "\n")
	text = fmt.Sprintf("%d of %d data points rejected; samples by reason:\n%s", rejected, e.points.Total, reasons)
	if rejected > 0 && rejected == e.points.Total {
		return status, text
	}
	e.rejected = rejected
	return http.StatusOK, text
}

// Unwrap lets the body's time be bounded.
func (e *export) Unwrap() http.ResponseWriter { return e.to }

// Header is the answer's.
func (e *export) Header() http.Header { return e.to.Header() }

// WriteHeader keeps the status for end.
func (e *export) WriteHeader(status int) { e.status = status }

// Write keeps the text for end.
func (e *export) Write(b []byte) (int, error) { return e.text.Write(b) }

// end gives the answer. Who sent what is no OTLP gets it as text.
func (e *export) end() {
	h := e.to.Header()
	body := e.text.Bytes()
	if e.media != "" {
		text := strings.TrimSuffix(e.text.String(), "\n")
		var err error
		if e.status == http.StatusOK {
			body, err = otlp.Stored(e.json(), e.rejected, text)
		} else {
			body, err = otlp.Failed(e.json(), again(e.status), text)
		}
		if err != nil { // a text that is no UTF-8, as no answer's is
			body = nil
		}
		h.Set("Content-Type", e.media)
		h.Del("X-Content-Type-Options")
	}
	e.to.WriteHeader(e.status)
	_, _ = e.to.Write(body) // a sender that is gone needs no answer
}

// again says whether a request so answered may be sent again.
func again(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

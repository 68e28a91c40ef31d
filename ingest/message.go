package ingest

import (
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/muster-metrics/muster/ingest/wire"
)

// message is what a request's headers say of its body.
type message struct {
	form        form
	compression compression
	export      *export // nil: it is no OTLP request
}

// form is the protobuf message that a body is, once decompressed.
type form uint8

const (
	remoteWrite1 form = iota // prometheus.WriteRequest
	remoteWrite2             // io.prometheus.write.v2.Request
	otlpMetrics              // opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest
)

var forms = map[string]form{
	"": remoteWrite1, "prometheus.WriteRequest": remoteWrite1, "io.prometheus.write.v2.Request": remoteWrite2,
}

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

var compressions = map[string]compression{
	"": unnamed, "identity": identity, "snappy": snappyBlock, "gzip": gzipped, "zstd": zstandard,
}

// messageOf says what a body is, or refuses (415) what is not taken and names
// what is. Prometheus takes a missing content type for remote write 1.0, and so
// do we.
func messageOf(h http.Header) (message, error) {
	var m message
	if v := h.Get("Content-Type"); v != "" {
		kind, params, err := mime.ParseMediaType(v)
		if err != nil || kind != "application/x-protobuf" {
			return m, unsupported("content type %q: want application/x-protobuf", v)
		}
		var ok bool
		if m.form, ok = forms[params["proto"]]; !ok {
			return m, unsupported("message %q: want prometheus.WriteRequest or io.prometheus.write.v2.Request", params["proto"])
		}
	}
	named := strings.Join(h.Values("Content-Encoding"), ", ")
	var ok bool
	if m.compression, ok = compressions[strings.ToLower(strings.TrimSpace(named))]; !ok {
		return m, unsupported("content encoding %q: want snappy, zstd, gzip or identity", named)
	}
	if m.form == remoteWrite2 && m.compression != snappyBlock && m.compression != unnamed {
		return m, unsupported("content encoding %q: want snappy with remote write 2.0", named)
	}
	return m, m.form.checkVersion(h.Get("X-Prometheus-Remote-Write-Version"))
}

// checkVersion refuses a version that is not the message's; senders of 1.0 need
// not tell one.
func (f form) checkVersion(v string) error {
	major, _, _ := strings.Cut(v, ".")
	switch {
	case v == "":
		return nil
	case f == remoteWrite1 && major != "0" && major != "1":
		return unsupported("remote write version %q: want 0.1.0 with prometheus.WriteRequest", v)
	case f == remoteWrite2 && major != "2":
		return unsupported("remote write version %q: want 2.0.0 with io.prometheus.write.v2.Request", v)
	}
	return nil
}

// written tells a sender of remote write 2.0 how much of what it sent is held
// by a quorum; it takes an answer that does not tell for one of another protocol.
func (f form) written(h http.Header, samples, histograms, exemplars int) {
	if f != remoteWrite2 {
		return
	}
	h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(samples))
	h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(histograms))
	h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(exemplars))
}

// walk lays out the series of a decompressed body.
func (f form) walk(body []byte, lim wire.Limits, b *wire.Batch) error {
	if f == remoteWrite2 {
		return wire.WalkV2(body, lim, b)
	}
	return wire.WalkV1(body, lim, b)
}

// frames is about the bytes that the series of a body take, laid out: as many as
// in 1.0, where each series brings its labels, and usually a few times as many
// as in 2.0, where it refers to them, or in OTLP, where a histogram is one data
// point.
func (f form) frames(body int64) int64 {
	if f == remoteWrite1 {
		return body + body/16
	}
	return 4 * body
}

func unsupported(format string, args ...any) error {
	return refusal{http.StatusUnsupportedMediaType, fmt.Sprintf(format, args...)}
}

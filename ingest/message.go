package ingest

import (
	"fmt"
	"mime"
	"net/http"
	"strings"
)

// message is what a request's headers say of its body.
type message struct {
	form        form
	compression compression
}

// form is the protobuf message that a body is, once decompressed.
type form uint8

const (
	remoteWrite1 form = iota // prometheus.WriteRequest
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
		if p := params["proto"]; p != "" && p != "prometheus.WriteRequest" {
			return m, unsupported("message %q: want prometheus.WriteRequest", p)
		}
	}
	named := strings.Join(h.Values("Content-Encoding"), ", ")
	var ok bool
	if m.compression, ok = compressions[strings.ToLower(strings.TrimSpace(named))]; !ok {
		return m, unsupported("content encoding %q: want snappy, zstd, gzip or identity", named)
	}
	if v := h.Get("X-Prometheus-Remote-Write-Version"); v != "" && !strings.HasPrefix(v, "0.") && !strings.HasPrefix(v, "1.") && v != "1" {
		return m, unsupported("remote write version %q: want 1.0 (0.1.0)", v)
	}
	return m, nil
}

func unsupported(format string, args ...any) error {
	return refusal{http.StatusUnsupportedMediaType, fmt.Sprintf(format, args...)}
}

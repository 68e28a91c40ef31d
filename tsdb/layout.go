package tsdb

import (
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// castable says that the canonical form is what labels.Labels is in memory, so
// that a view of the bytes will do. Where Prometheus is built with another
// layout, or ever changes it, labels are built from the bytes instead.
var castable = castWorks()

func castWorks() bool {
	if labels.ImplementationName != "stringlabels" || unsafe.Sizeof(labels.Labels{}) != unsafe.Sizeof("") {
		return false
	}
	long := strings.Repeat("v", 300) // past the one-byte length
	laid := appendPair(appendPair(nil, model.MetricNameLabel, "m"), "x", long)
	b := labels.NewScratchBuilder(2)
	b.Add(model.MetricNameLabel, "m")
	b.Add("x", long)
	built, cast := b.Labels(), castLabels(laid)
	return labels.Equal(built, cast) && built.Hash() == cast.Hash() && cast.Get("x") == long
}

// castLabels is a view: valid as long as raw is, and not changed.
func castLabels(raw []byte) labels.Labels {
	s := unsafe.String(unsafe.SliceData(raw), len(raw))
	return *(*labels.Labels)(unsafe.Pointer(&s))
}

// viewLabels gives the labels laid out in raw, perhaps as a view of it. They may
// be compared and hashed; only canonical ones may be taken apart.
func viewLabels(raw []byte) labels.Labels {
	if castable {
		return castLabels(raw)
	}
	return buildLabels(raw)
}

// keepLabels gives labels that the TSDB may keep; ok is false unless raw is
// canonical. The check is made for new series only: a known one is found by
// comparing all its bytes.
func keepLabels(raw string) (ls labels.Labels, ok bool) {
	if !canonical(raw) {
		return labels.EmptyLabels(), false
	}
	return viewString(raw), true
}

// viewString is viewLabels of a string.
func viewString(raw string) labels.Labels {
	return viewLabels(unsafe.Slice(unsafe.StringData(raw), len(raw)))
}

func buildLabels(raw []byte) labels.Labels {
	b := labels.NewScratchBuilder(16)
	rest := string(raw)
	for rest != "" {
		name, tail, ok := cutString(rest)
		if !ok {
			return labels.EmptyLabels()
		}
		value, tail, ok := cutString(tail)
		if !ok {
			return labels.EmptyLabels()
		}
		b.Add(name, value)
		rest = tail
	}
	return b.Labels()
}

// canonical reports whether raw is a sequence of (name, value) with ascending
// names, nothing empty, all UTF-8, and at least one pair.
func canonical(raw string) bool {
	last := ""
	for rest := raw; rest != ""; {
		name, tail, ok := cutString(rest)
		if !ok || name <= last || !utf8.ValidString(name) {
			return false
		}
		value, tail, ok := cutString(tail)
		if !ok || value == "" || !utf8.ValidString(value) {
			return false
		}
		last, rest = name, tail
	}
	return raw != ""
}

// cutString takes one string with its length from the front of s.
func cutString(s string) (head, tail string, ok bool) {
	if s == "" {
		return "", "", false
	}
	n, at := int(s[0]), 1
	if n == 255 {
		if len(s) < 4 {
			return "", "", false
		}
		n, at = int(s[1])|int(s[2])<<8|int(s[3])<<16, 4
		if n < 255 {
			return "", "", false // a second spelling of a short length
		}
	}
	if len(s)-at < n {
		return "", "", false
	}
	return s[at : at+n], s[at+n:], true
}

// appendPair lays out one label.
func appendPair(dst []byte, name, value string) []byte {
	return appendString(appendString(dst, name), value)
}

func appendString(dst []byte, s string) []byte {
	if n := len(s); n < 255 {
		dst = append(dst, byte(n))
	} else {
		dst = append(dst, 255, byte(n), byte(n>>8), byte(n>>16))
	}
	return append(dst, s...)
}

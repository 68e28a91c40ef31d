package prom

import (
	"errors"

	"github.com/prometheus/prometheus/model/labels"
)

// Label sets travel in their canonical form: for each label its name and its
// value, each behind its length, which is one byte, or 255 and three bytes,
// little end first. ingest sends and tsdb keeps the same bytes.

const longLength = 255

var errLabels = errors.New("malformed label bytes")

func labelBytes(ls labels.Labels) []byte {
	dst := make([]byte, 0, ls.ByteSize())
	ls.Range(func(l labels.Label) {
		dst = appendString(dst, l.Name)
		dst = appendString(dst, l.Value)
	})
	return dst
}

func appendString(dst []byte, s string) []byte {
	if n := len(s); n < longLength {
		dst = append(dst, byte(n))
	} else {
		dst = append(dst, longLength, byte(n), byte(n>>8), byte(n>>16))
	}
	return append(dst, s...)
}

// labelsOf reads canonical bytes. It copies them: b may be used again.
func labelsOf(b []byte, scratch *labels.ScratchBuilder) (labels.Labels, error) {
	scratch.Reset()
	before := ""
	for rest := string(b); len(rest) > 0; {
		name, tail, ok := cutString(rest)
		if !ok {
			return labels.EmptyLabels(), errLabels
		}
		value, tail, ok := cutString(tail)
		if !ok || name <= before {
			return labels.EmptyLabels(), errLabels
		}
		scratch.Add(name, value)
		before, rest = name, tail
	}
	return scratch.Labels(), nil
}

func cutString(s string) (first, rest string, ok bool) {
	if len(s) == 0 {
		return "", "", false
	}
	n, at := int(s[0]), 1
	if n == longLength {
		if len(s) < 4 {
			return "", "", false
		}
		n, at = int(s[1])|int(s[2])<<8|int(s[3])<<16, 4
	}
	if len(s)-at < n {
		return "", "", false
	}
	return s[at : at+n], s[at+n:], true
}

package wire

import (
	"encoding/binary"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxString is the longest name or value that the layout has lengths for.
const maxString = 1<<24 - 1

// appendString lays out one name or value.
func appendString(dst, s []byte) []byte {
	n := len(s)
	if n < 255 {
		dst = append(dst, byte(n))
	} else {
		dst = append(dst, 255, byte(n), byte(n>>8), byte(n>>16))
	}
	return append(dst, s...)
}

// nextString takes one name or value off the front; false: it is cut.
func nextString(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, nil, false
	}
	n, head := int(b[0]), 1
	if n == 255 {
		if len(b) < 4 {
			return nil, nil, false
		}
		n, head = int(b[1])|int(b[2])<<8|int(b[3])<<16, 4
	}
	if n > len(b)-head {
		return nil, nil, false
	}
	return b[head : head+n], b[head+n:], true
}

// WellFormed says whether label bytes end where their lengths say, so that
// reading them as labels.Labels cannot go astray.
func WellFormed(labels []byte) bool {
	strings, at := 0, 0
	for at < len(labels) {
		n := int(labels[at])
		at++
		if n == 255 {
			if len(labels)-at < 3 {
				return false
			}
			n = int(labels[at]) | int(labels[at+1])<<8 | int(labels[at+2])<<16
			at += 3
		}
		at += n
		strings++
	}
	return at == len(labels) && strings&1 == 0
}

// ascii says whether no byte has its high bit set.
func ascii(b []byte) bool {
	var or uint64
	for len(b) >= 8 {
		or |= binary.LittleEndian.Uint64(b)
		b = b[8:]
	}
	for _, c := range b {
		or |= uint64(c)
	}
	return or&0x8080808080808080 == 0
}

// validUTF8 says whether each name and value is valid UTF-8.
func validUTF8(labels []byte) bool {
	if ascii(labels) {
		return true
	}
	for len(labels) > 0 {
		s, rest, ok := nextString(labels)
		if !ok || !utf8.Valid(s) {
			return false
		}
		labels = rest
	}
	return true
}

// textBytes bounds how much of a series an answer shows.
const textBytes = 300

// Text shows label bytes to a person, as PromQL writes them, shortened.
func Text(labels []byte) string {
	var t text
	for len(labels) > 0 {
		name, rest, ok := nextString(labels)
		if !ok {
			break
		}
		value, rest, ok := nextString(rest)
		if !ok || !t.label(name, value) {
			break
		}
		labels = rest
	}
	return t.String()
}

// text writes a label set for a person.
type text struct {
	b    strings.Builder
	full bool
}

// label adds one label; false: no more of them is wanted.
func (t *text) label(name, value []byte) bool {
	if t.b.Len() == 0 {
		t.b.WriteByte('{')
	} else {
		t.b.WriteString(", ")
	}
	if t.b.Len() > textBytes {
		t.full = true
		return false
	}
	t.b.WriteString(quotedName(short(name)))
	t.b.WriteByte('=')
	t.b.WriteString(strconv.Quote(short(value)))
	return true
}

func (t *text) String() string {
	if t.b.Len() == 0 {
		return "{}"
	}
	if t.full {
		t.b.WriteString("…")
	}
	return t.b.String() + "}"
}

func short(s []byte) string {
	const most = 80
	if len(s) > most {
		return string(s[:most]) + "…"
	}
	return string(s)
}

// quotedName writes a plain name as it is and any other in quotes.
func quotedName(name string) string {
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return strconv.Quote(name)
		}
	}
	if name == "" {
		return `""`
	}
	return name
}

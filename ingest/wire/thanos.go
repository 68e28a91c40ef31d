package wire

import "slices"

// ThanosPart is what a Thanos router forwards for one tenant.
type ThanosPart struct {
	Tenant string
	// Body is a message of remote write 1.0 with its series, aliasing the message.
	Body []byte
}

// Thanos takes a message of thanos.WriteableStore apart: series and a tenant beside
// each other, as releases up to 0.42 send them, or a list of such pairs, as later
// ones do; or both. replica says which copy of the sender's it is, 0: it makes
// none. Parts without series are left out. It fails with ErrFraming.
func Thanos(message []byte) (parts []ThanosPart, replica int64, err error) {
	var alone ThanosPart
	spans := spans{in: message}
	f := fields{b: message, end: len(message)}
	for {
		begin := len(message) - len(f.b)
		if !f.next() {
			break
		}
		wants := wireBytes
		if f.number == 3 {
			wants = wireVarint
		}
		if f.number <= 4 && !f.is(wants) {
			break
		}
		switch f.number {
		case 1:
			spans.add(begin, len(message)-len(f.b))
		case 2:
			alone.Tenant = string(f.bytes)
		case 3:
			replica = int64(f.value)
		case 4:
			part, err := thanosTuple(f.sub())
			if err != nil {
				return nil, 0, err
			}
			if len(part.Body) > 0 {
				parts = append(parts, part)
			}
		}
	}
	if alone.Body = spans.bytes(); len(alone.Body) > 0 {
		parts = append(parts, alone)
	}
	return parts, replica, f.err
}

func thanosTuple(f fields) (ThanosPart, error) {
	var part ThanosPart
	all := f.b
	spans := spans{in: all}
	for {
		begin := len(all) - len(f.b)
		if !f.next() {
			break
		}
		if f.number <= 2 && !f.is(wireBytes) {
			break
		}
		switch f.number {
		case 1:
			spans.add(begin, len(all)-len(f.b))
		case 2:
			part.Tenant = string(f.bytes)
		}
	}
	part.Body = spans.bytes()
	return part, f.err
}

// spans gathers fields of a message that nearly always follow each other: then
// nothing is copied.
type spans struct {
	in         []byte
	begin, end int
	copied     []byte
}

func (s *spans) add(begin, end int) {
	switch {
	case s.end == 0:
		s.begin, s.end = begin, end
	case s.copied == nil && begin == s.end:
		s.end = end
	default:
		if s.copied == nil {
			s.copied = slices.Clone(s.in[s.begin:s.end])
		}
		s.copied = append(s.copied, s.in[begin:end]...)
	}
}

func (s *spans) bytes() []byte {
	if s.copied != nil {
		return s.copied
	}
	return s.in[s.begin:s.end:s.end]
}

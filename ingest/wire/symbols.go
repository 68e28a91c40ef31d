package wire

// symbols is the table of a remote write 2.0 request: its strings, as places in
// the body, so that none is copied before a series needs it.
type symbols struct {
	body []byte
	at   []uint32 // where the length of each begins, and the string follows
	// ascii: no byte of any has its high bit set.
	ascii bool
}

// keptSymbols is how much room for the places of symbols a batch keeps.
const keptSymbols = 1 << 16

func (s *symbols) kept() []uint32 {
	if cap(s.at) > keptSymbols {
		return nil
	}
	return s.at[:0]
}

// add takes the symbol whose length begins at a place of the body.
func (s *symbols) add(at int) error {
	s.at = append(s.at, uint32(at))
	text := s.get(uint32(len(s.at) - 1))
	if len(s.at) == 1 && len(text) > 0 {
		return malformed(at, "the first symbol is not the empty string")
	}
	s.ascii = s.ascii && ascii(text)
	return nil
}

// get is the symbol of a reference that is in range.
func (s *symbols) get(ref uint32) []byte {
	b := s.body[s.at[ref]:]
	if n := b[0]; n < 0x80 {
		return b[1 : 1+n : 1+n]
	}
	f := fields{b: b} // it has been read before, and is whole
	text, _ := f.span()
	return text
}

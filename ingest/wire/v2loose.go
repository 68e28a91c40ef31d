package wire

// looseV2 lays out a series that fastV2 gave up on, as loose does with one of
// 1.0.
func (w *walker) looseV2(f fields) error {
	b := w.b
	b.clearSeries()
	refs := pairs{b: b}
	var meta []byte
	for f.next() {
		if f.number > 5 {
			continue
		}
		if f.number == 1 {
			if !refs.field(&f) {
				return f.err
			}
			continue
		}
		if !f.is(wireBytes) {
			return f.err
		}
		switch f.number {
		case 2:
			if err := w.loosePoint(f.sub()); err != nil {
				return err
			}
		case 3:
			if err := w.looseHistogram(f.sub()); err != nil {
				return err
			}
		case 4:
			if err := w.looseExemplar(f.sub()); err != nil {
				return err
			}
		case 5:
			meta = f.bytes
		}
	}
	if f.err != nil {
		return f.err
	}
	if refs.count%2 != 0 {
		return malformed(f.end, "%d references to symbols, want pairs,", refs.count)
	}
	b.received += b.collected()
	w.work += refs.size
	if refs.size > MaxLabelBytes {
		b.Refused.add(LabelsTooLong, b.collected(), w.show)
		b.LeftOut.add(LabelsTooLong, len(b.examples), w.show)
		return nil
	}
	w.judge()
	return w.looseMetadata(meta, f.end)
}

// pairs turns references into labels.
type pairs struct {
	b     *Batch
	count int
	name  []byte
	size  int // of the labels, laid out
}

// field takes the references of a field, one or many.
func (p *pairs) field(f *fields) bool {
	if f.wire == wireVarint {
		return p.add(f, uint32(f.value))
	}
	if !f.is(wireBytes) {
		return false
	}
	for in := f.sub(); len(in.b) > 0; {
		ref, ok := in.varint()
		if !ok || !p.add(&in, uint32(ref)) {
			f.err = in.err
			return false
		}
	}
	return true
}

func (p *pairs) add(f *fields, ref uint32) bool {
	s := &p.b.symbols
	if uint64(ref) >= uint64(len(s.at)) {
		f.err = malformed(f.end-len(f.b), "symbol %d of %d", ref, len(s.at))
		return false
	}
	text := s.get(ref)
	if p.count++; p.count%2 == 1 {
		p.name = text
		return true
	}
	// One too many, or too long, is enough to refuse the series.
	if b := p.b; len(b.labels) <= maxLabels && p.size <= MaxLabelBytes {
		b.labels = append(b.labels, label{p.name, text})
		p.size += laidOut(p.name) + laidOut(text)
	}
	return true
}

package ring

// LeftBy gives the slots whose samples st does not get any more: it is no replica
// of them now, every epoch in which it was is closed, and it has itself announced
// the last change, so that none of its own shares is on the way. The closing alone
// says less: it needs some of the replicas, and st may not be among them.
//
// announced is the newest revision below which st has no share in flight. A slot
// that st never held is among them.
func (t *Table) LeftBy(st Store, announced uint64) Held {
	h := Held{store: st, bits: make([]uint64, (len(t.slots)+63)/64)}
	for i := range t.slots {
		s := &t.slots[i]
		// An epoch that has expired was closed, and ended at s.Changed at the latest.
		if !s.Replicas.Has(st) && s.Changed <= announced {
			h.bits[i/64] |= 1 << (i % 64)
		}
		h.newest = max(h.newest, s.Changed)
	}
	for i := range t.past {
		if e := &t.past[i]; e.Closed == 0 && e.Replicas.Has(st) {
			h.bits[e.Slot/64] &^= 1 << (e.Slot % 64)
		}
	}
	return h
}

// Within says whether o has every slot that h has.
func (h Held) Within(o Held) bool {
	for i, b := range h.bits {
		if i >= len(o.bits) && b != 0 || i < len(o.bits) && b&^o.bits[i] != 0 {
			return false
		}
	}
	return true
}

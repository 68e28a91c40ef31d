package ring

// Held is the slots that one store holds, a bit for each: a receiver that looks
// at every series of a share finds it in the processor's nearest cache, where
// the table is not.
type Held struct {
	store  Store
	bits   []uint64
	newest uint64
}

// HeldBy gives the slots of the table that st holds.
func (t *Table) HeldBy(st Store) Held {
	h := Held{store: st, bits: make([]uint64, (len(t.slots)+63)/64)}
	for i := range t.slots {
		if t.slots[i].Replicas.Has(st) {
			h.bits[i/64] |= 1 << (i % 64)
		}
		h.newest = max(h.newest, t.slots[i].Changed)
	}
	return h
}

// Store is whose slots they are.
func (h Held) Store() Store { return h.store }

// Newest is the revision of the newest change of any slot of the table.
func (h Held) Newest() uint64 { return h.newest }

// Has says whether the slot is held. Together with a sender that has seen
// Newest it is what Holding.Admits says.
func (h Held) Has(slot int) bool {
	return uint(slot/64) < uint(len(h.bits)) && h.bits[slot/64]&(1<<(slot%64)) != 0
}

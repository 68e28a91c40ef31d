package ring

import "slices"

// Epoch is an ended period in which a slot had one replica set and one quorum.
type Epoch struct {
	Slot     int
	Replicas Set
	Quorum   int
	// From and To are the revisions at which it began and the next one began.
	From, To uint64
	// Begin and End are the times of these revisions, Unix milliseconds.
	Begin, End int64
	// Closed is the revision that says that no write can begin in it; 0: open.
	Closed uint64
	// ClosedAt is the time of Closed, at or after End.
	ClosedAt int64
}

// lastWrite is the time after which no write begins in the epoch. It is not
// End: a sender and a quorum that have not heard of the change acknowledge
// samples of any later time, until the epoch is closed.
func (e Epoch) lastWrite() int64 {
	if e.Closed == 0 {
		return endOfTime
	}
	return max(e.End, e.ClosedAt)
}

// EpochKey names an ended epoch of a table.
type EpochKey struct {
	Slot int
	To   uint64
}

// Closable says whether no write can begin in the epoch any more: enough
// replicas have announced To or later that every quorum contains one of them,
// or every replica that is not lost has. announced is the newest revision
// below which a store has no share in flight; 0 where it is not known.
func (e Epoch) Closable(announced func(Store) uint64, lost func(Store) bool) bool {
	need := Witnesses(e.Replicas.Len(), e.Quorum)
	have, open := 0, 0
	for i := range e.Replicas.Len() {
		st := e.Replicas.At(i)
		switch {
		case lost(st):
		case announced(st) >= e.To:
			have++
		default:
			open++
		}
	}
	return have >= need || open == 0
}

// Passed says whether no write can begin in the table any more whose sender, or
// enough of whose receivers, had not seen revision rev. It closes what ends for
// the whole table at once, as the period of a tenant's route does.
func (t *Table) Passed(rev uint64, announced func(Store) uint64, lost func(Store) bool) bool {
	for i := range t.groups {
		g := &t.groups[i]
		if g.End == endOfTime && !(Epoch{Replicas: g.Replicas, Quorum: g.Quorum, To: rev}).Closable(announced, lost) {
			return false
		}
	}
	return true
}

// Open are the ended epochs that are not closed yet.
func (t *Table) Open() []Epoch {
	var open []Epoch
	for _, e := range t.past {
		if e.Closed == 0 {
			open = append(open, e)
		}
	}
	return open
}

// Settled says whether every ended epoch of the slot is closed, so that the
// slot may move again.
func (t *Table) Settled(slot int) bool {
	i, _ := slices.BinarySearchFunc(t.past, slot, func(e Epoch, s int) int { return e.Slot - s })
	for ; i < len(t.past) && t.past[i].Slot == slot; i++ {
		if t.past[i].Closed == 0 {
			return false
		}
	}
	return true
}

// Close closes ended epochs at revision rev and time now. Keys that name no
// open epoch are left out: a leader may commit the same closing twice.
func (t *Table) Close(keys []EpochKey, rev uint64, now int64) *Table {
	want := make(map[EpochKey]bool, len(keys))
	for _, k := range keys {
		want[k] = true
	}
	past := slices.Clone(t.past)
	for i := range past {
		if past[i].Closed == 0 && want[EpochKey{past[i].Slot, past[i].To}] {
			// A leader's clock may be behind its predecessor's.
			past[i].Closed, past[i].ClosedAt = rev, max(now, past[i].End)
		}
	}
	out := &Table{slots: t.slots, past: past}
	out.groups = groupsOf(out)
	return out
}

// Expire drops epochs that were closed before the time before: samples may be
// as young as the closing, not as the change.
func (t *Table) Expire(before int64) *Table {
	past := make([]Epoch, 0, len(t.past))
	for _, e := range t.past {
		if e.lastWrite() >= before {
			past = append(past, e)
		}
	}
	if len(past) == len(t.past) {
		return t
	}
	out := &Table{slots: t.slots, past: past}
	out.groups = groupsOf(out)
	return out
}

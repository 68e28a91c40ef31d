package ring

import (
	"fmt"
	"slices"
)

// checkFence compares the fence with the history itself, for every sender and
// receiver: what it admits must be of the receiver's own epoch, and nothing of
// it may be refused.
func (m *model) checkFence(at *moment) error {
	for slot := range 2 {
		for seen := uint64(1); seen <= at.now(); seen++ {
			for rev := uint64(1); rev <= at.now(); rev++ {
				for st := Store(1); st <= modelNodes; st++ {
					if err := m.checkShare(at, slot, seen, rev, st); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (m *model) checkShare(at *moment, slot int, seen, rev uint64, st Store) error {
	of := at.tables[seen-1].Slot(slot)
	same := of.Replicas.Has(st)
	for r := min(seen, rev); r <= max(seen, rev); r++ {
		o := at.tables[r-1].Slot(slot)
		same = same && o.Replicas == of.Replicas && o.Quorum == of.Quorum
	}
	v := m.fence(holding(at, st, rev), claim(at, st, seen, slot), slot)
	if v == Stale && same {
		return fmt.Errorf("store %d at %d refuses a share for slot %d seen at %d, which did not change", st, rev, slot, seen)
	}
	if v == Pass && !same {
		return fmt.Errorf("store %d at %d admits a share for slot %d seen at %d, which changed", st, rev, slot, seen)
	}
	if need := at.tables[seen-1].Need(1, slot); v == Behind && rev >= need {
		return fmt.Errorf("store %d at %d waits, though it needs only %d", st, rev, need)
	}
	return nil
}

func holding(at *moment, st Store, rev uint64) Holding {
	return Holding{Self: st, Revision: rev, Incarnation: 1, Ring: 1, Routed: 1, Table: at.tables[rev-1]}
}

func claim(at *moment, st Store, seen uint64, slot int) Claim {
	return Claim{Store: st, Incarnation: 1, Ring: 1, Seen: seen, Need: at.tables[seen-1].Need(1, slot)}
}

// judge asks what an acknowledged sample was promised.
func (m *model) judge(s state) error {
	at, holders := m.moments[s.moment], m.holders(s)
	kept := holders
	for _, st := range at.lost {
		kept &^= 1 << (st - 1)
	}
	if kept == 0 && s.held != notClosed {
		// Only stores that were given up hold it, and the epoch was closed without
		// them. What was sent before that must be found all the same.
		for _, e := range at.table().Past() {
			if e.From == m.epochOf(s).Changed && uint64(s.sent) >= e.Closed {
				return nil
			}
		}
	}
	if kept != 0 && s.held != notClosed && s.held&holders == 0 {
		return fmt.Errorf("the write is acknowledged by %05b, none of which held it when the epoch closed", holders)
	}
	t, period := m.reader(at.tables), Period{int64(s.sent), int64(s.sent)}
	answered := func(st Store, _ Period) bool { return holders>>(st-1)&1 == 0 }
	if m.complete(t, period, answered) {
		return fmt.Errorf("at %d a read without %05b calls itself complete for %d", at.now(), holders, s.sent)
	}
	asked := at.table().Stores(period, 0)
	for i := range modelNodes {
		if holders>>i&1 == 1 && !slices.Contains(asked, Store(i+1)) {
			return fmt.Errorf("a read of %d does not ask store %d, which holds the sample", s.sent, i+1)
		}
	}
	return nil
}

// lettingGo asks what a store that lets the slot go was promised: that it stores
// no sample of it any more, as far as it has seen.
func (m *model) lettingGo(s state, at *moment) error {
	if m.left == nil {
		return nil
	}
	for i, life := range s.share {
		st := Store(i + 1)
		if life < admitted || s.node[i] == upToDate || int(s.node[i]) == int(life-admitted) {
			continue // it holds the slot, by what it has seen
		}
		if rev := s.node[i]; m.left(at.tables[rev-1], st, m.announced(s, at)(st)) {
			return fmt.Errorf("store %d at %d lets the slot go while a share admitted at %d is being stored", st, rev, life-admitted)
		}
	}
	return nil
}

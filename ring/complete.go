package ring

import "slices"

// group is the epochs of a table that have all but the slot in common: a read
// judges a group once, however many slots are in it.
type group struct {
	Replicas   Set
	Quorum     int
	Begin, End int64 // while a write can begin in it, End is the end of time
	slots      []int
}

const endOfTime = int64(1)<<62 - 1

// groupsOf sorts the epochs of a table into groups, in the order of their slots.
func groupsOf(t *Table) []group {
	type key struct {
		replicas   Set
		quorum     int
		begin, end int64
	}
	index := map[key]int{}
	var groups []group
	add := func(k key, slot int) {
		i, ok := index[k]
		if !ok {
			i = len(groups)
			index[k] = i
			groups = append(groups, group{k.replicas, k.quorum, k.begin, k.end, nil})
		}
		groups[i].slots = append(groups[i].slots, slot)
	}
	for i := range t.slots {
		s := &t.slots[i]
		add(key{s.Replicas, s.Quorum, s.Since, endOfTime}, i)
	}
	for _, e := range t.past {
		add(key{e.Replicas, e.Quorum, e.Begin, e.lastWrite()}, e.Slot)
	}
	return groups
}

// Period is a span of time, Unix milliseconds, both ends inclusive.
type Period struct{ Begin, End int64 }

// Touches says whether the two share a millisecond.
func (p Period) Touches(o Period) bool { return p.Begin <= o.End && o.Begin <= p.End }

// Widen is the period, longer by d milliseconds at both ends.
func (p Period) Widen(d int64) Period { return Period{p.Begin - d, p.End + d} }

// Missing is why an answer is not complete: for these slots, in this period,
// too few of the stores that may hold a sample answered for it.
type Missing struct {
	Slots  []int
	Period Period
	// Need of the replicas had to answer, Have did; Silent are the others.
	Need, Have int
	Silent     []Store
}

// Complete says what an answer over the period lacks; nothing: it is complete.
// answered says whether a store answered, has replayed its log, and declares
// no gap in the given period. slack, in milliseconds, is how far a sample's
// time may lie from the time at which it was written: the largest windows that
// any tenant had since, plus clocks and the way.
//
// The table must have been the committed one at some moment after the read
// began, known by a Barrier; the answers may be older than that Barrier, but not
// older than the read. A table that is merely the newest this node has seen may
// lack an epoch in which others already acknowledge writes, and no set of
// answers from the replicas it does know can rule that out.
func (t *Table) Complete(period Period, slack int64, answered func(Store, Period) bool) []Missing {
	var missing []Missing
	for i := range t.groups {
		g := &t.groups[i]
		epoch := Period{g.Begin, g.End}
		if g.End != endOfTime {
			epoch.End += slack
		}
		epoch.Begin -= slack
		if !epoch.Touches(period) {
			continue
		}
		need := Witnesses(g.Replicas.Len(), g.Quorum)
		common := Period{max(epoch.Begin, period.Begin), min(epoch.End, period.End)}
		have := 0
		var silent []Store
		for r := range g.Replicas.Len() {
			if st := g.Replicas.At(r); answered(st, common) {
				have++
			} else {
				silent = append(silent, st)
			}
		}
		if have < need {
			missing = append(missing, Missing{slices.Clone(g.slots), common, need, have, silent})
		}
	}
	return missing
}

// Stores are all stores that may hold a sample of the period, in the order of
// their numbers: a read asks every one of them.
func (t *Table) Stores(period Period, slack int64) []Store {
	var out []Store
	for i := range t.groups {
		g := &t.groups[i]
		if (Period{g.Begin - slack, min(g.End, endOfTime-slack) + slack}).Touches(period) {
			out = g.Replicas.Append(out)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

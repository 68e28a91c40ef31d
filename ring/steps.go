package ring

// NextSteps leads from the table towards the target: one step for each settled
// slot that differs, adding, replacing or removing one replica. A slot without
// any replica has nothing to lose and gets its target at once. Survivors keep
// their order. The quorum follows with the step, or by a step of its own; a
// higher one waits until the slot has as many replicas, where it will have, so
// that growing refuses no write.
func NextSteps(t *Table, target []Set, quorum int) []Step {
	var steps []Step
	for i, want := range target[:min(len(t.slots), len(target))] {
		s := &t.slots[i]
		if s.Replicas.Same(want) && s.Quorum == quorum || !t.Settled(i) {
			continue
		}
		next := Step{Slot: i, Replicas: toward(s.Replicas, want), Quorum: quorum, Base: s.Changed}
		if quorum > next.Replicas.Len() && quorum <= want.Len() {
			next.Quorum = s.Quorum
		}
		steps = append(steps, next)
	}
	return steps
}

// toward is one replica's change from now to target. It adds before it replaces
// and replaces before it removes: a slot is never left shorter than it must be.
func toward(now, target Set) Set {
	if now.Len() == 0 {
		return target
	}
	var gone, come Store
	for i := range now.n {
		if st := now.stores[i]; gone == 0 && !target.Has(st) {
			gone = st
		}
	}
	for i := range target.n {
		if st := target.stores[i]; come == 0 && !now.Has(st) {
			come = st
		}
	}
	switch {
	case come == 0:
		return now.Without(gone)
	case gone == 0 || now.Len() < target.Len():
		return now.With(come)
	default:
		return now.Replace(gone, come)
	}
}

// StepsLeft counts the steps from the table to the target: one for each replica
// that comes, goes or is replaced, and one where only the quorum is another.
func StepsLeft(t *Table, target []Set, quorum int) int {
	n := 0
	for i, want := range target[:min(len(t.slots), len(target))] {
		s := &t.slots[i]
		if d := s.Replicas.distance(want); d > 0 {
			n += d
		} else if s.Quorum != quorum {
			n++
		}
	}
	return n
}

// HeldAt counts the slots that each store held at revision rev, as far as the
// table remembers.
func (t *Table) HeldAt(rev uint64) map[Store]int {
	held := map[Store]int{}
	count := func(s Set) {
		for i := range s.Len() {
			held[s.At(i)]++
		}
	}
	for i := range t.slots {
		if t.slots[i].Changed <= rev {
			count(t.slots[i].Replicas)
		}
	}
	for _, e := range t.past {
		if e.From <= rev && rev < e.To {
			count(e.Replicas)
		}
	}
	return held
}

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

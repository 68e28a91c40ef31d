package ring

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// stories are all histories of so many changes from a slot with rf replicas,
// among n nodes. Nodes that no change has named yet are interchangeable, so only
// the first of them is taken.
func stories(n, rf, quorum, changes int, forced, quorums bool) []story {
	first := story{quorum: quorum}
	for i := range rf {
		first.set = first.set.With(Store(i + 1))
	}
	var out []story
	var grow func(s story, set Set, quorum int, named Set)
	grow = func(s story, set Set, quorum int, named Set) {
		out = append(out, s)
		if len(s.changes) == changes {
			return
		}
		then := func(c change, by Set) {
			next := story{s.set, s.quorum, append(slices.Clone(s.changes), c)}
			grow(next, c.set, c.quorum, by)
		}
		var gone Set // the number of a lost store is never used again
		for _, c := range s.changes {
			gone = gone.With(c.lost)
		}
		pick := func(inside bool, by Set) (stores []Store) {
			fresh := false
			for st := Store(1); int(st) <= n; st++ {
				if set.Has(st) == inside && !gone.Has(st) && (by.Has(st) || !fresh) {
					stores = append(stores, st)
					fresh = fresh || !by.Has(st)
				}
			}
			return stores
		}
		for _, from := range pick(true, named) {
			by := named.With(from)
			if set.Len() > 1 {
				then(change{set.Without(from), quorum, 0}, by)
				if forced {
					then(change{set.Without(from), quorum, from}, by)
				}
			}
			for _, to := range pick(false, by) {
				then(change{set.Replace(from, to), quorum, 0}, by.With(to))
				if forced {
					then(change{set.Replace(from, to), quorum, from}, by.With(to))
				}
			}
		}
		if set.Len() < rf {
			for _, to := range pick(false, named) {
				then(change{set.With(to), quorum, 0}, named.With(to))
			}
		}
		for q := 1; quorums && q <= set.Len(); q++ {
			if q != quorum {
				then(change{set, q, 0}, named)
			}
		}
	}
	grow(first, first.set, quorum, Set{})
	// A story that goes on contains the shorter one.
	return slices.DeleteFunc(out, func(s story) bool { return len(s.changes) < changes })
}

// bound is one part of the exhaustive exploration.
type bound struct {
	nodes, rf, quorum, changes int
	forced, quorums, every     bool
}

func (b bound) String() string {
	return fmt.Sprintf("nodes=%d rf=%d q=%d changes=%d forced=%t quorums=%t every=%t",
		b.nodes, b.rf, b.quorum, b.changes, b.forced, b.quorums, b.every)
}

func TestNoAcknowledgedSampleIsMissed(t *testing.T) {
	bounds := []bound{
		{3, 1, 1, 3, true, false, true},
		{3, 2, 1, 3, true, false, false},
		{4, 2, 1, 2, true, true, true},
		{4, 2, 2, 3, false, false, false},
		{4, 3, 2, 2, true, true, false},
		{4, 3, 2, 3, false, false, false},
		{5, 3, 2, 2, true, false, false},
		{4, 3, 3, 2, true, false, false},
		{4, 3, 1, 2, true, false, false},
	}
	if os.Getenv("MUSTER_MODEL") == "long" {
		bounds = []bound{
			{3, 1, 1, 3, true, true, true},
			{4, 2, 1, 3, true, true, true},
			{4, 2, 2, 3, true, true, true},
			{5, 3, 1, 3, true, false, false},
			{5, 3, 2, 3, true, false, false},
			{5, 3, 3, 3, true, false, false},
			{4, 3, 2, 3, true, true, false},
			{5, 3, 2, 2, true, true, true},
		}
	}
	for _, b := range bounds {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel()
			states := 0
			all := stories(b.nodes, b.rf, b.quorum, b.changes, b.forced, b.quorums)
			for _, s := range all {
				m := model{rules: realRules(), everyRevision: b.every}
				n, err := m.check(s)
				if err != nil {
					t.Fatal(err)
				}
				states += n
			}
			if len(all) == 0 || states < 100 {
				t.Fatalf("%d stories, %d states: this test explores nothing", len(all), states)
			}
			t.Logf("%d stories, %d states", len(all), states)
		})
	}
}

// mutant is one rule made wrong; want is part of what the model must find.
type mutant struct {
	name   string
	mutate func(r *rules)
	lax    bool
	want   string
}

func mutants() []mutant {
	const (
		missed  = "calls itself complete"
		reached = "none of which held it when the epoch closed"
	)
	return []mutant{
		{"a fence that ignores Changed", func(r *rules) {
			r.fence = func(h Holding, c Claim, slot int) Verdict {
				if v := h.Judge(c); v != Pass || h.Admits(slot, h.Revision) {
					return v
				}
				return Stale
			}
		}, true, reached},
		{"the same, seen at the fence", func(r *rules) {
			r.fence = func(h Holding, c Claim, slot int) Verdict {
				if v := h.Judge(c); v != Pass || h.Admits(slot, h.Revision) {
					return v
				}
				return Stale
			}
		}, false, "which changed"},
		{"a fence that does not wait", func(r *rules) {
			fence := r.fence
			r.fence = func(h Holding, c Claim, slot int) Verdict {
				c.Need = 0
				return fence(h, c, slot)
			}
		}, false, "which changed"},
		{"a fence that refuses whatever was seen before its own revision", func(r *rules) {
			fence := r.fence
			r.fence = func(h Holding, c Claim, slot int) Verdict {
				if v := fence(h, c, slot); v != Pass || h.Revision <= c.Seen {
					return v
				}
				return Stale
			}
		}, false, "which did not change"},
		{"a closing that needs one announcement less", func(r *rules) {
			r.closable = func(e Epoch, announced func(Store) uint64, lost func(Store) bool) bool {
				for i := range e.Replicas.Len() {
					spare := e.Replicas.At(i)
					if e.Closable(func(st Store) uint64 {
						if st == spare {
							return e.To
						}
						return announced(st)
					}, lost) {
						return true
					}
				}
				return false
			}
		}, false, reached},
		{"a closing that counts lost stores", func(r *rules) {
			r.closable = func(e Epoch, announced func(Store) uint64, lost func(Store) bool) bool {
				return e.Closable(func(st Store) uint64 {
					if lost(st) {
						return e.To
					}
					return announced(st)
				}, func(Store) bool { return false })
			}
		}, false, reached},
		{"an announcement of the revision before the change", func(r *rules) {
			r.announce = func(seen, oldest uint64) uint64 { return min(seen, oldest) + 1 }
			r.left = nil
		}, false, reached},
		{"an announcement that does not wait for shares in flight", func(r *rules) {
			r.announce = func(seen, _ uint64) uint64 { return seen }
			r.left = nil
		}, false, reached},
		{"a store that lets go when the epoch is closed, by whomever", func(r *rules) {
			r.left = func(t *Table, st Store, _ uint64) bool { return t.LeftBy(st, ^uint64(0)).Has(0) }
		}, false, "lets the slot go"},
		{"a completeness that needs one witness less", func(r *rules) {
			r.complete = func(t *Table, at Period, answered func(Store, Period) bool) bool {
				return !slices.ContainsFunc(t.Complete(at, 0, answered), func(m Missing) bool { return m.Have+1 < m.Need })
			}
		}, false, missed},
		{"a completeness that forgets the past", func(r *rules) {
			r.complete = func(t *Table, at Period, answered func(Store, Period) bool) bool {
				now, err := New(slices.Clone(t.slots), nil)
				return err == nil && len(now.Complete(at, 0, answered)) == 0
			}
		}, false, missed},
		{"a completeness for which an epoch ends with the change, not with the closing", func(r *rules) {
			r.complete = func(t *Table, at Period, answered func(Store, Period) bool) bool {
				past := slices.Clone(t.past)
				for i := range past {
					past[i].Closed, past[i].ClosedAt = past[i].To, past[i].End
				}
				cut, err := New(t.slots, past)
				return err == nil && len(cut.Complete(at, 0, answered)) == 0
			}
		}, false, missed},
		{"a read by a table that was not confirmed", func(r *rules) {
			r.reader = func(tables []*Table) *Table { return tables[max(0, len(tables)-2)] }
		}, false, missed},
	}
}

func TestTheModelFindsEveryMutant(t *testing.T) {
	for _, mu := range mutants() {
		t.Run(mu.name, func(t *testing.T) {
			t.Parallel()
			r := realRules()
			mu.mutate(&r)
			found := map[string]error{}
			for _, b := range []bound{{4, 3, 2, 1, false, false, true}, {3, 2, 1, 1, false, false, true}, {4, 3, 2, 2, true, false, false}} {
				for _, s := range stories(b.nodes, b.rf, b.quorum, b.changes, b.forced, b.quorums) {
					m := model{rules: r, everyRevision: b.every, lax: mu.lax}
					if _, err := m.check(s); err != nil {
						if strings.Contains(err.Error(), mu.want) {
							t.Log(err)
							return
						}
						found[s.String()] = err
					}
				}
			}
			t.Errorf("not found; instead: %v", found)
		})
	}
}

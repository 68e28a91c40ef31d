package ring

import (
	"fmt"
	"testing"
)

func TestJudge(t *testing.T) {
	holds := Holding{Self: 1, Revision: 50, Incarnation: 30, Ring: 7, Routed: 40, Table: oneSlot(t, SetOf(1, 2), 1)}
	good := Claim{Store: 1, Incarnation: 30, Ring: 7, Seen: 45, Need: 40}
	for _, c := range []struct {
		name string
		with func(*Holding, *Claim)
		want Verdict
	}{
		{"as it is", func(*Holding, *Claim) {}, Pass},
		{"needs what is to come", func(_ *Holding, c *Claim) { c.Need, c.Seen = 51, 60 }, Behind},
		{"behind comes before stale", func(_ *Holding, c *Claim) { c.Need, c.Incarnation = 51, 51 }, Behind},
		{"a sender far ahead whose slots are old", func(_ *Holding, c *Claim) { c.Seen = 900 }, Pass},
		{"another store", func(_ *Holding, c *Claim) { c.Store = 2 }, Stale},
		{"another incarnation", func(_ *Holding, c *Claim) { c.Incarnation = 29 }, Stale},
		{"a tenant that is gone", func(h *Holding, c *Claim) { h.Incarnation, c.Incarnation = 0, 0 }, Stale},
		{"another ring", func(_ *Holding, c *Claim) { c.Ring = 8 }, Stale},
		{"no ring", func(h *Holding, c *Claim) { h.Ring, c.Ring = 0, 0 }, Stale},
		{"a route newer than the sender's view", func(h *Holding, _ *Claim) { h.Routed = 46 }, Stale},
	} {
		h, claim := holds, good
		c.with(&h, &claim)
		if got := h.Judge(claim); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestAdmits(t *testing.T) {
	tab := oneSlot(t, SetOf(1, 2), 1) // changed at 10
	for _, c := range []struct {
		self Store
		slot int
		seen uint64
		want bool
	}{
		{1, 0, 10, true},
		{1, 0, 99, true},
		{1, 0, 9, false},
		{3, 0, 10, false},
		{1, 1, 10, false},
		{1, -1, 10, false},
	} {
		if got := (Holding{Self: c.self, Table: tab}).Admits(c.slot, c.seen); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
	if got := tab.Need(3, 0); got != 10 {
		t.Errorf("need %d", got)
	}
	if got := tab.Need(30, 0); got != 30 {
		t.Errorf("need %d", got)
	}
}

func TestQuorums(t *testing.T) {
	for _, c := range []struct{ rf, majority, one, all int }{
		{1, 1, 1, 1}, {2, 1, 1, 2}, {3, 2, 1, 3}, {4, 3, 1, 4}, {5, 3, 1, 5},
	} {
		if Majority.Quorum(c.rf) != c.majority || One.Quorum(c.rf) != c.one || All.Quorum(c.rf) != c.all {
			t.Errorf("rf %d: %d %d %d", c.rf, Majority.Quorum(c.rf), One.Quorum(c.rf), All.Quorum(c.rf))
		}
	}
	for _, m := range []Mode{Majority, One, All} {
		if got, err := ParseMode(m.String()); err != nil || got != m {
			t.Errorf("%v reads back as %v, %v", m, got, err)
		}
	}
	if _, err := ParseMode("most"); err == nil {
		t.Error("a word that is no mode is read")
	}
}

func TestSet(t *testing.T) {
	s := SetOf(3, 0, 1, 3, 2)
	if got := fmt.Sprint(s.Append(nil)); got != "[3 1 2]" {
		t.Errorf("set %s", got)
	}
	if s.Replace(1, 9) != SetOf(3, 9, 2) || s.Replace(1, 2) != s || s.Replace(7, 9) != s {
		t.Error("replacing")
	}
	if s.Without(3) != SetOf(1, 2) || s.Without(7) != s {
		t.Error("taking away")
	}
	if !s.Same(SetOf(1, 2, 3)) || s.Same(SetOf(1, 2)) || s.Same(SetOf(1, 2, 4)) {
		t.Error("comparing")
	}
	if full := SetOf(1, 2, 3, 4, 5, 6); full.Len() != MaxReplicas || full.Has(6) {
		t.Error("a sixth replica has room")
	}
}

// Placement is a promise across versions: these numbers must never change.
func TestKeysStayWhereTheyAre(t *testing.T) {
	for _, c := range []struct {
		tenant string
		labels uint64
		slot   int
	}{
		{"tenant-a", 1, goldenSlots[0]},
		{"tenant-a", 2, goldenSlots[1]},
		{"tenant-b", 1, goldenSlots[2]},
		{"", 0, goldenSlots[3]},
	} {
		if got := KeyOf(TenantHash(c.tenant), c.labels).Slot(4096); got != c.slot {
			t.Errorf("%q %d: slot %d, want %d", c.tenant, c.labels, got, c.slot)
		}
	}
}

var goldenSlots = [4]int{2172, 1476, 1870, 1940}

func TestKeysSpreadEvenly(t *testing.T) {
	const slots, each = 64, 1000
	var count [slots]int
	tenant := TenantHash("tenant-a")
	for i := range uint64(slots * each) {
		count[KeyOf(tenant, i).Slot(slots)]++
	}
	for s, n := range count {
		if n < each*8/10 || n > each*12/10 {
			t.Errorf("slot %d has %d keys of %d", s, n, each)
		}
	}
}

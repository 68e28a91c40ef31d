package robust

import (
	"strings"
	"testing"
	"time"
)

func sec(n int) time.Duration { return time.Duration(n) * time.Second }

// TestBadHistoriesAreFound gives both judges histories made by hand.
func TestBadHistoriesAreFound(t *testing.T) {
	put := func(value int64, version uint64, call, end int) Op {
		return Op{Tenant: "t", Kind: Put, Expect: Expectation{Any: true}, Value: value, Version: version, Revision: version, Call: sec(call), Return: sec(end)}
	}
	read := func(value int64, version, revision uint64, call, end int) Op {
		return Op{Tenant: "t", Kind: Read, Value: value, Version: version, Revision: revision, Call: sec(call), Return: sec(end)}
	}
	lost := func(op Op) Op {
		op.Outcome, op.Version, op.Revision = Unknown, 0, 0
		return op
	}
	expecting := func(op Op, value int64, version uint64) Op {
		op.Expect = Expectation{Value: value, Version: version}
		return op
	}
	conflict := func(op Op) Op {
		op.Outcome, op.Version, op.Revision = Conflict, 0, 0
		return op
	}
	gone := func(revision uint64, call, end int) Op {
		return Op{Tenant: "t", Kind: Delete, Expect: Expectation{Any: true}, Revision: revision, Call: sec(call), Return: sec(end)}
	}
	for _, c := range []struct {
		name string
		ops  []Op
		// Which of the judges must find it; neither: it is a good history.
		model, revisions bool
	}{
		{"one after the other", []Op{put(1, 10, 0, 1), read(1, 10, 10, 2, 3), put(2, 11, 4, 5), read(2, 11, 12, 6, 7)}, false, false},
		{"a read beside a write may see it or not", []Op{put(1, 10, 0, 1), put(2, 11, 2, 9), read(1, 10, 10, 3, 4), read(2, 11, 11, 5, 6)}, false, false},
		{"a lost answer may mean a change", []Op{put(1, 10, 0, 1), lost(put(2, 0, 2, 3)), read(1, 10, 10, 4, 5), read(2, 12, 12, 6, 7)}, false, false},
		{"or never", []Op{put(1, 10, 0, 1), lost(put(2, 0, 2, 3)), read(1, 10, 20, 4, 5)}, false, false},
		{"a conflict with a change of unknown outcome", []Op{put(1, 10, 0, 1), lost(put(2, 0, 2, 3)), conflict(expecting(put(3, 0, 4, 5), 1, 10)), read(2, 12, 13, 6, 7)}, false, false},
		{"deleted and made again", []Op{put(1, 10, 0, 1), gone(11, 2, 3), read(0, 0, 11, 4, 5), put(2, 12, 6, 7)}, false, false},
		{"gone by a deletion of unknown outcome", []Op{put(1, 10, 0, 1), lost(gone(0, 2, 3)), read(0, 0, 12, 4, 5)}, false, false},

		{"an acknowledged change is lost", []Op{put(1, 10, 0, 1), put(2, 11, 2, 3), read(1, 10, 12, 4, 5)}, true, true},
		{"a stale read", []Op{put(1, 10, 0, 1), put(2, 11, 2, 3), read(1, 10, 10, 4, 5)}, true, true},
		{"a read goes backwards", []Op{put(1, 10, 0, 1), put(2, 11, 2, 9), read(2, 11, 11, 3, 4), read(1, 10, 10, 5, 6)}, true, true},
		{"two changes of one version both hold", []Op{put(1, 10, 0, 1), expecting(put(2, 11, 2, 3), 1, 10), expecting(put(3, 12, 4, 5), 1, 10)}, true, false},
		{"a conflict without a reason", []Op{put(1, 10, 0, 1), conflict(expecting(put(2, 0, 2, 3), 1, 10))}, true, false},
		{"a change is made twice", []Op{lost(put(1, 0, 0, 1)), read(1, 10, 10, 2, 3), put(2, 11, 4, 5), read(1, 12, 12, 6, 7)}, true, true},
		{"what was not done shows", []Op{put(1, 10, 0, 1), read(7, 11, 11, 2, 3)}, true, true},
		{"a deleted tenant comes back", []Op{put(1, 10, 0, 1), gone(11, 2, 3), read(1, 10, 12, 4, 5)}, true, true},
		{"a tenant vanishes", []Op{put(1, 10, 0, 1), read(0, 0, 12, 4, 5)}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if found := linearizable(c.ops, time.Minute, ""); (len(found) > 0) != c.model {
				t.Errorf("the model finds %q", found)
			}
			if found := revisionsHold(c.ops); (len(found) > 0) != c.revisions {
				t.Errorf("the revisions tell %q", found)
			}
		})
	}
}

// TestOrderIsKeptBetweenTenants: what a model of single tenants cannot see.
func TestOrderIsKeptBetweenTenants(t *testing.T) {
	ops := []Op{
		{Tenant: "a", Kind: Put, Expect: Expectation{Any: true}, Value: 1, Version: 10, Revision: 10, Call: sec(0), Return: sec(1)},
		{Tenant: "b", Kind: Put, Expect: Expectation{Any: true}, Value: 2, Version: 11, Revision: 11, Call: sec(0), Return: sec(1)},
		{Tenant: "a", Kind: Read, Value: 1, Version: 10, Revision: 10, Call: sec(2), Return: sec(3)},
	}
	if found := linearizable(ops, time.Minute, ""); len(found) > 0 {
		t.Errorf("each tenant by itself is right: %q", found)
	}
	found := revisionsHold(ops)
	if len(found) != 1 || !strings.Contains(found[0], "began after") {
		t.Errorf("found %q, want that the read is older than what was answered", found)
	}
}

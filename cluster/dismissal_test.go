package cluster

import (
	"strings"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// shown is what the node of that name shows with its store and key.
func (h *story) shown(name, store string) credential {
	add := joining(name, store, false)
	return credential{
		name: name, incarnation: h.state.Member(name).GetIncarnation(), keyHash: add.GetMember().GetKeyHash(),
		store: add.GetStoreId(), cluster: h.state.Cluster().GetIncarnation(),
	}
}

// TestWhoIsOutIsToldWhy, and who is not out hears nothing, also from a state that
// lags behind.
func TestWhoIsOutIsToldWhy(t *testing.T) {
	h := created(t, 1, 4)
	before := h.state
	n1, n2, n3, n4 := h.shown("n1", "n1/a"), h.shown("n2", "n2/a"), h.shown("n3", "n3/a"), h.shown("n4", "n4/a")
	h.do(&clusterpb.RemoveMember{Name: "n2", Force: true})
	removed := h.state
	h.replace("n3")
	new3 := h.shown("n3", "n3/b")
	h.join("n5")
	n5 := h.shown("n5", "n5/a")
	replaced := h.state
	h.do(nodeToken("n2-again", h.now+hour))
	again := joining("n2", "n2/c", false)
	again.TokenId = "n2-again"
	h.do(again)
	h.do(&clusterpb.ActivateMember{Name: "n2"})
	readmitted := h.state
	h.do(&clusterpb.RecoverCluster{Node: "n1", Known: h.rev})
	recovered := h.state
	stranger := credential{name: "x", incarnation: n4.incarnation, cluster: 1}

	for _, c := range []struct {
		what string
		by   *State
		who  credential
		kind clusterpb.Dismissal_Kind
		says string
	}{
		{"a member", before, n2, 0, ""},
		{"a removed one", removed, n2, clusterpb.Dismissal_REMOVED, "n2 was removed from cluster test by force at revision"},
		{"the others", removed, n3, 0, ""},
		{"one that is still there", replaced, n1, 0, ""},
		{"an old directory", replaced, n3, clusterpb.Dismissal_REPLACED, "this data directory of n3 was replaced by another in cluster test at revision"},
		{"the one in its place", replaced, new3, 0, ""},
		{"the one in its place, by a state that lags", removed, new3, 0, ""},
		{"a newcomer, by a state that lags", removed, n5, 0, ""},
		{"a removed one whose name is there again", readmitted, n2, clusterpb.Dismissal_REMOVED, "n2 was removed from cluster test at revision"},
		{"a name that nobody remembers", removed, stranger, clusterpb.Dismissal_UNKNOWN, "x is no member of cluster test at revision"},
		{"who was left behind", recovered, n4, clusterpb.Dismissal_RECOVERED, "cluster test was recovered by force without n4: it is incarnation 2"},
		{"who recovered it", recovered, n1, 0, ""},
		{"nobody, before there is a state", EmptyState(), n1, 0, ""},
	} {
		d := c.by.dismissal(c.who)
		e := &DismissedError{Dismissal: d}
		switch {
		case d.GetKind() != c.kind:
			t.Errorf("%s: %v, want %v", c.what, d, c.kind)
		case d != nil && (!strings.HasPrefix(e.Error(), c.says) || e.Next() == ""):
			t.Errorf("%s: %q, want %q", c.what, e, c.says)
		case c.kind == clusterpb.Dismissal_REMOVED && !strings.HasSuffix(e.Error(), "Z, by alice"):
			t.Errorf("%s: %q does not say when and by whom", c.what, e)
		}
	}
}

package cluster

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// credential is what a node shows of itself: who its certificate says it is, its
// data directory, and the cluster's incarnation in its state, 0 while it has none.
type credential struct {
	name        string
	incarnation uint64
	keyHash     []byte
	store       []byte
	cluster     uint64
}

// dismissal is why a node that was a member takes no part any more; nil where it
// does, or where this state cannot tell. It judges by what no later state takes
// back: a state that lags dismisses nobody who will be a member.
func (s *State) dismissal(c credential) *clusterpb.Dismissal {
	if s.cluster == nil || c.incarnation > s.revision {
		return nil
	}
	m, st, removed := s.Member(c.name), s.StoreByID(c.store), s.Removed(c.name)
	current := m.GetIncarnation() == c.incarnation
	d := &clusterpb.Dismissal{Node: c.name, Cluster: s.cluster.GetName()}
	switch {
	case current && st.GetLost() != 0:
		return ofStore(d, clusterpb.Dismissal_REPLACED, st)
	case m != nil && current && bytes.Equal(m.GetKeyHash(), c.keyHash):
		return nil
	case c.cluster != 0 && c.cluster < s.cluster.GetIncarnation():
		d.Kind, d.ClusterIncarnation = clusterpb.Dismissal_RECOVERED, s.cluster.GetIncarnation()
	case m != nil && current:
		return nil // with another key: it is the one that will replace this one
	case removed != nil && c.incarnation <= removed.GetIncarnation():
		d.Kind, d.Forced, d.Actor = clusterpb.Dismissal_REMOVED, removed.GetForced(), removed.GetActor()
		d.Revision, d.TimeMs = removed.GetRevision(), removed.GetTimeMs()
	case st.GetLost() != 0:
		return ofStore(d, clusterpb.Dismissal_REMOVED, st)
	default:
		d.Kind, d.Revision = clusterpb.Dismissal_UNKNOWN, s.revision
	}
	return d
}

// ofStore fills in when and by whom the store was given up.
func ofStore(d *clusterpb.Dismissal, kind clusterpb.Dismissal_Kind, st *clusterpb.Store) *clusterpb.Dismissal {
	d.Kind, d.Revision, d.TimeMs, d.Actor = kind, st.GetLost(), st.GetLostTimeMs(), st.GetLostActor()
	return d
}

// DismissedError says that this node was a member and takes no part any more. It
// acknowledges nothing, changes nothing, and calls nobody.
type DismissedError struct {
	Dismissal *clusterpb.Dismissal
	// By is the member that said so; this node itself where its own state does.
	By string
}

func (e *DismissedError) Error() string {
	d := e.Dismissal
	var what string
	switch d.GetKind() {
	case clusterpb.Dismissal_REMOVED:
		what = d.GetNode() + " was removed from cluster " + d.GetCluster()
		if d.GetForced() {
			what += " by force"
		}
	case clusterpb.Dismissal_REPLACED:
		what = "this data directory of " + d.GetNode() + " was replaced by another in cluster " + d.GetCluster()
	case clusterpb.Dismissal_RECOVERED:
		what = fmt.Sprintf("cluster %s was recovered by force without %s: it is incarnation %d, and this node has the state of an older one",
			d.GetCluster(), d.GetNode(), d.GetClusterIncarnation())
	default:
		what = d.GetNode() + " is no member of cluster " + d.GetCluster()
	}
	return what + circumstances(d)
}

// circumstances are the revision, the time and who did it, as far as known.
func circumstances(d *clusterpb.Dismissal) string {
	var b strings.Builder
	if d.GetRevision() != 0 {
		fmt.Fprintf(&b, " at revision %d", d.GetRevision())
	}
	if d.GetTimeMs() != 0 {
		fmt.Fprintf(&b, " on %s", time.UnixMilli(d.GetTimeMs()).UTC().Format(time.RFC3339))
	}
	if d.GetActor() != "" {
		fmt.Fprintf(&b, ", by %s", d.GetActor())
	}
	return b.String()
}

// Since is when it happened; zero: nobody remembers.
func (e *DismissedError) Since() time.Time {
	if e.Dismissal.GetTimeMs() == 0 {
		return time.Time{}
	}
	return time.UnixMilli(e.Dismissal.GetTimeMs())
}

// Next is what brings the machine back.
func (e *DismissedError) Next() string {
	if e.Dismissal.GetKind() == clusterpb.Dismissal_RECOVERED {
		return "`muster cluster join --reset-control-state --token T HOST:PORT` on this node; its samples are kept"
	}
	return "stop this server, move its data directory away (its samples stay in it), start it again, then `muster cluster join --token T HOST:PORT` on it; `muster token create --role node` on a member makes T"
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// The cluster versions that this software can speak. The cluster speaks one of
// them: the state has its number, and it rises once every member can speak the
// newer one. What a version brings, a command, a field that apply fills in, is
// not used before: so nodes of two releases apply one log to one state, with
// one hash.
const (
	oldestVersion = 1
	newestVersion = 2
)

// ErrVersion means that a log, a snapshot or a node is of a cluster version
// that the other side does not speak.
var ErrVersion = errors.New("cluster version not spoken here")

// Feature is what a cluster can do from a cluster version on: its number.
type Feature uint32

// The features, by the cluster version that brings them.
const (
	// AllSamples are frames between members of other kinds of sample than floats.
	AllSamples Feature = 2
	// Relabelling are tenants' rules, and a label that splits requests: an older node
	// would store what it should drop, or under another tenant.
	Relabelling Feature = 2
	// Exemplars are frames of exemplars and metadata, and the reads of them.
	Exemplars Feature = 2
)

// Version is the cluster version; it never falls.
func (s *State) Version() uint32 { return max(s.cluster.GetVersion(), 1) }

// Supports says whether all members understand the feature.
func (s *State) Supports(f Feature) bool { return s.Version() >= uint32(f) }

// versions is the range of cluster versions that a node speaks.
type versions struct{ oldest, newest uint32 }

// spoken is the range that somebody names; one who names none speaks the first.
func spoken(oldest, newest uint32) versions {
	if newest == 0 {
		return versions{1, 1}
	}
	return versions{max(oldest, 1), newest}
}

func (v versions) Speaks(version uint32) bool { return v.oldest <= version && version <= v.newest }

func (v versions) String() string {
	if v.oldest == v.newest {
		return fmt.Sprint(v.oldest)
	}
	return fmt.Sprintf("%d to %d", v.oldest, v.newest)
}

// check is an error where the state is of a version that is not spoken here.
func (v versions) check(st *State) error {
	if v.Speaks(st.Version()) {
		return nil
	}
	return fmt.Errorf("the control state is of cluster version %d, this software speaks %s: %w: start a release that does", st.Version(), v, ErrVersion)
}

// understands is an error where the command is not one of this version.
func (v versions) understands(cmd *clusterpb.Command) error {
	if to := cmd.GetRaiseVersion().GetVersion(); to > v.newest {
		return fmt.Errorf("the cluster is raised to cluster version %d, this software speaks %s: %w", to, v, ErrVersion)
	}
	if to := cmd.GetInit().GetClusterVersion(); to > v.newest {
		return fmt.Errorf("the cluster is created with cluster version %d, this software speaks %s: %w", to, v, ErrVersion)
	}
	if hasUnknown(cmd.ProtoReflect()) {
		return fmt.Errorf("a change that this software does not know, it speaks cluster version %s: %w", v, ErrVersion)
	}
	return nil
}

// hasUnknown says whether a message came with a field that this software does
// not have.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil || fd.IsMap():
		case fd.IsList():
			for i := range v.List().Len() {
				found = found || hasUnknown(v.List().Get(i).Message())
			}
		default:
			found = hasUnknown(v.Message())
		}
		return !found
	})
	return found
}

// raiseVersion makes the cluster speak a newer version.
func (e *edit) raiseVersion(c *clusterpb.RaiseVersion) (uint64, *clusterpb.Refusal) {
	from := e.next.Version()
	if c.GetVersion() <= from {
		return 0, invalid("version", "the cluster speaks version %d already: its version never falls", from)
	}
	e.setCluster(func(cl *clusterpb.Cluster) { cl.Version = c.GetVersion() })
	e.changed.Settings = true
	e.note("cluster version raised", fmt.Sprint(c.GetVersion()), fmt.Sprintf("from %d: every member speaks it", from))
	return e.rev, nil
}

// common is the newest version that every member speaks, by reports that are
// fresh; 0 while somebody is not heard.
func (n *Node) common(now time.Time) uint32 {
	newest := n.fsm.speaks.newest
	for _, m := range n.State().Members() {
		c, ok := n.health.Of(m)
		if !ok || now.Sub(c.heard) > n.cfg.Timing.Fresh {
			return 0
		}
		newest = min(newest, spoken(c.report.GetClusterVersionMin(), c.report.GetClusterVersionMax()).newest)
	}
	return newest
}

// upgrade raises the cluster version once all members have spoken a newer one
// for a while: there is no way back, and a node that was started by mistake
// should have time to be stopped.
func (n *Node) upgrade(ctx context.Context, e *engine) error {
	now := time.Now()
	to := n.common(now)
	if to <= n.State().Version() {
		n.planned.Spoken(0, now)
		return nil
	}
	if now.Sub(n.planned.Spoken(to, now)) < n.cfg.Timing.Upgrade {
		return nil
	}
	if err := n.commit(ctx, e, &clusterpb.Command{Change: &clusterpb.Command_RaiseVersion{RaiseVersion: &clusterpb.RaiseVersion{Version: to}}}); err != nil {
		return fmt.Errorf("raise the cluster version to %d: %w", to, err)
	}
	n.log.Info("cluster version raised", "version", to)
	return nil
}

// misspoken refuses a joining node that does not speak the cluster's version.
func (n *Node) misspoken(r *clusterpb.JoinRequest) *clusterpb.Refusal {
	st, theirs := n.State(), spoken(r.GetClusterVersionMin(), r.GetClusterVersionMax())
	if theirs.Speaks(st.Version()) {
		return nil
	}
	what := "newer"
	if theirs.newest > st.Version() {
		what = "older"
	}
	return unsafe("version", "node %s (muster %s) speaks cluster version %s, this cluster speaks %d: start it with %s software; %s runs muster %s",
		quote(r.GetName()), quote(r.GetVersion()), theirs, st.Version(), what, n.cfg.Name, n.cfg.Version)
}

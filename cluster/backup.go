package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// WriteSnapshot writes an archive of the newest state; of the state that this
// node has, if local is set: that needs no leader, and the header says so.
func (n *Node) WriteSnapshot(ctx context.Context, w io.Writer, local bool) (ArchiveHeader, error) {
	e := n.engine.Load()
	if e == nil {
		return ArchiveHeader{}, n.outside()
	}
	if !local {
		ctx, cancel := n.bounded(ctx)
		defer cancel()
		if _, err := n.Barrier(ctx); err != nil {
			return ArchiveHeader{}, err
		}
	}
	return n.State().WriteArchive(w, ArchiveHeader{
		Index: e.raft.AppliedIndex(), Term: e.raft.CurrentTerm(), Time: time.Now(),
		Version: n.cfg.Version, Node: n.cfg.Name, Local: local,
	})
}

// RestoreRequest is what `snapshot restore` asks for.
type RestoreRequest struct {
	Archive *Archive
	// Prune deletes the tenants and rings that the archive does not know, and
	// the tenants' samples with them.
	Prune bool
	// Confirm is this cluster's name, for an archive of another cluster.
	Confirm string
	DryRun  bool
	// Actor and Source are for the events.
	Actor, Source string
}

// RestoreResult is what was changed, or would be.
type RestoreResult struct {
	Difference *Difference
	// Answer is nil where nothing was to be done.
	Answer *clusterpb.ProposeResponse
}

// restoreTries is how often a restore is planned: others may change what it
// would.
const restoreTries = 3

// Restore puts the tenants, the rings' definitions, the settings and people's
// tokens of an archive back, in one change. It wraps ErrNoLeader and
// ErrUnknownOutcome like Propose; a *RefusedError says why nothing was changed.
func (n *Node) Restore(ctx context.Context, r RestoreRequest) (*RestoreResult, error) {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	for try := 1; ; try++ {
		if _, err := n.Barrier(ctx); err != nil {
			return nil, err
		}
		st := n.State()
		if refusal := mayRestore(st, r); refusal != nil {
			return nil, &RefusedError{refusal}
		}
		now := time.Now().UnixMilli()
		diff := Compare(st, r.Archive.State, r.Prune, now)
		result := &RestoreResult{Difference: diff}
		if diff.Empty() {
			return result, nil
		}
		cmd := &clusterpb.Command{
			Actor: r.Actor, Source: r.Source, TimeMs: now,
			Change: &clusterpb.Command_RestoreState{RestoreState: diff.command(r.Archive.Header)},
		}
		answer, err := n.restoreOnce(ctx, st, cmd, r.DryRun)
		if err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
		refusal := answer.GetRefusal()
		if refusal.GetKind() == clusterpb.Refusal_CONFLICT_VERSION && try < restoreTries {
			continue
		}
		if refusal != nil {
			return nil, &RefusedError{refusal}
		}
		result.Answer = answer
		return result, nil
	}
}

func (n *Node) restoreOnce(ctx context.Context, st *State, cmd *clusterpb.Command, dry bool) (*clusterpb.ProposeResponse, error) {
	if _, err := EncodeCommand(cmd); errors.Is(err, ErrCommandTooLarge) {
		return nil, err
	}
	if !dry {
		return n.Propose(ctx, cmd)
	}
	cmd = proto.CloneOf(cmd)
	st.Place(cmd)
	_, res := st.Apply(st.Revision()+1, cmd)
	return &clusterpb.ProposeResponse{Revision: st.Revision(), Refusal: res.Refusal}, nil
}

// mayRestore refuses another cluster's archive that was not asked for by name.
func mayRestore(st *State, r RestoreRequest) *clusterpb.Refusal {
	c, h := st.Cluster(), r.Archive.Header
	switch {
	case c == nil:
		return notFound("%s", ErrNoCluster.Error())
	case r.Confirm != "" && r.Confirm != c.GetName():
		return invalid("confirm", "this is the cluster %s, not %s", quote(c.GetName()), quote(r.Confirm))
	case h.ID != c.GetId() && r.Confirm == "":
		return unsafe("confirm", "the snapshot is of cluster %s (%s), this is %s (%s): restore it into this one with --confirm %s",
			h.Cluster, h.ID, c.GetName(), c.GetId(), c.GetName())
	}
	return nil
}

package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/muster-metrics/muster/cluster"
)

const (
	// maxSnapshot bounds an archive that is sent here, in bytes: ten times that of
	// 100,000 tenants.
	maxSnapshot = 1 << 30
	// snapshotType is the media type of an archive.
	snapshotType = "application/vnd.muster.snapshot"
)

// getSnapshot sends an archive of the control state: of the newest one, or with
// `?consistency=local` of the one that this node has, for which it asks nobody.
func (a *api) getSnapshot(w http.ResponseWriter, r *http.Request) {
	local, err := isLocal(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ReadTimeout)
	defer cancel()
	out := &late{ResponseWriter: w}
	w.Header().Set("Cache-Control", "no-store")
	if _, err := a.node.WriteSnapshot(ctx, out, local); err != nil {
		if out.begun {
			a.log.Warn("snapshot not sent whole", "err", err) // its reader finds the checksum missing
			return
		}
		a.fail(w, r, err)
	}
}

// late sets the headers of an archive with its first byte: until then the
// answer may be an error.
type late struct {
	http.ResponseWriter
	begun bool
}

func (l *late) Write(b []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.Header().Set("Content-Type", snapshotType)
	}
	return l.ResponseWriter.Write(b)
}

// restored is the answer to a restore.
type restored struct {
	Snapshot cluster.ArchiveHeader `json:"snapshot"`
	Changes  []cluster.Differing   `json:"changes"`
	Notes    []string              `json:"notes"`
	outcome
}

// postSnapshot puts back what the archive in the body holds: tenants, rings'
// definitions, settings, people's tokens. `?prune=true` deletes what it does not
// know; `?confirm=NAME` takes another cluster's; `?dry_run=true` only tells.
func (a *api) postSnapshot(w http.ResponseWriter, r *http.Request) {
	req, err := a.restoreRequest(w, r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ChangeTimeout)
	defer cancel()
	res, err := a.node.Restore(ctx, req)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	out := restored{
		Snapshot: req.Archive.Header,
		Changes:  append([]cluster.Differing{}, res.Difference.Objects...),
		Notes:    append([]string{}, res.Difference.Notes...),
		outcome:  outcome{Revision: a.node.State().Revision(), Applied: []string{}, Pending: []string{}, DryRun: req.DryRun},
	}
	if res.Answer != nil {
		out.Revision = res.Answer.GetRevision()
		out.Applied = append(out.Applied, res.Answer.GetApplied()...)
		out.Pending = append(out.Pending, res.Answer.GetPending()...)
	}
	w.Header().Set("Muster-Revision", strconv.FormatUint(out.Revision, 10))
	send(w, http.StatusOK, out)
}

func (a *api) restoreRequest(w http.ResponseWriter, r *http.Request) (cluster.RestoreRequest, error) {
	dry, err := isDryRun(r)
	if err != nil {
		return cluster.RestoreRequest{}, err
	}
	prune, err := flagOf(r, "prune")
	if err != nil {
		return cluster.RestoreRequest{}, err
	}
	archive, err := archiveIn(w, r)
	if err != nil {
		return cluster.RestoreRequest{}, err
	}
	c := callerOf(r)
	return cluster.RestoreRequest{
		Archive: archive, Prune: prune, Confirm: r.URL.Query().Get("confirm"), DryRun: dry, Actor: c.actor, Source: c.source,
	}, nil
}

// archiveIn reads the archive that is the request's body.
func archiveIn(w http.ResponseWriter, r *http.Request) (*cluster.Archive, error) {
	archive, err := cluster.ReadArchive(http.MaxBytesReader(w, r.Body, maxSnapshot))
	if err == nil || errors.Is(err, cluster.ErrArchive) || errors.As(err, new(*http.MaxBytesError)) {
		return archive, err
	}
	return nil, bad("", "%v", err)
}

// flagOf is a yes or no of the query; absent: no.
func flagOf(r *http.Request, name string) (bool, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		return false, bad(name, "%s %q: want true or false", name, v)
	}
	return on, nil
}

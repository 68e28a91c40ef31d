package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// standing is whether this node still takes part, kept in raft/dismissed.json: a
// node that was told so once stays out when it starts where it reaches nobody.
type standing struct {
	path string

	mu  sync.Mutex // of the file
	out atomic.Pointer[DismissedError]
}

// note is the file's form.
type note struct {
	Kind               string    `json:"kind"`
	Node               string    `json:"node"`
	Cluster            string    `json:"cluster"`
	Revision           uint64    `json:"revision,omitempty"`
	Time               time.Time `json:"time,omitzero"`
	Actor              string    `json:"actor,omitempty"`
	Forced             bool      `json:"forced,omitempty"`
	ClusterIncarnation uint64    `json:"cluster_incarnation,omitempty"`
	ToldBy             string    `json:"told_by"`
}

// Load reads the file. Without one the node takes part.
func (s *standing) Load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var n note
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		return fmt.Errorf("read whether this node was removed: %s: %w", s.path, err)
	}
	d := &clusterpb.Dismissal{
		Kind: clusterpb.Dismissal_Kind(clusterpb.Dismissal_Kind_value[n.Kind]), Node: n.Node, Cluster: n.Cluster,
		Revision: n.Revision, Actor: n.Actor, Forced: n.Forced, ClusterIncarnation: n.ClusterIncarnation,
	}
	if !n.Time.IsZero() {
		d.TimeMs = n.Time.UnixMilli()
	}
	s.out.Store(&DismissedError{d, n.ToldBy})
	return nil
}

// Keep takes the first dismissal and says whether it is that. The error is of
// the file; the node is out all the same.
func (s *standing) Keep(e *DismissedError) (first bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.out.CompareAndSwap(nil, e) {
		return false, nil
	}
	d := e.Dismissal
	n := note{
		Kind: d.GetKind().String(), Node: d.GetNode(), Cluster: d.GetCluster(), Revision: d.GetRevision(), Actor: d.GetActor(),
		Forced: d.GetForced(), ClusterIncarnation: d.GetClusterIncarnation(), ToldBy: e.By, Time: e.Since().UTC(),
	}
	text, err := json.MarshalIndent(n, "", "  ")
	if err == nil {
		err = replaceFile(s.path, append(text, '\n'))
	}
	return true, err
}

// Forget lets the node take part: it has joined anew.
func (s *standing) Forget() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Store(nil)
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Standing is nil while this node takes part in its cluster, or belongs to none;
// else a *DismissedError: it was removed, replaced, or left behind by a
// recovery, and was told so. It stays so over restarts.
func (n *Node) Standing() error {
	if e := n.standing.out.Load(); e != nil {
		return e
	}
	return nil
}

// dismissed takes this node out: from now on it acknowledges nothing.
func (n *Node) dismissed(d *clusterpb.Dismissal, by string) {
	e := &DismissedError{d, by}
	first, err := n.standing.Keep(e)
	if err != nil {
		n.log.Error("that this node takes no part any more is not kept: after a restart it has to hear it again", "err", err)
	}
	if !first {
		return
	}
	n.log.Error("this node takes no part any more: "+e.Error(), "told_by", by, "next", e.Next())
	n.cfg.Door.Recheck()
}

// judgeSelf looks whether the state that this node has itself dismisses it.
func (n *Node) judgeSelf(st *State) {
	creds := n.credentials()
	if creds == nil {
		return
	}
	d := st.dismissal(credential{
		name: n.cfg.Name, incarnation: creds.Identity.Incarnation, keyHash: creds.KeyHash(), store: n.cfg.StoreID[:],
		cluster: st.Cluster().GetIncarnation(),
	})
	if d != nil {
		n.dismissed(d, n.cfg.Name)
	}
}

package admin

import (
	"context"
	"net/http"
	"strconv"

	"github.com/muster-metrics/muster/cluster"
)

// object is something to show.
type object struct {
	body    any
	version uint64 // also its ETag; 0: it has none
}

// read answers from one state: the newest, or with `?consistency=local` the one
// that this node has.
func (a *api) read(show func(*http.Request, *cluster.State) (object, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st, err := a.stateFor(r)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		o, err := show(r, st)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		a.stamp(w, r, st)
		if o.version != 0 {
			w.Header().Set("ETag", etag(o.version))
		}
		send(w, http.StatusOK, o.body)
	})
}

// stateFor is the state that a request shall be answered from.
func (a *api) stateFor(r *http.Request) (*cluster.State, error) {
	local, err := isLocal(r)
	if err != nil {
		return nil, err
	}
	if !local {
		ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ReadTimeout)
		defer cancel()
		if _, err := a.node.Barrier(ctx); err != nil {
			return nil, err
		}
	}
	st := a.node.State()
	if st.Cluster() == nil {
		return nil, cluster.ErrNoCluster
	}
	return st, nil
}

func isLocal(r *http.Request) (bool, error) {
	switch c := r.URL.Query().Get("consistency"); c {
	case "", "linearizable":
		return false, nil
	case "local":
		return true, nil
	default:
		return false, bad("consistency", "consistency %q: want linearizable or local", c)
	}
}

// stamp says how old the answer may be: its revision and, where it was not
// asked of the leader, how many milliseconds ago this node heard from it (-1:
// not since it started).
func (a *api) stamp(w http.ResponseWriter, r *http.Request, st *cluster.State) {
	w.Header().Set("Muster-Revision", strconv.FormatUint(st.Revision(), 10))
	if local, _ := isLocal(r); local {
		w.Header().Set("Muster-Last-Contact", strconv.FormatInt(a.lastContact(), 10))
	}
}

// lastContact is the age, in milliseconds, of what the leader last told this
// node, which includes that it heard from it.
func (a *api) lastContact() int64 {
	for _, h := range a.node.Health() {
		if h.GetReport().GetNode() == a.cfg.Name {
			return h.GetLastContactMs()
		}
	}
	return -1
}

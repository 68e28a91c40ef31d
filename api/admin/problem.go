package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// problem is an answer that is not 2xx.
type problem struct {
	code    int
	version uint64 // of Current
	unknown bool   // whether the change was made

	Message string   `json:"error"`
	Field   string   `json:"field,omitempty"`
	Node    string   `json:"node,omitempty"`   // who answers
	Voters  []string `json:"voters,omitzero"`  // no leader: who could elect one
	Missing []string `json:"missing,omitzero"` // … and who of them is not heard
	Since   string   `json:"since,omitempty"`  // RFC 3339: since when there is none
	// Unreachable are the missing voters, Needed and Reachable the counts.
	Unreachable []unreachable `json:"unreachable,omitempty"`
	Needed      int           `json:"needed,omitempty"`
	Reachable   int           `json:"reachable,omitempty"`
	// Serving is the revision that samples are written and read by meanwhile.
	Serving uint64 `json:"serving_revision,omitempty"`
	Next    string `json:"next,omitempty"`    // what to do
	Current any    `json:"current,omitempty"` // 412: the object as it is
	// RequestID is what to repeat the request with, where nobody knows what
	// became of it.
	RequestID string `json:"request_id,omitempty"`
}

// unreachable is a voter that is not heard.
type unreachable struct {
	Node    string `json:"node"`
	Address string `json:"address,omitempty"`
	Since   string `json:"since,omitempty"` // RFC 3339: when it was last heard; empty: never
	Error   string `json:"error,omitempty"` // why it could not be reached since
}

func (p *problem) Error() string { return p.Message }

func bad(field, format string, args ...any) *problem {
	return &problem{code: http.StatusBadRequest, Field: field, Message: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) *problem {
	return &problem{code: http.StatusNotFound, Message: fmt.Sprintf(format, args...)}
}

// problemOf is the one place that turns an error into a status.
func problemOf(err error) *problem {
	var p *problem
	var refused *cluster.RefusedError
	var leaderless *cluster.NoLeaderError
	var dismissed *cluster.DismissedError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &refused):
		return refusal(refused.Refusal)
	case errors.As(err, &leaderless):
		return noLeader(leaderless)
	case errors.As(err, &dismissed):
		return outsider(dismissed)
	case errors.Is(err, cluster.ErrNoCluster):
		return &problem{
			code: http.StatusServiceUnavailable, Message: err.Error(),
			Next: "run `muster cluster init` here, or `muster cluster join`",
		}
	case errors.Is(err, cluster.ErrArchive):
		return bad("", "%v", err)
	case errors.As(err, new(*http.MaxBytesError)):
		return &problem{code: http.StatusRequestEntityTooLarge, Message: err.Error()}
	case errors.Is(err, cluster.ErrCommandTooLarge):
		return &problem{code: http.StatusRequestEntityTooLarge, Message: err.Error()}
	case errors.Is(err, pki.ErrToken):
		return bad("token", "%v", err) // it does not quote the token
	case errors.Is(err, cluster.ErrExists):
		return &problem{code: http.StatusConflict, Message: err.Error(), Next: "`muster cluster status` shows it"}
	case errors.Is(err, cluster.ErrUnknownOutcome):
		return &problem{
			code: http.StatusServiceUnavailable, Message: err.Error(),
			Next: "look whether it was made, then repeat it with If-Match",
		}
	case errors.Is(err, cluster.ErrNoLeader):
		return &problem{code: http.StatusServiceUnavailable, Message: err.Error(), Voters: []string{}, Missing: []string{}}
	case errors.Is(err, cluster.ErrNotLeader):
		return &problem{code: http.StatusConflict, Message: err.Error(), Next: "ask the node that leads"}
	case errors.Is(err, cluster.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &problem{code: http.StatusServiceUnavailable, Message: err.Error()}
	default:
		return &problem{code: http.StatusInternalServerError, Message: err.Error()}
	}
}

func noLeader(err *cluster.NoLeaderError) *problem {
	p := &problem{
		code: http.StatusServiceUnavailable, Message: err.Error(), Voters: []string{}, Missing: []string{},
		Next: err.Next(), Needed: err.Needed(), Serving: err.Revision,
	}
	for _, v := range err.Voters {
		p.Voters = append(p.Voters, v.Name)
		if !v.Missing {
			p.Reachable++
			continue
		}
		p.Missing = append(p.Missing, v.Name)
		p.Unreachable = append(p.Unreachable, unreachable{v.Name, v.Address, momentText(v.Since), v.Error})
	}
	p.Since = momentText(err.Since)
	return p
}

// outsider answers on a node that was removed.
func outsider(err *cluster.DismissedError) *problem {
	p := &problem{code: http.StatusForbidden, Message: err.Error(), Next: err.Next()}
	if since := err.Since(); !since.IsZero() {
		p.Since = since.UTC().Format(time.RFC3339)
	}
	return p
}

// momentText is RFC 3339; empty for no time.
func momentText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// refusal turns the state's no into a status.
func refusal(r *clusterpb.Refusal) *problem {
	code := http.StatusInternalServerError
	switch r.GetKind() {
	case clusterpb.Refusal_INVALID:
		code = http.StatusBadRequest
	case clusterpb.Refusal_CONFLICT_VERSION:
		code = http.StatusPreconditionFailed
	case clusterpb.Refusal_NOT_FOUND:
		code = http.StatusNotFound
	case clusterpb.Refusal_EXISTS, clusterpb.Refusal_UNSAFE, clusterpb.Refusal_LIMIT:
		code = http.StatusConflict
	case clusterpb.Refusal_DENIED, clusterpb.Refusal_DELETED:
		code = http.StatusForbidden
	case clusterpb.Refusal_NO_LEADER, clusterpb.Refusal_UNKNOWN_OUTCOME:
		code = http.StatusServiceUnavailable
	}
	return &problem{
		code: code, Message: r.GetMessage(), Field: r.GetField(),
		unknown: r.GetKind() == clusterpb.Refusal_UNKNOWN_OUTCOME,
	}
}

// fail answers with what went wrong.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := *problemOf(err)
	p.Node = a.cfg.Name
	if p.Next == "" {
		p.Next = nextOf(r, p.code, p.Current != nil)
	}
	if p.code >= http.StatusInternalServerError {
		a.log.Warn("admin request failed", "method", r.Method, "path", r.URL.Path, "status", p.code, "err", err)
	}
	if p.version != 0 {
		w.Header().Set("ETag", etag(p.version))
	}
	if p.code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	send(w, p.code, &p)
}

func send(w http.ResponseWriter, code int, body any) {
	text, err := json.Marshal(body)
	if err != nil { // an answer is plain values only; never in practice
		http.Error(w, "encode the answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // the client may be gone
}

func etag(version uint64) string { return strconv.Quote(strconv.FormatUint(version, 10)) }
